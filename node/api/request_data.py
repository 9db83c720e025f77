"""From a request's query and body to the structs that its route declares.

Strict about types and sizes, lenient where Go is (wire spec section 0.1): member names in any case,
unknown members ignored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from events.errors import Fault, InvalidInput, LimitExceeded, MailioError
from node.strict_json import is_longer

BODY_SECONDS: Final = 60.0
"""How long a body may take to arrive: the largest of them at 2 Mbit/s."""

MAX_TOKENS: Final = 100_000
"""Values and names in one body; the largest, a message to fifty recipients, has some hundreds."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
"""A required text of a request; the longest that means anything, a Message-ID, has 998 characters."""


def _with_distinct_names(pairs: list[tuple[str, object]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise InvalidInput("invalid request: a name occurs twice in an object")


_distinct = json.JSONDecoder(object_pairs_hook=_with_distinct_names, parse_int=len, parse_float=len)
"""Only looks at names: of two members with one name msgspec takes the last, other programs the first."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class UnsupportedMediaType(MailioError):
    """The body is in a form that this route does not read."""

    fault = Fault.CLIENT
    http = 415


class TooSlow(MailioError):
    """The body did not arrive in time."""

    fault = Fault.CLIENT
    temporary = True
    http = 408


def read_query(request: web.Request, kind: type[msgspec.Struct]) -> Any:
    """Convert the query; a parameter that occurs twice counts once, the first time. Raises InvalidInput."""
    found = {name: request.query[name] for name in request.query}
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid query: {error}") from None


def _nobody(_: int) -> None:
    """Hear of nothing."""


async def read_body(request: web.Request, kind: Any, limit: int) -> Any:
    """Read and decode a JSON body. Raises InvalidInput, LimitExceeded, UnsupportedMediaType, TooSlow."""
    return decoded(await read_bytes(request, limit), kind)


async def read_bytes(request: web.Request, limit: int, grow: Callable[[int], None] = _nobody) -> bytes:
    """Read the body of a JSON request, `limit` bytes at most. Raises what `read_body` and `grow` raise.

    `grow` is told the size of each piece that comes.
    """
    if request.content_type not in {"application/json", "text/json", "application/octet-stream"}:
        raise UnsupportedMediaType("Content-Type must be application/json")
    return await read_file(request, limit, grow)


async def read_file(request: web.Request, limit: int, grow: Callable[[int], None] = _nobody) -> bytes:
    """Read a body of any type as `read_bytes` does."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding: only identity is read here")
    try:
        if request.content.is_eof():  # All of it came with the head: there is nothing to wait for.
            return await _bounded(request, limit, grow)
        async with asyncio.timeout(BODY_SECONDS):
            return await _bounded(request, limit, grow)
    except web.RequestPayloadError as error:
        raise InvalidInput("the body is not what its headers say", str(error)) from None
    except TimeoutError:
        raise TooSlow(f"the body must arrive within {BODY_SECONDS:.0f} seconds") from None


async def _bounded(request: web.Request, limit: int, grow: Callable[[int], None]) -> bytes:
    """Read the body while counting: what is too large is never held."""
    if (request.content_length or 0) > limit:
        raise LimitExceeded(f"the body has {limit} bytes at most")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        grow(len(chunk))
        if len(body) > limit:
            raise LimitExceeded(f"the body has {limit} bytes at most")
    return bytes(body)


def decoded(body: bytes, kind: Any) -> Any:
    """Decode JSON into the declared type.

    Raises LimitExceeded, and InvalidInput that says where it does not fit.
    """
    try:
        text = body.decode()
        if is_longer(text, MAX_TOKENS):
            raise LimitExceeded(f"the body has {MAX_TOKENS} values at most")
        _distinct.decode(text)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            body = _renamed(body, kind)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid request: {error}") from None
    except (msgspec.DecodeError, ValueError):
        raise InvalidInput("invalid request: not valid JSON") from None
    except RecursionError:
        raise InvalidInput("invalid request: nested too deep") from None


def _renamed(body: bytes, kind: type[msgspec.Struct]) -> bytes:
    """Write the members of the first level as the struct spells them, and drop all others."""
    known = {name.lower(): name for name in kind.__struct_encode_fields__}
    found: dict[str, msgspec.Raw] = {}
    for name, value in _members(body).items():
        own = known.get(name.lower())
        if own in found:
            raise InvalidInput(f"invalid request: `{own}` occurs twice")
        if own is not None:
            found[own] = value
    return msgspec.json.encode(found)
