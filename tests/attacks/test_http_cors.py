"""Pages of other origins: every preflight and every call of a stranger's page is refused, on every route.

Allowed is the list of `http.origins` and nothing that looks like it; `*` is never said, and never with credentials.
"""

from __future__ import annotations

from node.crypto.tokens import COOKIE
from tests.attacks.conftest import ORIGIN
from tests.attacks.every_route import path_of, sync_requests
from tests.integration.api.harness import Node, User, database

STRANGERS = [
    "https://evil.example", "null", "", "http://mail.alpha.example", "https://mail.alpha.example.evil.example",
    "https://evil-mail.alpha.example", "https://mail.alpha.example:8443", "https://MAIL.alpha.example",
    "https://mail.alpha.example/", "https://mail.alpha.example\\@evil.example", "file://", "*",
    "https://mail.alpha.example, https://evil.example", "https://user@mail.alpha.example", "chrome-extension://x",
]  # fmt: skip


def targets(node: Node, user: User) -> list[tuple[str, str]]:
    api = [(route.method, path_of(route)) for route in node.routes]
    return api + [(method, f"/{database(user)}{path}") for method, path in sync_requests()]


async def test_every_route_tells_an_allowed_page_what_it_may(node: Node, alice: User) -> None:
    for method, path in targets(node, alice):
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method}
        answer = await node.call("OPTIONS", path, headers=asked)
        assert answer.status == 204, path
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert method in answer.headers["Access-Control-Allow-Methods"], path
        assert "*" not in answer.headers["Access-Control-Allow-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert not answer.body


async def test_no_route_answers_a_preflight_of_a_strangers_page(node: Node, alice: User) -> None:
    for origin in STRANGERS:
        every = 1 if origin in {"null", "https://evil.example"} else 9
        for method, path in targets(node, alice)[::every]:
            asked = {"Origin": origin, "Access-Control-Request-Method": method}
            answer = await node.call("OPTIONS", path, headers=asked)
            assert answer.status == 403, (origin, path)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


async def test_no_route_carries_out_what_a_strangers_page_asks_with_the_users_cookie(
    node: Node, alice: User
) -> None:
    before = node.core.log.head
    for origin in ("https://evil.example", "null"):
        headers = {"Origin": origin, "Cookie": f"{COOKIE}={alice.token}"}
        for method, path in targets(node, alice):
            body = {"docs": [{"_id": "planted"}]} if method in {"POST", "PUT"} else None
            answer = await node.call(method, path, body, headers=headers)
            assert answer.status == 403, (method, path)
            assert alice.email.encode() not in answer.body
    assert node.core.log.head == before
