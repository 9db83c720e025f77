"""The OpenAPI 3.1 document of the client API, made from the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from node.api.route import JSON_TYPE, PATTERNS, Auth, Refused, Route, TokenRefusal
from node.core import SOFTWARE
from node.crypto.tokens import COOKIE

Json = dict[str, Any]

SECURITY: Final[Json] = {
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The client token as it is, or after `Bearer `.",
    },
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}

SYNC_NOTE: Final = (
    "Beside these routes the node speaks the CouchDB replication protocol at `/userdb-<hex of the address>`."
)


def document(routes: Sequence[Route], server_domain: str) -> Json:
    """Describe all routes."""
    schemas = _Schemas(routes)
    paths: Json = {}
    for route in routes:
        for number, path in enumerate(route.paths):
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, number, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Client API of the Mailio node {server_domain}",
            "version": SOFTWARE.partition("/")[2],
            "description": SYNC_NOTE,
        },
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": SECURITY},
    }


class _Schemas:
    """JSON schemas of every type that a route names."""

    def __init__(self, routes: Sequence[Route]) -> None:
        kinds = [Refused, TokenRefusal, *(kind for route in routes for kind in _kinds(route))]
        self._kinds = [kind for kind in kinds if kind is not None]
        self._schemas, self.components = msgspec.json.schema_components(
            self._kinds, ref_template="#/components/schemas/{name}"
        )

    def of(self, kind: Any) -> Json:
        """Return the schema of a type that the table of routes names."""
        return self._schemas[self._kinds.index(kind)]


def _kinds(route: Route) -> list[Any]:
    return [route.answer, route.body, *route.other_content.values()]


def _operation(route: Route, number: int, schemas: _Schemas) -> Json:
    operation: Json = {
        "summary": route.summary,
        "operationId": _identifier(route, number),
        "tags": [route.tag],
        "responses": {str(status): _response(route, status, schemas) for status in route.statuses},
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        content = {JSON_TYPE: {"schema": schemas.of(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.auth is Auth.TOKEN:
        operation["security"] = [{name: []} for name in SECURITY]
    return operation


def _identifier(route: Route, number: int) -> str:
    """Name an operation by its handler; an alias gets a number."""
    owner = type(getattr(route.handler, "__self__", route)).__name__.removesuffix("Routes")
    name = getattr(route.handler, "__name__", "answer")
    return f"{owner}.{name}" + (f".{number}" if number else "")


def _response(route: Route, status: int, schemas: _Schemas) -> Json:
    description = HTTPStatus(status).phrase
    if status == route.status:
        kinds = {route.content_type.partition(";")[0]: route.answer, **route.other_content}
        content = {name: {"schema": schemas.of(kind)} for name, kind in kinds.items()}
    else:
        content = {JSON_TYPE: {"schema": _refusal(route, status, schemas)}}
    return {"description": description, "content": content}


def _refusal(route: Route, status: int, schemas: _Schemas) -> Json:
    if status in route.bare_refusals:
        return {"anyOf": [schemas.of(Refused), schemas.of(TokenRefusal)]}
    return schemas.of(Refused)


def _text(name: str) -> Json:
    pattern = {"pattern": f"^{PATTERNS[name]}$"} if name in PATTERNS else {}
    return {"type": "string", **pattern}


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": _text(name)} for name in route.parameters
    ]
    fields = msgspec.structs.fields(route.query) if route.query is not None else ()
    return found + [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": msgspec.json.schema(field.type),
        }
        for field in fields
    ]
