"""`did:web` of servers and users, fetched from a host that may serve anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.errors import InvalidInput, NotFound
from events.identity import Did
from events.log.clock import VirtualClock
from node.crypto.did_documents import ServerEndpoints, server_document, user_document
from node.crypto.keys import ServerKeys, UserKeys
from node.discovery.did_web import RemoteFailure, WebDids
from node.discovery.discovery import Discovery
from node.discovery.documents import Doubt, InvalidDocument
from node.discovery.fetch import FetchFailed
from node.discovery.targets import FetchRefused, Refusal
from tests.integration.discovery.conftest import settings_for
from tests.servers.dns import DnsServer
from tests.servers.https import HttpsServer, https_server

SERVER = ServerKeys(b"\x01" * 32, 0)
USER = UserKeys(b"\x02" * 32, b"\x03" * 32)
ENDPOINTS = ServerEndpoints("mio.beta.example")
DOCUMENT = user_document(USER.public_key, USER.agreement_public_key, SERVER.address, ENDPOINTS)


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[HttpsServer]:
    async with https_server(tmp_path, "localhost", plain=True) as running:
        running.answer(body(DOCUMENT))
        yield running


@pytest.fixture
async def dids(server: DnsServer, clock: VirtualClock) -> AsyncIterator[WebDids]:
    """A developer's: hosts of this machine are asked by http."""
    settings = settings_for(server, loopback=True, documents=2, fetch_seconds=2.0)
    discovery = Discovery(settings, clock)
    yield discovery.dids
    await discovery.close()


def user(host: HttpsServer, address: str = USER.address) -> Did:
    return Did.parse(f"did:web:localhost:{host.port}#{address}")


async def test_a_users_document_is_fetched_and_remembered(
    dids: WebDids, host: HttpsServer, clock: VirtualClock
) -> None:
    for _ in range(2):
        assert await dids.resolve(user(host)) == DOCUMENT
    assert [head.partition(" HTTP")[0] for head in host.requests] == [f"GET /{USER.address}/did.json"]
    clock.advance(900_000)
    await dids.resolve(user(host))
    assert len(host.requests) == 2


async def test_a_clock_that_is_set_back_keeps_no_document_longer(
    dids: WebDids, host: HttpsServer, clock: VirtualClock
) -> None:
    await dids.resolve(user(host))
    clock.advance(-86_400_000)
    await dids.resolve(user(host))
    assert len(host.requests) == 2


async def test_a_servers_document_is_fetched_by_both_of_its_names(dids: WebDids, host: HttpsServer) -> None:
    document = server_document(SERVER.public_key, ENDPOINTS)
    host.answer(body(document))
    name = f"did:web:localhost:{host.port}"
    assert await dids.resolve(Did.parse(name)) == document
    assert await dids.resolve(Did.parse(f"{name}:{SERVER.address}")) == document
    assert [head.split()[1] for head in host.requests] == ["/.well-known/did.json"]
    with pytest.raises(InvalidDocument) as refused:
        await dids.resolve(Did.parse(f"{name}:{USER.address}"))
    assert refused.value.doubt is Doubt.OTHER_ID


async def test_many_who_ask_share_one_request(dids: WebDids, host: HttpsServer) -> None:
    found = await asyncio.gather(*(dids.resolve(user(host)) for _ in range(20)))
    assert all(document == DOCUMENT for document in found)
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [("404 Not Found", NotFound), ("410 Gone", NotFound), ("500 Broken", RemoteFailure), ("403 No", RemoteFailure),
     ("204 No Content", RemoteFailure)],
)  # fmt: skip
async def test_no_such_user_is_not_a_broken_host(
    dids: WebDids, host: HttpsServer, clock: VirtualClock, status: str, error: type[Exception]
) -> None:
    host.answer(b"", status)
    for _ in range(2):
        with pytest.raises(error):
            await dids.resolve(user(host))
    assert len(host.requests) == 1
    clock.advance(30_000)
    host.answer(body(DOCUMENT))
    assert await dids.resolve(user(host)) == DOCUMENT


async def test_a_document_of_somebody_else_is_not_taken(dids: WebDids, host: HttpsServer) -> None:
    with pytest.raises(InvalidDocument) as refused:
        await dids.resolve(user(host, SERVER.address))
    assert refused.value.doubt is Doubt.OTHER_ID


async def test_what_is_not_json_or_too_long_is_not_taken(dids: WebDids, host: HttpsServer) -> None:
    host.answer(body(DOCUMENT), Content_Type="text/html")
    with pytest.raises(InvalidDocument):
        await dids.resolve(user(host))
    host.answer(body(DOCUMENT) + b" " * 40_000)
    with pytest.raises(FetchRefused) as refused:
        await dids.server(f"localhost:{host.port}")
    assert refused.value.refusal is Refusal.TOO_LARGE


async def test_the_memory_of_documents_is_bounded(dids: WebDids, host: HttpsServer) -> None:
    for address in (USER.address, f"0x{1:040x}", f"0x{2:040x}", USER.address):
        host.answer(body(DOCUMENT), "200 OK" if address == USER.address else "404 Not Found")
        try:
            await dids.resolve(user(host, address))
        except NotFound:
            assert address != USER.address
    assert len(host.requests) == 4


async def test_a_host_that_is_not_there_is_a_passing_failure(dids: WebDids) -> None:
    with pytest.raises(FetchFailed) as failed:
        await dids.resolve(Did.parse(f"did:web:localhost:9#{USER.address}"))
    assert failed.value.temporary


@pytest.mark.parametrize(
    "text",
    ["did:mailio:0x" + "1" * 40, "did:web:mio.beta.example#master", "did:web:mio.beta.example:path",
     "did:web:mio.beta.example:path:0x" + "1" * 40 + "#0x" + "1" * 40, "did:key:z6Mk", "#master",
     "did:web:mio.beta.example:0x" + "1" * 40 + "#0x" + "2" * 40, "did:web:localhost#0x" + "1" * 40, "did:web:127.0.0.1#0x" + "1" * 40, "did:web:2130706433#0x" + "1" * 40,
     "did:web:mio.beta.example:8080#0x" + "1" * 40, "did:web:mio.beta.example%3A8080#0x" + "1" * 40,
     "did:web:a@mio.beta.example#0x" + "1" * 40, "did:web:mio.beta.example/x#0x" + "1" * 40],
)  # fmt: skip
async def test_other_dids_and_odd_hosts_are_not_asked_for(
    server: DnsServer, discovery: Discovery, text: str
) -> None:
    with pytest.raises(InvalidInput):
        await discovery.dids.resolve(Did.parse(text))
    assert server.asked == []


async def test_a_host_that_leads_inside_is_refused(server: DnsServer, discovery: Discovery) -> None:
    server.publish("mio.beta.example. 60 IN A 127.0.0.1\n")
    with pytest.raises(FetchRefused) as refused:
        await discovery.dids.resolve(Did.parse(f"did:web:mio.beta.example#{USER.address}"))
    assert refused.value.refusal is Refusal.PRIVATE
