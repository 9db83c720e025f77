"""The node's descriptions of itself: OpenAPI, the pages, the figures; and that they agree."""

from __future__ import annotations

import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from node.api.app import SYNC_PREFIX
from node.api.route import Auth, pattern
from node.settings import HttpSettings
from tests.integration.api.harness import Node, User, database, running, settings_for

METHODS = {"get", "put", "post", "delete"}


def served(app: web.Application) -> set[tuple[str, str]]:
    """What the application answers, apart from the sync door."""
    found = set()
    for route in app.router.routes():
        resource = route.resource
        assert resource is not None
        path = resource.canonical
        if route.method not in {"HEAD", "*"} and path not in {"/_session", "/_up"}:
            found.add((route.method, path))
    return found


async def test_the_document_names_every_route_and_no_other(node: Node) -> None:
    document = (await node.get("/api/openapi.json")).json
    described = {
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    }
    assert described == served(node.http.server.app)  # type: ignore[attr-defined]
    assert described == {(route.method, path) for route in node.routes for path in route.paths}


async def test_the_document_is_sound(node: Node) -> None:
    document = (await node.get("/api/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"]
    operations = [
        (path, operation) for path, methods in document["paths"].items() for operation in methods.values()
    ]
    identifiers = [operation["operationId"] for _, operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    for path, operation in operations:
        named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path
        assert operation["summary"]
        assert all(int(status) in range(200, 600) for status in operation["responses"])
        for scheme in operation.get("security", []):
            assert set(scheme) <= set(document["components"]["securitySchemes"])
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [one for item in value for one in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if "$ref" in value else []
    return own + _references(list(value.values()))


async def test_the_document_says_which_routes_want_a_token(node: Node) -> None:
    document = (await node.get("/api/openapi.json")).json
    for route in node.routes:
        operation = document["paths"][route.path][route.method.lower()]
        assert ("security" in operation) == (route.auth is Auth.TOKEN)
        assert ("requestBody" in operation) == (route.body is not None)


async def test_the_page_lists_every_route_and_loads_nothing(node: Node) -> None:
    page = (await node.get("/api/docs")).body.decode()
    for route in node.routes:
        for path in route.paths:
            assert f"<code>{path}</code>" in page
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", page)


class Tags(HTMLParser):
    """Whether every tag that needs an end has one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()


async def test_a_browser_sees_a_page_and_a_replicator_couchdbs_welcome(node: Node) -> None:
    page = await node.get("/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'href="/api/docs"' in page.body.decode()
    for text in (page.body.decode(), (await node.get("/api/docs")).body.decode()):
        tags = Tags()
        tags.feed(text)
        assert tags.open == []
    welcome = (await node.get("/", Accept="application/json")).json
    assert welcome["couchdb"] == "Welcome"
    assert re.fullmatch("[0-9a-f]{32}", welcome["uuid"])


async def test_the_name_of_the_node_stays_the_same_when_it_starts_again(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        async with running(settings_for(tmp_path)) as node:
            names.append((await node.get("/")).json["uuid"])
    assert names[0] == names[1]


# Figures


async def figures(node: Node) -> dict[str, float]:
    """Name with labels → value, read by Prometheus' own parser."""
    answer = await node.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_the_figures_tell_of_the_mail_that_went_through(node: Node, alice: User) -> None:
    before = await figures(node)
    await node.deliver(alice)
    after = await figures(node)
    assert after["mailio_log_position"] == node.core.log.head > before["mailio_log_position"]
    assert after["mailio_dispatcher_backlog"] == 0
    assert after["mailio_view_position view=userdb"] == node.core.log.head
    assert after["mailio_view_lag view=userdb"] == 0
    assert after["mailio_view_waiting view=userdb"] == 0
    reactions = "mailio_dispatcher_reactions_total"
    assert after[reactions] == node.core.dispatcher.reactions == before[reactions] + 1
    node.smtp.counters.refused["too-many"] += 3
    node.smtp.counters.accepted += 2
    after = await figures(node)
    assert after["mailio_smtp_refused_total reason=too-many"] == 3
    assert after["mailio_smtp_accepted_total"] == 2


async def test_requests_are_counted_by_route_never_by_path(node: Node, alice: User) -> None:
    for _ in range(2):
        await node.get(f"/{alice.address}/did.json")
    await node.get("/nothing/secret")
    await node.call("PROPFIND", "/nothing")
    await node.get(f"/{database(alice)}/secret")
    found = await figures(node)
    counted = {name: value for name, value in found.items() if name.startswith("mailio_http_requests")}
    route = pattern("/{address}/did.json").partition(":")[0]
    assert [value for name, value in counted.items() if f"route={route}" in name] == [2]
    assert "mailio_http_requests_total method=other route=none status=404" in counted
    text = "".join(found)
    assert "secret" not in text
    assert alice.address not in text
    assert SYNC_PREFIX + alice.address.encode().hex() not in text


async def test_figures_with_a_password_are_for_who_knows_it(tmp_path: Path) -> None:
    http = HttpSettings(metrics_password="grüß:gott")
    async with running(msgspec.structs.replace(settings_for(tmp_path), http=http)) as node:
        for shown in (None, "prometheus:wrong", "grüß:gott", ":", "no colon"):
            answer = await node.get("/metrics", **({} if shown is None else {"Authorization": basic(shown)}))
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert b"mailio_" not in answer.body
        answer = await node.get("/metrics", Authorization=basic("prometheus:grüß:gott"))
        assert b"mailio_log_position" in answer.body


def basic(pair: str) -> str:
    return f"Basic {b64encode(pair.encode()).decode()}"


async def test_without_the_setting_there_are_no_figures(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings_for(tmp_path), http=HttpSettings(metrics=False))
    async with running(settings) as node:
        assert (await node.get("/metrics")).status == 404
        assert "/metrics" not in (await node.get("/api/openapi.json")).json["paths"]
