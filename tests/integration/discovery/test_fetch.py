"""The guarded client against a DNS and an HTTPS server that mean harm."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from events.log.clock import VirtualClock
from node.discovery.answers import DnsUnavailable
from node.discovery.discovery import Discovery
from node.discovery.fetch import FetchFailed, GuardedClient, _Vetted
from node.discovery.limits import DiscoverySettings
from node.discovery.targets import FetchRefused, Refusal
from node.rate import TooManyRequests
from tests.integration.discovery.conftest import settings_for
from tests.servers.dns import DnsServer, Fault
from tests.servers.https import HttpsServer, https_server

HOST = "mio.beta.example"
HERE = f"{HOST}. 60 IN A 127.0.0.1\n"
LIMIT = 10_000


@pytest.fixture
async def https(tmp_path: Path) -> AsyncIterator[HttpsServer]:
    async with https_server(tmp_path, HOST) as running:
        yield running


@asynccontextmanager
async def client_for(
    server: DnsServer, tls: ssl.SSLContext | None = None, clock: VirtualClock | None = None, **members: Any
) -> AsyncIterator[GuardedClient]:
    discovery = Discovery(settings_for(server, **members), clock or VirtualClock(), tls)
    try:
        yield discovery.client
    finally:
        await discovery.close()


@pytest.fixture
async def client(server: DnsServer, https: HttpsServer) -> AsyncIterator[GuardedClient]:
    """A developer's client: this machine is open to it."""
    server.publish(HERE)
    async with client_for(server, https.trust, loopback=True, fetch_seconds=5.0) as made:
        yield made


def url(https: HttpsServer, path: str = "/") -> str:
    return f"https://{HOST}:{https.port}{path}"


async def refusal(client: GuardedClient, address: str) -> Refusal:
    with pytest.raises(FetchRefused) as refused:
        await client.get(address, LIMIT)
    return refused.value.refusal


# Where it goes


@pytest.mark.parametrize(
    "record",
    ["A 127.0.0.1", "A 10.1.2.3", "A 172.16.0.1", "A 192.168.0.1", "A 169.254.169.254", "A 100.64.0.1", "A 0.0.0.0",
     "A 224.0.0.1", "A 240.0.0.1", "AAAA ::1", "AAAA ::", "AAAA fe80::1", "AAAA fd00::1", "AAAA ff02::1",
     "AAAA ::ffff:127.0.0.1", "AAAA 64:ff9b::7f00:1", "AAAA 2002:7f00:1::"],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_refused(server: DnsServer, record: str) -> None:
    server.publish(f"{HOST}. 60 IN {record}\nalias.example. 60 IN CNAME {HOST}.\n")
    async with client_for(server) as client:
        assert await refusal(client, f"https://{HOST}/") is Refusal.PRIVATE
        assert await refusal(client, "https://alias.example/") is Refusal.PRIVATE


async def test_the_strict_client_does_not_reach_a_server_that_is_there(
    server: DnsServer, https: HttpsServer
) -> None:
    server.publish(HERE)
    async with client_for(server, https.trust, ports=(https.port,)) as client:
        assert await refusal(client, url(https)) is Refusal.PRIVATE
    assert https.connections == 0


async def test_of_a_name_with_both_only_the_public_address_is_used(server: DnsServer) -> None:
    server.publish(f"{HERE}{HOST}. 60 IN A 8.8.8.8\n{HOST}. 60 IN AAAA ::1\n")
    async with client_for(server) as client:
        found = await _Vetted(client._addresses, client._is_public).resolve(HOST, 443)
    assert [one["host"] for one in found] == ["8.8.8.8"]


class HurriedClock(VirtualClock):
    """Nothing is remembered: ten seconds pass whenever somebody looks."""

    def now(self) -> int:
        self.advance(10_000)
        return super().now()


class Rebinding(DnsServer):
    """Gives another address with each question."""

    async def answers(self, wire: bytes, transport: str) -> list[bytes]:
        answers = await super().answers(wire, transport)
        if self.asked[-1][1] == "A":
            self.publish(f"{HOST}. 0 IN A 127.0.0.1\n")
        return answers


async def test_a_name_that_changes_between_check_and_use_gains_nothing(
    server: DnsServer, https: HttpsServer
) -> None:
    server.__class__ = Rebinding
    server.publish(f"{HOST}. 0 IN A 8.8.8.8\n")
    members = {"ports": (https.port,), "loopback": True, "least_seconds": 0}
    async with client_for(server, https.trust, HurriedClock(), **members) as client:
        assert await refusal(client, url(https)) is Refusal.PRIVATE
    assert server.questions("A") == [HOST, HOST]
    assert https.connections == 0


async def test_networks_of_the_operator_are_closed_too(server: DnsServer) -> None:
    server.publish(f"{HOST}. 60 IN A 8.8.8.8\n")
    async with client_for(server, refused_networks=("8.8.8.0/24",)) as client:
        assert await refusal(client, f"https://{HOST}/") is Refusal.PRIVATE


async def test_a_developers_http_does_not_leave_the_machine(server: DnsServer) -> None:
    server.publish(f"{HOST}. 60 IN A 8.8.8.8\n")
    async with client_for(server, loopback=True) as client:
        for address in (f"http://{HOST}/", f"https://{HOST}:8443/"):
            assert await refusal(client, address) is Refusal.PRIVATE


async def test_a_name_without_address_and_one_that_can_not_be_asked_differ(server: DnsServer) -> None:
    server.faults["broken.example"] = Fault.SERVFAIL
    async with client_for(server) as client:
        assert await refusal(client, "https://none.example/") is Refusal.PRIVATE
        with pytest.raises(DnsUnavailable):
            await client.get("https://broken.example/", LIMIT)


async def test_proxies_of_the_environment_are_not_used(
    client: GuardedClient, https: HttpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await client.get(url(https), LIMIT)).status == 200


# What it says and keeps


async def test_an_answer_comes_back_whole(client: GuardedClient, https: HttpsServer) -> None:
    https.answer(b'{"a":1}', "404 Not Found", Content_Type="application/json; charset=utf-8")
    answer = await client.get(url(https, "/a?b=c"), LIMIT)
    assert (answer.status, answer.content_type, answer.body) == (404, "application/json", b'{"a":1}')
    head = https.requests[0]
    assert head.startswith(f"GET /a?b=c HTTP/1.1\r\nHost: {HOST}:{https.port}\r\n")
    assert "Accept-Encoding: identity" in head


async def test_a_body_can_be_posted(client: GuardedClient, https: HttpsServer) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.send("POST", url(https), LIMIT, body=b"{}", headers=headers)
    assert answer.status == 200
    assert https.requests[0].startswith("POST / HTTP/1.1")
    assert "Content-Length: 2" in https.requests[0]


async def test_cookies_are_not_kept(client: GuardedClient, https: HttpsServer) -> None:
    https.answer(Set_Cookie="a=b; Path=/")
    for _ in range(2):
        await client.get(url(https), LIMIT)
    assert "ookie" not in "".join(https.requests)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_redirects_are_not_followed(client: GuardedClient, https: HttpsServer, status: str) -> None:
    https.answer(status=status, Location="/elsewhere")
    assert await refusal(client, url(https)) is Refusal.REDIRECT
    assert len(https.requests) == 1


async def test_a_certificate_for_another_name_is_not_taken(server: DnsServer, https: HttpsServer) -> None:
    server.publish("other.example. 60 IN A 127.0.0.1\n")
    async with client_for(server, https.trust, loopback=True) as client:
        with pytest.raises(FetchFailed):
            await client.get(f"https://other.example:{https.port}/", LIMIT)
    assert https.requests == []


async def test_a_certificate_of_nobody_known_is_not_taken(server: DnsServer, https: HttpsServer) -> None:
    server.publish(HERE)
    async with client_for(server, loopback=True) as client:
        with pytest.raises(FetchFailed):
            await client.get(url(https), LIMIT)
    assert https.requests == []


# How much, and how long


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1000\r\n" + b" " * 0x1000 + b"\r\n"


async def test_a_body_that_does_not_end_is_cut_off(client: GuardedClient, https: HttpsServer) -> None:
    https.pieces = endless()
    assert await refusal(client, url(https)) is Refusal.TOO_LARGE


async def test_a_body_announced_too_large_is_not_read(client: GuardedClient, https: HttpsServer) -> None:
    https.answer(Content_Length=str(LIMIT + 1))
    https.stays_open = True
    assert await refusal(client, url(https)) is Refusal.TOO_LARGE


async def test_gzip_is_undone_within_the_limit(client: GuardedClient, https: HttpsServer) -> None:
    https.answer(gzip.compress(b"x" * LIMIT), Content_Encoding="gzip")
    assert (await client.get(url(https), LIMIT)).body == b"x" * LIMIT
    https.answer(gzip.compress(bytes(20_000_000)), Content_Encoding="gzip")
    with pytest.raises(FetchRefused) as refused:
        await client.get(url(https), 1_000_000)
    assert refused.value.refusal is Refusal.TOO_LARGE


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", b"x"), ("gzip, gzip", gzip.compress(gzip.compress(b"x"))), ("gzip", b"plain"),
     ("gzip", gzip.compress(b"x" * 99)[:-9])],
    ids=["br", "gzip twice", "gzip that is none", "gzip cut off"],
)  # fmt: skip
async def test_other_encodings_are_refused(
    client: GuardedClient, https: HttpsServer, encoding: str, body: bytes
) -> None:
    https.answer(body, Content_Encoding=encoding)
    assert await refusal(client, url(https)) is Refusal.ENCODING


@pytest.mark.parametrize(
    "pieces",
    [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"]],
    ids=["nothing", "half a head", "half a body"],
)
async def test_who_answers_too_slowly_is_left(
    server: DnsServer, https: HttpsServer, pieces: list[bytes]
) -> None:
    server.publish(HERE)
    https.pieces, https.stays_open = pieces, True
    async with client_for(server, https.trust, loopback=True, fetch_seconds=0.5) as client:
        with pytest.raises(FetchFailed, match="in time"):
            await client.get(url(https), LIMIT)


@pytest.mark.parametrize(
    "pieces",
    [[b"garbage\r\n\r\n"], [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5_000 + b"\r\n"],
     [b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n"]],
    ids=["garbage", "many fields", "long field"],
)  # fmt: skip
async def test_a_head_out_of_all_bounds_is_no_answer(
    client: GuardedClient, https: HttpsServer, pieces: list[bytes]
) -> None:
    https.pieces = pieces
    with pytest.raises(FetchFailed):
        await client.get(url(https), LIMIT)


async def test_one_host_is_not_asked_too_often(server: DnsServer, https: HttpsServer) -> None:
    server.publish(HERE)
    clock = VirtualClock()
    async with client_for(server, https.trust, clock, loopback=True, fetches_per_host=2) as client:
        for _ in range(2):
            await client.get(url(https), LIMIT)
        with pytest.raises(TooManyRequests):
            await client.get(url(https), LIMIT)
        clock.advance(1_000)
        await client.get(url(https), LIMIT)


async def test_requests_at_once_are_bounded(server: DnsServer, https: HttpsServer) -> None:
    server.publish(HERE)
    https.pieces, https.stays_open = [], True
    members: dict[str, Any] = {"loopback": True, "fetches": 2, "fetch_seconds": 0.5}
    async with client_for(server, https.trust, **members) as client:
        asked = [client.get(url(https), LIMIT) for _ in range(5)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(outcome, FetchFailed) for outcome in outcomes)
    assert https.connections == 2


def test_the_setting_that_opens_this_machine_is_off() -> None:
    assert DiscoverySettings().loopback is False
    assert DiscoverySettings().ports == (443,)
    assert not ipaddress.ip_address("127.0.0.1").is_global
