"""Which web pages may call: those of the origins in `http.origins`, and the node's own (wire spec 7.3).

The reference server lets in every origin whose domain publishes a TXT record (section 10.3, S26). Here
the list is closed; any other page is refused before its request does anything, since it may carry the
user's cookie. The sync door keeps the same rule itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiohttp import web

from events.errors import Forbidden
from node.api.clients import Clients

METHODS: Final = "GET, POST, PUT, DELETE, OPTIONS, HEAD"
REQUEST_HEADERS: Final = "Accept, Authorization, Content-Length, Content-Type, Origin"
EXPOSED_HEADERS: Final = "Content-Length, Retry-After"

MAX_AGE_SECONDS: Final = "2592000"
"""Thirty days, as the reference server says; browsers cut it to some hours."""


class Cors:
    """Answers preflights, refuses strangers, and marks the answers that an allowed origin may read."""

    def __init__(self, origins: Collection[str], clients: Clients) -> None:
        self._origins = frozenset(origins)
        self._clients = clients

    def preflight(self, request: web.Request) -> web.Response | None:
        """Answer a preflight request (Fetch standard, section 4.8); None when it is none.

        Raises Forbidden for an origin that may not call.
        """
        self.require(request)
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": MAX_AGE_SECONDS,
        }
        return web.Response(status=204, headers=headers)

    def require(self, request: web.Request) -> None:
        """Raise Forbidden when a page of another origin asks."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins and not self._is_own(origin, request):
            raise Forbidden("this origin may not call", origin[:200])

    def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page of an allowed origin read the answer; caches keep answers to origins apart."""
        if not self._origins:
            return
        response.headers.setdefault("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in self._origins:
            response.headers.setdefault("Access-Control-Allow-Origin", origin)
            response.headers.setdefault("Access-Control-Allow-Credentials", "true")
            response.headers.setdefault("Access-Control-Expose-Headers", EXPOSED_HEADERS)

    def _is_own(self, origin: str, request: web.Request) -> bool:
        """Whether the page is of this host; where TLS is spoken, a page without it is not."""
        scheme, _, host = origin.partition("://")
        return host == request.host and (scheme == "https" or not self._clients.is_secure(request))
