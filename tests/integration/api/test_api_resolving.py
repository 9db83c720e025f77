"""Other domains and their users over the API, against a DNS server and a second node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys
from node.discovery.limits import DiscoverySettings
from node.discovery.record import record_text
from tests.integration.api.harness import Answer, Node, User, running, settings_for
from tests.servers.dns import DnsServer, Fault, dns_server

KEY = ServerKeys(b"\x01" * 32, 0).public_key
ZONE = (
    f'mailio._mailiokey.mio.beta.example. 60 IN TXT "{record_text(KEY)}"\n'
    "beta.example. 60 IN MX 10 mx.beta.example.\nplain.example. 60 IN MX 10 mx.plain.example.\n"
)
NOBODY = "0x" + "1" * 40


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server(ZONE) as served:
        yield served


@pytest.fixture
async def node(tmp_path: Path, server: DnsServer) -> AsyncIterator[Node]:
    discovery = DiscoverySettings(resolvers=(server.address,), loopback=True)
    settings = msgspec.structs.replace(settings_for(tmp_path / "own"), discovery=discovery)
    async with running(settings) as started:
        yield started


async def resolve(node: Node, user: User, email: str, force: str = "") -> Answer:
    return await node.get(f"/api/v1/resolve/domain?email={quote(email)}{force}", token=user.token)


async def test_a_mailio_domain_is_told_from_a_plain_one_and_from_neither(node: Node, alice: User) -> None:
    found = (await resolve(node, alice, "Bob@Beta.example")).json
    assert found.pop("timestamp") > 0
    assert found == {
        "name": "beta.example",
        "supportsMailio": True,
        "mailioDIDDomain": "mio.beta.example",
        "supportsStandardEmail": True,
        "mailioPublicKey": to_base64(KEY),
    }
    plain = (await resolve(node, alice, "bob@plain.example")).json
    assert (plain["supportsMailio"], plain["supportsStandardEmail"]) == (False, True)
    neither = (await resolve(node, alice, "bob@nobody.example")).json
    assert (neither["supportsMailio"], neither["supportsStandardEmail"]) == (False, False)
    assert neither["mxCheckError"] == "MX: no such name"


async def test_the_nodes_own_domain_needs_no_dns(node: Node, alice: User, server: DnsServer) -> None:
    own = (await resolve(node, alice, "bob@alpha.example")).json
    assert (own["supportsMailio"], own["mailioDIDDomain"]) == (True, "mio.alpha.example")
    assert own["mailioPublicKey"] == to_base64(node.core.keys.public_key)
    assert server.asked == []


async def test_a_fault_is_not_taken_for_a_domain_without_mailio(
    node: Node, alice: User, server: DnsServer
) -> None:
    server.faults["mailio._mailiokey.plain.example"] = Fault.SERVFAIL
    answer = await resolve(node, alice, "bob@plain.example")
    assert (answer.status, answer.json["message"]) == (503, "DNS gave no answer")
    server.publish(ZONE + 'mailio._mailiokey.beta.example. 60 IN TXT "v=MAILIO1"\n')
    answer = await resolve(node, alice, "bob@beta.example")
    assert answer.status == 503
    assert "malformed" in answer.json["message"]


async def test_force_does_not_ask_for_each_call(node: Node, alice: User, server: DnsServer) -> None:
    for force in ("", "&force=true", "&force=true"):
        assert (await resolve(node, alice, "bob@beta.example", force)).status == 200
    assert server.questions("MX") == ["beta.example"]


async def test_what_is_no_email_of_a_public_domain_is_refused(
    node: Node, alice: User, server: DnsServer
) -> None:
    for email in ("", "b", "b@localhost", "b@127.0.0.1", "b@beta.example:80", "b@a b.example", "b@[::1]"):
        assert (await resolve(node, alice, email)).status == 400, email
    assert server.asked == []


async def test_only_account_holders_may_have_others_asked(node: Node, server: DnsServer) -> None:
    assert (await node.get("/api/v1/resolve/domain?email=bob@beta.example")).status == 401
    assert (await node.call("POST", "/api/v1/resolve/webdid", {"dids": ["did:web:x"]})).status == 401
    assert server.asked == []


async def web_dids(node: Node, user: User, *dids: str) -> Answer:
    return await node.call("POST", "/api/v1/resolve/webdid", {"dids": list(dids)}, token=user.token)


async def test_users_of_another_node_and_of_this_one_are_found(
    node: Node, alice: User, tmp_path: Path
) -> None:
    async with running(settings_for(tmp_path / "peer", {"server_domain": "mio.beta.example"})) as peer:
        bob = await peer.user("bob")
        host = f"127.0.0.1:{peer.http.port}"
        bobs, alices = f"did:web:{host}#{bob.address}", f"did:web:mio.alpha.example#{alice.address}"
        nobody = f"did:web:{host}#{NOBODY}"
        answer = await web_dids(node, alice, bobs, alices, nobody, bobs)
        served = (await peer.get(f"/{bob.address}/did.json")).json
    found, missing = answer.json["found"], answer.json["notFound"]
    assert [(one["did"], one["didDocument"]["id"]) for one in found] == [
        (bobs, f"did:mailio:{bob.address}"),
        (alices, f"did:mailio:{alice.address}"),
    ]
    assert found[0]["didDocument"] == served
    assert found[0]["supportsMailio"] is True
    status = found[0]["mtpStatusCode"]
    assert (status["class"], status["subject"], status["detail"], status["description"]) == (
        2,
        0,
        0,
        "DID found",
    )
    assert [one["did"] for one in missing] == [nobody]
    assert codes(missing) == [(1, 1, 1)]
    assert "didDocument" not in missing[0]


def codes(lookups: list[dict[str, dict[str, int]]]) -> list[tuple[int, int, int]]:
    statuses = [one["mtpStatusCode"] for one in lookups]
    return [(status["class"], status["subject"], status["detail"]) for status in statuses]


async def test_who_can_not_be_asked_says_so_in_the_lookups_status(
    node: Node, alice: User, server: DnsServer
) -> None:
    server.publish("inside.example. 60 IN A 10.0.0.1\n")
    server.faults["broken.example"] = Fault.SERVFAIL
    hosts = ("inside.example", "broken.example", "127.0.0.1:9", "intranet", "mio.alpha.example")
    answer = await web_dids(node, alice, *(f"did:web:{host}#{NOBODY}" for host in hosts))
    assert answer.status == 200
    assert "found" not in answer.json
    assert codes(answer.json["notFound"]) == [(4, 4, 0), (4, 4, 0), (4, 4, 0), (1, 1, 7), (1, 1, 1)]
    assert "10.0.0.1" not in answer.body.decode()


async def test_what_is_no_did_of_a_user_is_refused_and_so_are_too_many(
    node: Node, alice: User, server: DnsServer
) -> None:
    host = "did:web:mio.beta.example"
    for did in ("", "bob", f"did:mailio:{NOBODY}", host, f"{host}#master", f"{host}:{NOBODY}"):
        assert (await web_dids(node, alice, did)).status == 400, did
    for count in (0, 51):
        assert (await web_dids(node, alice, *[f"{host}#{NOBODY}"] * count)).status == 400
    assert server.asked == []
