"""What surrounds every route: rates, origins, bounds, headers, failures, the way into the sync door."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.errors import StorageUnavailable
from events.log.clock import VirtualClock
from node.crypto.tokens import COOKIE
from tests.integration.api.harness import PASSWORD, Node, User, database, running, settings_for

ME = "/api/v1/user/me"
ORIGIN = "https://mail.alpha.example"
HEALTH = "/api/healthcheck"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def slow(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Node]:
    """A node that grants 2 requests a second and 4 at once, behind a proxy on this machine."""
    settings = settings_for(
        tmp_path,
        requests_per_second=2.0,
        request_burst=4,
        trusted_proxies=("127.0.0.0/8",),
        origins=(ORIGIN,),
    )
    async with running(settings, clock) as node:
        yield node


async def statuses(node: Node, path: str, times: int, **headers: str) -> list[int]:
    return [(await node.get(path, **headers)).status for _ in range(times)]


# Rates


async def test_too_many_requests_are_told_when_to_come_back(slow: Node, clock: VirtualClock) -> None:
    assert await statuses(slow, HEALTH, 4) == [200] * 4
    answer = await slow.get(HEALTH)
    assert (answer.status, answer.json) == (429, {"code": 429, "message": "too many requests"})
    assert answer.headers["Retry-After"] == "1"
    clock.advance(500)
    assert await statuses(slow, HEALTH, 2) == [200, 429]


async def test_the_rate_belongs_to_the_client_that_the_proxy_names(slow: Node) -> None:
    assert await statuses(slow, HEALTH, 5, **{"X-Forwarded-For": "192.0.2.1"}) == [200] * 4 + [429]
    assert await statuses(slow, HEALTH, 1, **{"X-Forwarded-For": "192.0.2.2"}) == [200]


@pytest.mark.parametrize("header", ["User-Agent", "Accept-Language", "Referer", "X-Real-IP", "Cookie"])
async def test_no_header_of_the_clients_own_choice_gives_it_another_rate(slow: Node, header: str) -> None:
    found = [(await slow.get(HEALTH, **{header: f"a={number}"})).status for number in range(5)]
    assert found == [200] * 4 + [429]


async def test_an_entry_that_the_client_wrote_itself_gives_it_no_other_rate(slow: Node) -> None:
    found = [
        (await slow.get(HEALTH, **{"X-Forwarded-For": f"198.51.100.{number}, 192.0.2.1"})).status
        for number in range(5)
    ]
    assert found[-1] == 429


async def test_unknown_paths_and_methods_count_as_well(slow: Node) -> None:
    assert await statuses(slow, "/nothing/here", 4) == [404] * 4
    assert (await slow.call("PATCH", HEALTH)).status == 429


async def test_nonces_have_a_rate_of_their_own(slow: Node, clock: VirtualClock) -> None:
    assert await statuses(slow, "/api/v1/nonce", 11) == [200] * 10 + [429]
    assert (await slow.get(HEALTH)).status == 200
    clock.advance(1_000)
    assert await statuses(slow, "/api/v1/nonce", 2) == [200, 429]


async def test_asking_after_emails_is_slower_than_anything_else(slow: Node, clock: VirtualClock) -> None:
    path = "/api/v1/findaddress?email=a@alpha.example&emailHash=x"
    assert (await statuses(slow, path, 11))[-1] == 429
    clock.advance(1_000)
    assert await statuses(slow, path, 2) == [404, 429]


async def test_accounts_behind_one_address_have_a_rate_each(slow: Node) -> None:
    alice, bob = await slow.user("alice"), await slow.user("bob")
    found = [(await slow.get(ME, alice.token)).status for _ in range(5)]
    assert found == [200] * 4 + [429]
    assert (await slow.get(ME, bob.token)).status == 200
    assert (await slow.get(HEALTH)).status == 200


async def test_tokens_that_do_not_hold_count_against_the_address(slow: Node) -> None:
    found = [(await slow.get(ME, "a.b.c")).status for _ in range(5)]
    assert found == [401] * 4 + [429]


async def test_sync_requests_of_a_user_are_not_limited(slow: Node) -> None:
    alice = await slow.user("alice")
    assert await statuses(slow, f"/{database(alice)}", 20, **basic(alice)) == [200] * 20
    assert await statuses(slow, f"/{database(alice)}", 20, Authorization=alice.token) == [200] * 20


async def test_guessing_a_database_password_is_slowed_down(slow: Node, clock: VirtualClock) -> None:
    alice = await slow.user("alice")
    path = f"/{database(alice)}"
    assert await statuses(slow, path, 5, **basic(alice, "guess")) == [401] * 4 + [429]
    assert await statuses(slow, path, 1, **basic(alice)) == [429], "a guess over the rate is not even tried"
    elsewhere = basic(alice) | {"X-Forwarded-For": "192.0.2.9"}
    assert await statuses(slow, path, 1, **elsewhere) == [200], "nobody is locked out"
    tried, began = 4, clock.now()
    for _ in range(20):
        clock.advance(2_000)
        tried += (await statuses(slow, path, 4, **basic(alice, "guess"))).count(401)
    assert tried <= 10 + (clock.now() - began) / 5_000


async def test_guesses_at_one_account_do_not_hinder_another_behind_the_same_address(
    slow: Node, clock: VirtualClock
) -> None:
    alice, bob = await slow.user("alice"), await slow.user("bob")
    for _ in range(3):
        clock.advance(2_000)
        found = await statuses(slow, f"/{database(alice)}", 4, **basic(alice, "guess"))
    assert found == [401, 401, 429, 429]
    assert await statuses(slow, f"/{database(alice)}", 1, **basic(alice)) == [429]
    assert await statuses(slow, f"/{database(bob)}", 1, **basic(bob)) == [200]


# The way into the sync door


def basic(user: User, password: str = PASSWORD, name: str = "") -> dict[str, str]:
    text = f"{name or user.address}:{password}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def test_the_sync_door_takes_password_token_and_cookie(node: Node, alice: User) -> None:
    path = f"/{database(alice)}"
    for headers in (
        basic(alice),
        {"Authorization": alice.token},
        {"Authorization": f"Bearer {alice.token}"},
        {"Cookie": f"{COOKIE}={alice.token}"},
    ):
        assert (await node.get(path, **headers)).status == 200, headers


async def test_the_sync_door_shows_another_database_to_nobody(node: Node, alice: User, mallory: User) -> None:
    secret = await node.deliver(alice)
    for tail in ("", "/_all_docs", "/_changes", f"/{secret}"):
        there = await node.get(f"/{database(alice)}{tail}", **basic(mallory))
        nowhere = await node.get(f"/userdb-{'00' * 42}{tail}", **basic(mallory))
        assert there.status == nowhere.status == 403
        assert there.body == nowhere.body


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"alice:x").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"0x" + b"1" * 40 + b":x").decode(),
        "Basic " + base64.b64encode(b"0x" + b"1" * 40 + b":" + b"x" * 5_000).decode(),
        "Digest x",
    ],
)
async def test_a_malformed_or_unknown_login_reads_like_a_wrong_one(
    node: Node, alice: User, authorization: str
) -> None:
    answer = await node.get(f"/{database(alice)}", Authorization=authorization)
    assert answer.status == 401
    assert answer.json["error"] == "unauthorized"
    if authorization.startswith("Basic "):
        wrong = await node.get(f"/{database(alice)}", **basic(alice, "guess"))
        assert answer.body == wrong.body


# Origins


async def test_an_allowed_origin_may_read_with_credentials(slow: Node) -> None:
    answer = await slow.get(HEALTH, Origin=ORIGIN)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]


async def test_a_preflight_of_an_allowed_origin_is_answered(slow: Node) -> None:
    wanted = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    answer = await slow.call("OPTIONS", ME, headers=wanted)
    assert answer.status == 204
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://mail.alpha.example",
        "https://mail.alpha.example.evil.example",
        "https://MAIL.alpha.example",
        "https://mio.alpha.example",
        "null",
        "",
    ],
)
async def test_every_other_origin_is_refused_before_anything_happens(slow: Node, origin: str) -> None:
    alice = await slow.user("alice")
    cookie = f"{COOKIE}={alice.token}"
    answer = await slow.call("PUT", ME, {"displayName": "evil"}, headers={"Origin": origin, "Cookie": cookie})
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    preflight = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    assert (await slow.call("OPTIONS", ME, headers=preflight)).status == 403
    assert "displayName" not in (await slow.get(ME, alice.token)).json


async def test_the_nodes_own_pages_may_ask(slow: Node) -> None:
    own = f"http://{slow.http.host}:{slow.http.port}"
    assert (await slow.get(HEALTH, Origin=own)).status == 200


async def test_behind_tls_a_page_of_the_same_host_without_tls_may_not_ask(slow: Node) -> None:
    host = f"{slow.http.host}:{slow.http.port}"
    secure = {"X-Forwarded-Proto": "https"}
    assert (await slow.get(HEALTH, Origin=f"http://{host}", **secure)).status == 403
    assert (await slow.get(HEALTH, Origin=f"https://{host}", **secure)).status == 200
    for path in ("/_session", "/userdb-x"):
        assert (await slow.get(path, Origin=f"http://{host}", **secure)).status == 403
        assert (await slow.get(path, Origin=f"https://{host}", **secure)).status == 401


# Bounds and headers


async def test_a_body_above_the_limit_is_refused_declared_or_not(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, body_bytes=1_000)) as node:
        big = json.dumps({"nonce": "x" * 2_000}).encode()

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(big), 100):
                yield big[start : start + 100]

        for data in (big, chunks()):
            answer = await node.call("POST", "/api/v1/login", raw=data)  # type: ignore[arg-type]
            assert (answer.status, answer.json["message"]) == (413, "the body has 1000 bytes at most")


async def test_a_compressed_body_is_not_unpacked(node: Node) -> None:
    bomb = gzip.compress(b'{"nonce":"' + b"x" * 5_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with node.http.post("/api/v1/login", data=bomb, headers=headers) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"nonce":' + b'{"a":' * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000],
)
@pytest.mark.parametrize("path", ["/api/v1/login", "/api/v1/webauthn/login_verify"])
async def test_deep_json_is_refused(node: Node, path: str, body: bytes) -> None:
    assert (await node.call("POST", path, raw=body)).status in {400, 413}


async def test_small_values_without_number_are_refused_before_they_are_made(node: Node) -> None:
    alice = await node.user("alice")
    body = b'{"mime":[' + b"[]," * 1_000_000 + b"1]}"
    began = time.process_time()
    answer = await node.call("POST", "/api/v1/parsemime", raw=body, token=alice.token)
    assert (answer.status, answer.json["message"]) == (413, "the body has 100000 values at most")
    assert time.process_time() - began < 0.5


async def test_a_body_that_is_not_declared_json_is_refused(node: Node) -> None:
    """A form on any page may send these types without a preflight."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await node.call("POST", "/api/v1/login", raw=b"{}", headers={"Content-Type": kind})
        assert answer.status == 415


async def test_answers_carry_the_headers_that_keep_browsers_safe(node: Node, alice: User) -> None:
    for path in (HEALTH, "/nothing", "/", "/api/docs", "/metrics"):
        headers = (await node.get(path, Accept="text/html")).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]
    assert "default-src 'none'" in (await node.get("/api/docs")).headers["Content-Security-Policy"]


async def test_unknown_paths_and_methods_are_told_in_json(node: Node) -> None:
    answer = await node.get("/nothing/here")
    assert (answer.status, answer.json) == (404, {"code": 404, "message": "not found"})
    answer = await node.call("PATCH", HEALTH)
    assert (answer.status, answer.json) == (405, {"code": 405, "message": "method not allowed"})
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "target", ["/../etc/passwd", "/%2e%2e/etc/passwd", "/0x1/did.json", "/%00", "//x", "/api/../metrics"]
)
async def test_odd_paths_are_simply_not_found(node: Node, target: str) -> None:
    reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] == b"404"


async def test_malformed_requests_are_answered_and_do_not_fill_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    for request in (
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        writer.write(request + b"\r\n\r\n")
        assert (await reader.read()).split()[1] == b"400"
        writer.close()
    assert caplog.records == []


# Failures of the node's own


class Broken:
    """Stands in the place of the directory."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def did_document(self, _: str) -> Any:
        raise self.error


async def test_an_unforeseen_failure_says_nothing_but_that(
    node: Node, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    node.core.directory = Broken(RuntimeError("secret of the node"))  # type: ignore[assignment]
    answer = await node.get(f"/{alice.address}/did.json")
    assert (answer.status, answer.json) == (500, {"code": 500, "message": "internal error"})
    logged = "".join(capsys.readouterr())
    assert "secret of the node" in logged
    assert "/{address" in logged
    assert alice.address not in logged.partition("Traceback")[0]


async def test_a_storage_failure_is_temporary_and_only_the_operator_reads_why(
    node: Node, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    node.core.directory = Broken(StorageUnavailable("try later", "/var/secret"))  # type: ignore[assignment]
    answer = await node.get(f"/{alice.address}/did.json")
    assert (answer.status, answer.json) == (503, {"code": 503, "message": "try later"})
    assert answer.headers["Retry-After"]
    assert "/var/secret" in "".join(capsys.readouterr())


async def test_a_client_that_leaves_mid_request_leaves_nothing_open(node: Node) -> None:
    _, writer = await asyncio.open_connection(node.http.host, node.http.port)
    writer.write(b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    while not await _open_requests(node):
        pass
    writer.close()
    while await _open_requests(node):
        pass


async def _open_requests(node: Node) -> int:
    """Requests under way beside the one that asks."""
    text = (await node.get("/metrics")).body.decode()
    line = next(line for line in text.splitlines() if line.startswith("mailio_http_open "))
    return int(float(line.split()[1])) - 1
