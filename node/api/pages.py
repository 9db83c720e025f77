"""The pages that people see: what this node is, and its routes. Self-contained HTML, no scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from html import escape
from typing import Any, Final

from aiohttp import web

from node.api.route import JSON_TYPE, Auth, Call, Reply, Route
from node.core import SOFTWARE

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}h2{margin-top:2rem;text-transform:capitalize}"
    "table{border-collapse:collapse;width:100%}td{border-top:1px solid #ddd;padding:.3rem .6rem .3rem 0;"
    "vertical-align:top}code{font-size:.9em;overflow-wrap:anywhere}td:first-child code{overflow-wrap:normal}"
    "td:last-child{color:#555}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}a{color:#8bf}"
    "td{border-color:#333}td:last-child{color:#aaa}}"
)

Welcome = Callable[[web.Request], Awaitable[web.Response]]
"""CouchDB's answer at `/`."""


class Pages:
    """The pages of one node, made once from its table of routes."""

    def __init__(self, server_domain: str, welcome: Welcome) -> None:
        self._domain = server_domain
        self._welcome = welcome
        self._openapi = b""
        self._documentation = b""

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/",
                summary="What this node is; as JSON, CouchDB's welcome for replication clients",
                tag="documentation",
                handler=self.front,
                answer=str,
                content_type="text/html",
                other_content={JSON_TYPE: dict[str, Any]},
            ),
            Route(
                method="GET",
                path="/api/docs",
                summary="This list of routes for people",
                tag="documentation",
                handler=self.documentation,
                answer=str,
                content_type="text/html",
            ),
            Route(
                method="GET",
                path="/api/openapi.json",
                summary="All routes as an OpenAPI 3.1 document",
                tag="documentation",
                handler=self.openapi,
                answer=dict[str, Any],
            ),
        ]

    def describe(self, routes: Iterable[Route], openapi: bytes) -> None:
        """Take the finished table of routes, these pages' own included."""
        self._openapi = openapi
        self._documentation = _page(f"Client API of {self._domain}", _tables(list(routes)))

    async def front(self, call: Call[None, None]) -> Reply | web.Response:
        """Greet a browser with a page, anything else as CouchDB does."""
        if "text/html" not in call.request.headers.get("Accept", ""):
            return await self._welcome(call.request)
        return Reply(_page(f"Mailio node {self._domain}", _front(self._domain)), HEADERS)

    async def documentation(self, _: Call[None, None]) -> Reply:
        """Show the table of routes."""
        return Reply(self._documentation, HEADERS)

    async def openapi(self, _: Call[None, None]) -> bytes:
        """Return the document."""
        return self._openapi


def _front(domain: str) -> str:
    return (
        f"<p>This is <b>{escape(domain)}</b>, a Mailio node: it takes mail by SMTP and lets its users decide "
        "who may write to them.</p><p>It is a server for mail programs; there is nothing to log in to on "
        'this page. Developers find the <a href="/api/docs">list of routes</a>, the '
        '<a href="/api/openapi.json">OpenAPI document</a> and the '
        '<a href="/.well-known/did.json">DID document</a> of this server.</p>'
        f"<p><small>{escape(SOFTWARE)}</small></p>"
    )


def _tables(routes: list[Route]) -> str:
    tags = dict.fromkeys(route.tag for route in routes)
    parts = [
        f"<h2>{escape(tag)}</h2><table>{''.join(_row(route) for route in routes if route.tag == tag)}</table>"
        for tag in tags
    ]
    return (
        "<p>Routes marked “token” want the client token in the <code>Authorization</code> header or "
        'the cookie. Shapes: <a href="/api/openapi.json">OpenAPI document</a>.</p>' + "".join(parts)
    )


def _row(route: Route) -> str:
    who = "token" if route.auth is Auth.TOKEN else ""
    paths = "<br>".join(f"<code>{escape(path)}</code>" for path in route.paths)
    return (
        f"<tr><td><code>{route.method}</code></td><td>{paths}</td><td>{escape(route.summary)}</td>"
        f"<td>{who}</td></tr>"
    )


def _page(title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    ).encode()
