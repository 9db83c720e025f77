"""A handshake from the link to the last mail, between two servers: what each step lets through."""

from __future__ import annotations

import json
from typing import Any

from actors.messages import Execute
from events.delivery import DeliveryScheduled, Kind
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id
from events.log.log import Origin
from events.policy import SET_ASIDE_MOST, Folder, Reason
from node.crypto.base64_text import to_base64
from node.mtp.envelope import HANDSHAKE_LOOKUP
from tests.integration.api.harness import User
from tests.integration.mtp.harness import HERE, Peer, Receiver

REQUEST = {"type": "application/mailio-handshake-request+json", "intent": "handshake_request"}


async def link(receiver: Receiver, user: User) -> str:
    answer = await receiver.node.get("/api/v1/handshakeoffer", user.token)
    nonce: str = answer.json["link"].partition(":")[0]
    return nonce


def asking(peer: Peer, user: User, nonce: str, ident: str) -> dict[str, Any]:
    body = to_base64(json.dumps({"nonce": nonce}).encode())
    return peer.message(user, id=ident, plainBodyBase64=body, **REQUEST)


async def say(receiver: Receiver, owner: User, sender: str, status: str, **more: Any) -> None:
    terms = Terms(
        id=handshake_id(owner.address, sender), status=status, origin_domain=HERE,
        created=receiver.clock.now(), **more,
    )  # fmt: skip
    command = Execute(RecordHandshake(terms), Origin(actor="test"))
    await receiver.node.core.actors.ask("handshake", owner.address, command)


async def heard(receiver: Receiver, peer: Peer, owner: User, sender: str, default: bool = False) -> list[str]:
    """Kinds of handshakes that a peer hears of."""
    receiver.clock.advance(1)
    payload = {
        "lookupHeader": {
            "signatureScheme": "EdDSA_X25519",
            "emailLookupHashScheme": "SC_N32768_R8_P1_L32_B64",
            "timestamp": receiver.clock.now(),
        },
        "handshakeLookups": [{"address": owner.address, "email": "", "originServer": {"domain": HERE}}],
        "returnDefaultServerHandshake": default,
        "senderAddress": sender,
    }
    answer = await receiver.ask(peer, HANDSHAKE_LOOKUP, payload)
    assert answer.status == 200, answer
    return [each["type"] for each in answer.json["handshakeResponse"]["handshakes"]]


async def test_from_the_link_to_the_inbox_and_out_again(receiver: Receiver, alice: User) -> None:
    beta, gamma = receiver.beta, receiver.gamma
    nonce = await link(receiver, alice)
    for _ in range(2):
        receiver.receipt(await receiver.send(beta, asking(beta, alice, nonce, "ask")))
        receiver.clock.advance(1)
    for peer, ident in ((beta, "again"), (gamma, "ask")):
        assert (await receiver.send(peer, asking(peer, alice, nonce, ident))).status == 403
    (asked,) = await receiver.filed()
    assert (asked.folder, asked.reason) == (Folder.HANDSHAKE, Reason.HANDSHAKE_REQUESTED)
    assert await heard(receiver, beta, alice, beta.author) == []

    await say(receiver, alice, beta.author, "accepted", type="user")
    assert await heard(receiver, beta, alice, beta.author) == ["user"]
    assert await heard(receiver, gamma, alice, beta.author) == []
    receiver.receipt(await receiver.send(beta, beta.message(alice, id="m1")))
    assert (await receiver.filed())[-1].reason is Reason.HANDSHAKE_ACCEPTED

    receiver.clock.advance(1)
    await say(receiver, alice, beta.author, "revoked")
    assert await heard(receiver, beta, alice, beta.author) == []
    assert await heard(receiver, beta, alice, beta.author, default=True) == ["server"]
    assert (await receiver.send(beta, beta.message(alice, id="m2"))).status == 403
    assert len(await receiver.filed()) == 2


async def test_an_agreed_frequency_holds_by_mtp_as_by_smtp(receiver: Receiver, alice: User) -> None:
    beta = receiver.beta
    await say(receiver, alice, beta.author, "accepted", type="signup", frequency_minutes=60)
    for number in range(SET_ASIDE_MOST + 1):
        receiver.receipt(await receiver.send(beta, beta.message(alice, id=f"m{number}")))
        filed = (await receiver.filed())[-1]
        assert filed.folder is (Folder.OTHER if number else Folder.INBOX)
    assert (await receiver.send(beta, beta.message(alice, id="too-much"))).status == 429
    receiver.clock.advance(3_600_000)
    receiver.receipt(await receiver.send(beta, beta.message(alice, id="later")))
    assert (await receiver.filed())[-1].reason is Reason.HANDSHAKE_ACCEPTED


async def test_a_revoked_server_gets_nothing_in_and_another_one_is_not_it(
    receiver: Receiver, alice: User
) -> None:
    await say(receiver, alice, f"@{receiver.beta.domain}", "revoked", type="server")
    assert (await receiver.send(receiver.beta, receiver.beta.message(alice))).status == 403
    receiver.receipt(await receiver.send(receiver.gamma, receiver.gamma.message(alice)))


async def test_whatever_the_verdict_only_the_peer_that_sent_the_message_hears_of_it(
    receiver: Receiver, alice: User
) -> None:
    """And only in a report about that message: no verdict ever makes the node write to anybody else."""
    beta, gamma = receiver.beta, receiver.gamma
    nonce = await link(receiver, alice)
    await receiver.send(beta, asking(beta, alice, nonce, "asked"))
    await receiver.send(beta, asking(beta, alice, nonce, "asked-again"))
    await receiver.send(gamma, gamma.message(alice, id="first-contact"))
    await receiver.send(gamma, gamma.message(alice, id="seldom-read"))
    await say(receiver, alice, beta.author, "accepted", type="signup", frequency_minutes=60)
    for ident in ("accepted", "too-early"):
        await receiver.send(beta, beta.message(alice, id=ident))
    await receiver.filed()
    await say(receiver, alice, gamma.author, "revoked")
    bob = await receiver.node.user("bob")
    await receiver.send(gamma, gamma.message(alice, id="refused"))
    await receiver.send(gamma, gamma.message(alice, bob, id="refused-by-one"))
    filed = {each.reason for each in await receiver.filed()}
    assert filed == {
        Reason.HANDSHAKE_REQUESTED,
        Reason.FIRST_CONTACT,
        Reason.SELDOM_READ,
        Reason.HANDSHAKE_ACCEPTED,
        Reason.FREQUENCY_EXCEEDED,
    }
    told = {
        (record.event.message, record.event.destination, record.event.kind)
        for record in await receiver.node.core.log.read(0, 10_000)
        if isinstance(record.event, DeliveryScheduled)
    }
    assert told == {
        ("asked", beta.domain, Kind.REPORT),
        ("accepted", beta.domain, Kind.REPORT),
        ("too-early", beta.domain, Kind.REPORT),
        ("first-contact", gamma.domain, Kind.REPORT),
        ("seldom-read", gamma.domain, Kind.REPORT),
        ("refused-by-one", gamma.domain, Kind.REPORT),
    }
