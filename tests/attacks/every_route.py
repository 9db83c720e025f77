"""Every request that the HTTP door has a route for, made from its own tables: a new route is attacked by itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from node.api.route import Auth, Route
from node.sync.routes import ATTACHMENT, DATABASE, DOCUMENT, SPECIAL
from tests.integration.api.harness import PASSWORD, Answer, Node, User

PATH_VALUES = {
    "address": "0x" + "ab" * 20,
    "id": "some-id",
    "key": "ab" * 16 + "_20261128t120000",
    "nonce": "ab" * 32,
    "requestId": "some-id",
}
"""What stands in the place of a path parameter; a new one has to be named here."""


def path_of(route: Route, **values: str) -> str:
    """A path that leads to the route, with the parameters that it must have."""
    path = re.sub(r"\{(\w+)\}", lambda found: (PATH_VALUES | values)[found[1]], route.path)
    fields = msgspec.structs.fields(route.query) if route.query is not None else ()
    required = [f"{field.encode_name}=x" for field in fields if field.required]
    return path + ("?" + "&".join(required) if required else "")


def with_body(node: Node) -> list[Route]:
    """The API's routes that read a body."""
    return [route for route in node.routes if route.body is not None]


def with_token(node: Node) -> list[Route]:
    """The API's routes that are for one account."""
    return [route for route in node.routes if route.auth is Auth.TOKEN]


def sync_requests(document: str = "secret", attachment: str = "file") -> Iterator[tuple[str, str]]:
    """Method and path below a database of every call of the sync door."""
    calls = {"": DATABASE, f"/{document}": DOCUMENT, f"/{document}/{attachment}": ATTACHMENT}
    calls |= {f"/{name}": methods for name, methods in SPECIAL.items()}
    for path, methods in calls.items():
        tail = {"/_local": "/x", "/_index": "/_design/a/json/b"}.get(path, "")
        for method in methods:
            yield method, path + (tail if path == "/_local" or method == "DELETE" else "")
            if method == "GET":
                yield "HEAD", path + (tail if path == "/_local" else "")


SYNC_WITH_BODY = [(method, path) for method, path in sync_requests() if method in {"POST", "PUT"}]
"""Those that may read a body."""


def basic(user: User, password: str = PASSWORD) -> dict[str, str]:
    pair = f"{user.address}:{password}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def told(answer: Answer) -> tuple[int, bytes, Any]:
    """All that a client can tell of an answer, but for the time."""
    headers = sorted((name.lower(), text) for name, text in answer.headers.items() if name.lower() != "date")
    return answer.status, answer.body, headers
