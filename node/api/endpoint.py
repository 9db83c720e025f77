"""The way of one request through its route: rate, token, query, body, handler, answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import web

from node.api.authentication import Authentication
from node.api.clients import Clients
from node.api.rate import Limits
from node.api.request_data import read_body, read_query
from node.api.route import JSON_TYPE, Auth, Call, Reply, Route, pattern
from node.crypto.tokens import Claims


@dataclass(frozen=True, slots=True)
class Gate:
    """What every request passes. `body_bytes` bounds a body where the route says nothing else."""

    authentication: Authentication
    limits: Limits
    clients: Clients
    body_bytes: int


class Endpoint:
    """Serves one route."""

    def __init__(self, route: Route, gate: Gate) -> None:
        self._route = route
        self._gate = gate

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request. Raises the MailioErrors that the error middleware puts into words."""
        route = self._route
        claims = await self._admit(request)
        query = read_query(request, route.query) if route.query is not None else None
        body = None
        if route.body is not None and not route.reads_body:
            body = await read_body(request, route.body, route.body_bytes or self._gate.body_bytes)
        return self._response(await route.handler(Call(request, query, body, claims)))

    async def _admit(self, request: web.Request) -> Claims | None:
        """Count the request against its account, or against the client's address."""
        limits = self._gate.limits
        if self._route.auth is Auth.PUBLIC:
            limits.by_client[self._route.cost].take(self._gate.clients.key(request))
            return None
        claims = await self._gate.authentication.token(request)
        limits.by_account.take(claims.address)
        return claims

    def _response(self, value: object) -> web.StreamResponse:
        if isinstance(value, web.StreamResponse):
            return value
        reply = value if isinstance(value, Reply) else Reply(value, {})
        body = reply.value if isinstance(reply.value, bytes) else msgspec.json.encode(reply.value)
        headers = {**reply.headers, "Content-Type": self._content_type}
        return web.Response(body=body, status=self._route.status, headers=headers)

    @property
    def _content_type(self) -> str:
        declared = self._route.content_type
        return f"{declared}; charset=utf-8" if declared in {JSON_TYPE, "text/html"} else declared


def add_routes(app: web.Application, routes: Sequence[Route], gate: Gate) -> None:
    """Serve every declared route, aliases too."""
    for route in routes:
        handle = Endpoint(route, gate).handle
        for path in route.paths:
            app.router.add_route(route.method, pattern(path), handle)
            if route.method == "GET":
                app.router.add_route("HEAD", pattern(path), handle)
