"""Handshake offers and lookups on a real node: links by HTTP, redeemed through the port, kept by the log."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from actors.messages import Execute
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id, web_did
from events.log.log import Origin
from events.policy import Reason
from node.inspection.phrases import REASONS
from node.settings import HandshakeSettings
from tests.integration.api.harness import Node, User, running, settings_for

BOB = "did:web:mio.beta.example#0x" + "b" * 40
EVE = "did:web:mio.evil.example#0x" + "e" * 40


async def link(node: Node, user: User) -> str:
    answer = await node.get("/api/v1/handshakeoffer", user.token)
    assert answer.status == 200, answer
    text: str = answer.json["link"]
    return text


async def test_a_link_names_the_server_and_the_owner_and_can_be_used_once(node: Node, alice: User) -> None:
    nonce, domain, address = (await link(node, alice)).split(":")
    assert re.fullmatch("[a-zA-Z]{16}", nonce)
    assert (domain, address) == ("mio.alpha.example", alice.address)
    redeem = node.core.offers.redeem
    assert await redeem(address, nonce, BOB, "m1")
    assert await redeem(address, nonce, BOB, "m1"), "the same message may come again"
    assert not await redeem(address, nonce, BOB, "m2")
    assert not await redeem(address, nonce, EVE, "m1")
    kinds = [type(each.event).__name__ for each in await node.core.log.stream(f"handshake-{address}")]
    assert kinds == ["HandshakeOffered", "OfferRedeemed"], "a wrong nonce leaves nothing in the log"


async def test_a_nonce_is_its_owners(node: Node, alice: User, mallory: User) -> None:
    nonce = (await link(node, alice)).partition(":")[0]
    for owner in (mallory.address, "0x" + "0" * 40, "nobody", "", "../x"):
        assert not await node.core.offers.redeem(owner, nonce, EVE, "m")
    assert await node.core.offers.redeem(alice.address.upper().replace("0X", "0x"), nonce, BOB, "m")


async def test_two_messages_with_one_nonce_at_the_same_time_are_one(node: Node, alice: User) -> None:
    nonce = (await link(node, alice)).partition(":")[0]
    tries = [node.core.offers.redeem(alice.address, nonce, EVE, f"m{n}") for n in range(5)]
    assert sorted(await asyncio.gather(*tries)) == [False] * 4 + [True]


async def test_an_owner_sees_and_withdraws_open_links_and_nobody_elses(
    node: Node, alice: User, mallory: User
) -> None:
    nonce = (await link(node, alice)).partition(":")[0]
    (shown,) = (await node.get("/api/v1/handshakeoffers", alice.token)).json["offers"]
    assert nonce not in str(shown)
    assert shown["expires"] - shown["created"] == 72 * 3_600_000
    path = f"/api/v1/handshakeoffers/{shown['id']}"
    assert (await node.call("DELETE", path, token=mallory.token)).status == 404
    assert (await node.call("DELETE", path, token=alice.token)).status == 200
    assert (await node.call("DELETE", path, token=alice.token)).status == 404
    assert (await node.get("/api/v1/handshakeoffers", alice.token)).json == {"offers": []}
    assert not await node.core.offers.redeem(alice.address, nonce, BOB, "m")


async def test_open_links_are_bounded(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings = type(settings)(
        node=settings.node, http=settings.http, handshakes=HandshakeSettings(open_offers=2)
    )
    async with running(settings) as node:
        alice = await node.user("alice")
        nonce = (await link(node, alice)).partition(":")[0]
        await link(node, alice)
        assert (await node.get("/api/v1/handshakeoffer", alice.token)).status == 409
        assert await node.core.offers.redeem(alice.address, nonce, BOB, "m")
        await link(node, alice)


async def test_offers_and_their_use_survive_a_restart(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as node:
        alice = await node.user("alice")
        used, unused = [(await link(node, alice)).partition(":")[0] for _ in range(2)]
        assert await node.core.offers.redeem(alice.address, used, BOB, "m1")
    async with running(settings_for(tmp_path)) as node:
        assert not await node.core.offers.redeem(alice.address, used, EVE, "m2")
        assert await node.core.offers.redeem(alice.address, used, BOB, "m1")
        assert await node.core.offers.redeem(alice.address, unused, EVE, "m2")


async def test_who_is_erased_offers_nothing(node: Node, alice: User) -> None:
    nonce = (await link(node, alice)).partition(":")[0]
    await node.core.erasure.erase(alice.address, "", "test")
    assert not await node.core.offers.redeem(alice.address, nonce, BOB, "m")


async def lookup(node: Node, owner: dict[str, str], default: bool = False) -> list[dict[str, Any]]:
    request = {
        "handshakeLookups": [owner],
        "senderAddress": BOB,
        "returnDefaultServerHandshake": default,
    }
    answer = await node.core.handshake_lookup.answer("mio.beta.example", request)
    found: list[dict[str, Any]] = answer["handshakes"]
    return found


async def test_a_peer_hears_of_its_own_users_handshake_until_it_is_revoked(node: Node, alice: User) -> None:
    entry = await node.core.directory.by_address(alice.address)
    assert entry is not None
    for status, told in (("request", 0), ("accepted", 1), ("revoked", 0)):
        terms = Terms(
            id=handshake_id(alice.address, BOB), status=status, type="user", origin_domain="a.example"
        )
        command = Execute(RecordHandshake(terms), Origin(actor="test"))
        await node.core.actors.ask("handshake", alice.address, command)
        for owner in ({"address": alice.address}, {"emailHash": entry.email_hash}):
            found = await lookup(node, owner)
            assert [each["ownerPublicKey"] for each in found] == [entry.signing_key] * told
            kinds = [each["type"] for each in await lookup(node, owner, default=True)]
            assert kinds == (["user"] if told else ["server"])


async def test_a_lookup_leaves_nothing_in_the_log(node: Node, alice: User) -> None:
    head = node.core.log.head
    await lookup(node, {"address": str(web_did("x", "y"))})
    await lookup(node, {"address": alice.address})
    assert node.core.log.head == head


def test_every_reason_is_put_into_words() -> None:
    assert set(REASONS) == set(Reason)
