"""What goes wrong, in words for the other side: one place for every route (wire spec section 0.3)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from events.errors import MailioError
from node.api.authentication import PasswordRequired, TokenRefused
from node.api.route import Refused, TokenRefusal
from node.mtp.envelope import InvalidEnvelope
from node.rate import TooManyRequests

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_SECONDS: Final = "5"
"""When to come back after 503: a backlog or a full queue takes some seconds to pass."""

BEGUN: Final = web.RequestKey("begun", bool)
"""Set once the head of an answer is sent: then nothing else can be said any more."""

_log = structlog.get_logger("http")

_TEXTS: Mapping[int, str] = {404: "not found", 405: "method not allowed", 413: "the body is too large"}


async def answered(request: web.Request, handler: Next) -> web.StreamResponse:
    """Let the handler answer; turn what it raises into an answer."""
    try:
        return await handler(request)
    except MailioError as error:
        _report(request, error)
        return refusal(error)
    except web.HTTPException as error:
        return _of_aiohttp(error)
    except Exception as error:
        if isinstance(error, ConnectionError) or BEGUN in request:
            raise
        _log.error("request failed", method=request.method, route=route_of(request), exc_info=error)
        return _answer(500, Refused(500, "internal error"))


def refusal(error: MailioError) -> web.Response:
    """Say no: the class's status, the public text, and when to come back."""
    if isinstance(error, TokenRefused):
        return _answer(error.status, TokenRefusal(error.public))
    if isinstance(error, InvalidEnvelope):
        return _answer(error.http, TokenRefusal(error.public))
    headers = {}
    if isinstance(error, PasswordRequired):
        headers["WWW-Authenticate"] = 'Basic realm="mailio"'
    elif isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after)
    elif error.http == 503:
        headers["Retry-After"] = RETRY_SECONDS
    return _answer(error.http, Refused(error.http, error.public), headers)


def is_own_fault(record: logging.LogRecord) -> bool:
    """Filter for aiohttp's logger: a stranger's malformed request, or body, is no error of the node.

    aiohttp answers it with 400 or hangs up, and would write a traceback for each.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def route_of(request: web.Request) -> str:
    """Name the route that matched, never the path: a stranger chose that."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _of_aiohttp(error: web.HTTPException) -> web.Response:
    """Give aiohttp's own refusals (no such path, no such method) the shape of all others."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    text = _TEXTS.get(error.status, error.reason)
    return _answer(error.status, Refused(error.status, text), headers)


def _answer(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        headers={**(headers or {}), "Content-Type": "application/json; charset=utf-8"},
    )


def _report(request: web.Request, error: MailioError) -> None:
    """Tell the operator what is theirs to mend; what clients do wrong is counted in the metrics."""
    if error.http >= 500:
        _log.warning("request refused", method=request.method, route=route_of(request), reason=str(error))
