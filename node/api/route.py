"""One route of the client API as it is declared: what it takes, what it gives, who may ask.

The same declaration makes the aiohttp route (`endpoint`), the OpenAPI document (`openapi`) and the page
for people (`pages`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web

from events.log.log import Origin
from node.api.rate import Cost
from node.crypto.tokens import Claims

Query = TypeVar("Query")
Body = TypeVar("Body")

JSON_TYPE: Final = "application/json"

PATTERNS: Final[Mapping[str, str]] = {"address": "0x[0-9a-fA-F]{40}"}
"""What a path parameter of this name looks like; others are any one segment."""

_PARAMETER = re.compile(r"\{(\w+)\}")


class Auth(StrEnum):
    """Who may ask."""

    PUBLIC = "public"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


class Refused(msgspec.Struct, frozen=True):
    """An answer that says no (wire spec section 0.3); `code` is the HTTP status."""

    code: int
    message: str


class TokenRefusal(msgspec.Struct, frozen=True):
    """The answer to a request whose token or signature does not hold (wire spec sections 1.11 and 3.2)."""

    error: str


@dataclass(frozen=True, slots=True)
class Call(Generic[Query, Body]):
    """A request that passed its route's checks."""

    request: web.Request
    query: Query
    body: Body
    claims: Claims | None = None

    @property
    def address(self) -> str:
        """Address of the account that asks; only on routes with a token."""
        assert self.claims is not None
        return self.claims.address

    @property
    def origin(self) -> Origin:
        """Who the log names as the actor."""
        return Origin(actor=client(self.address))

    def path(self, name: str) -> str:
        """Return a path parameter, decoded."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with headers of its own."""

    value: object
    headers: Mapping[str, str]


Handler = Callable[[Call[Any, Any]], Awaitable[object]]
"""Returns the answer's value, a `Reply`, or a whole response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A declaration. `answer`, `body` are types that msgspec knows, `query` a struct of simple members.

    `refusals` are the statuses beside those that every route of its kind has. `other_content` has the type of
    the answer in other media types that a client may ask for. `body_bytes` is a limit other than the
    setting's. With `reads_body` the handler reads the body itself, and `body` only describes it.
    """

    method: str
    path: str
    summary: str
    tag: str
    handler: Handler
    answer: Any
    auth: Auth = Auth.PUBLIC
    query: type[msgspec.Struct] | None = None
    body: Any = None
    status: int = 200
    refusals: tuple[int, ...] = ()
    cost: Cost = Cost.ORDINARY
    aliases: tuple[str, ...] = ()
    content_type: str = JSON_TYPE
    other_content: Mapping[str, Any] = field(default_factory=dict)
    body_bytes: int = 0
    reads_body: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The path and its aliases."""
        return (self.path, *self.aliases)

    @property
    def parameters(self) -> list[str]:
        """Names of the path parameters."""
        return _PARAMETER.findall(self.path)

    @property
    def bare_refusals(self) -> tuple[int, ...]:
        """Statuses with which a token or a signature is refused, in a shape of its own (`TokenRefusal`)."""
        if self.auth is Auth.TOKEN:
            return (400, 401)
        return (400,) if self.reads_body else ()

    @property
    def statuses(self) -> list[int]:
        """Every status that the route may answer with, sorted."""
        own = {self.status, *self.refusals, 403, 429, 500, 503}
        if any(name in PATTERNS for name in self.parameters):
            own.add(404)
        if self.query is not None or self.body is not None:
            own.add(400)
        if self.body is not None:
            own |= {408, 413, 415}
        if self.auth is Auth.TOKEN:
            own |= {400, 401}
        return sorted(own)


def client(address: str) -> str:
    """Name of the actor behind what an account's client does."""
    return f"client/{address}"


def pattern(path: str) -> str:
    """Give a declared path the form of an aiohttp pattern."""
    return _PARAMETER.sub(_with_pattern, path)


def _with_pattern(found: re.Match[str]) -> str:
    name = found[1]
    return f"{{{name}:{PATTERNS[name]}}}" if name in PATTERNS else f"{{{name}}}"
