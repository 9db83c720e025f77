"""What a peer, or who says to be one, may not do to the door for messages. Each attack gets this answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from events.errors import StorageUnavailable
from events.identity import handshake_id
from events.log.clock import VirtualClock
from events.mail import MailAccepted
from tests.integration.api.harness import User
from tests.integration.mtp import harness
from tests.integration.mtp.harness import BETA, GAMMA, HERE, MESSAGE_ID, Peer, Receiver
from tests.servers.dns import Fault, dns_server

NOT_SIGNED = {"error": "signature verification failed"}
DAY = 86_400_000


def envelope(receiver: Receiver, user: User) -> dict[str, Any]:
    body = receiver.beta.signed(receiver.beta.message(user), receiver.clock.now())
    found: dict[str, Any] = json.loads(body)
    return found


# What was signed


CHANGES: Sequence[Callable[[Any], Any]] = (
    lambda request: request["didCommMessage"].update(thid="another"),
    lambda request: request["didCommMessage"].update(intent="handshake"),
    lambda request: request["didCommMessage"]["body"]["recipients"].append(
        {"encrypted_key": "x", "header": {"kid": f"did:web:{HERE}#0x{'1' * 40}"}}
    ),
    lambda request: request.update(timestamp=request["timestamp"] + 1),
    lambda request: request["didCommMessage"].update(unknown="x"),
    lambda request: request.pop("didCommMessage"),
)


async def test_a_body_that_differs_from_the_signed_bytes(receiver: Receiver, alice: User) -> None:
    for change in CHANGES:
        body = envelope(receiver, alice)
        change(body["didCommRequest"])
        answer = await receiver.post(json.dumps(body).encode())
        assert (answer.status, answer.json) == (400, NOT_SIGNED), body["didCommRequest"]
    assert not await receiver.kept()


async def test_a_blob_that_the_peer_has_signed_elsewhere(receiver: Receiver, alice: User) -> None:
    """Every reply of a peer is a signed blob: beside another JSON it must prove nothing."""
    body = envelope(receiver, alice)
    receipt = json.loads((await receiver.send(receiver.beta, receiver.beta.message(alice))).body)
    for name in ("cborPayloadBase64", "signatureBase64"):
        body[name] = receipt[name]
    # Our own reply, said to come from us.
    answer = await receiver.post(json.dumps({**body, "senderDomain": HERE}).encode())
    assert (answer.status, answer.json) == (400, {"error": "no Mailio DNS record found"})
    answer = await receiver.post(json.dumps(body).encode())
    assert (answer.status, answer.json) == (400, NOT_SIGNED)


async def test_another_domains_key(receiver: Receiver, alice: User) -> None:
    message = receiver.beta.message(alice)
    answer = await receiver.send(receiver.beta, message, keys=receiver.gamma.keys)
    assert (answer.status, answer.json) == (400, NOT_SIGNED)
    assert not await receiver.kept()


OTHER_AUTHORS = (
    f"did:web:{GAMMA}#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:{GAMMA}:0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:sub.{BETA}#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:{BETA}.evil.example#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:{BETA}:8443#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:{HERE}#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    "did:mailio:0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:key:{BETA}#0x446f4461302935ad8387d0349b726bf7dbbc5118",
    f"did:web:{BETA}#master",
    f"did:web:{BETA}",
)


async def test_an_author_who_does_not_belong_to_the_signers_domain(receiver: Receiver, alice: User) -> None:
    for author in OTHER_AUTHORS:
        answer = await receiver.send(receiver.beta, receiver.beta.message(alice, **{"from": author}))
        assert answer.status == 403, author
        assert answer.json["message"] == "the author does not belong to the sender's domain"
    assert not await receiver.kept()


async def test_an_author_that_is_no_did(receiver: Receiver, alice: User) -> None:
    for author in ("alice", "did:web", "did::x", "#master", "did:web:\u0431\u0435\u0442\u0430#0x1"):
        answer = await receiver.send(receiver.beta, receiver.beta.message(alice, **{"from": author}))
        assert answer.status in {400, 403}, author
    assert not await receiver.kept()


NO_DOMAINS = (
    "localhost", "mio.localhost", "localhost:8080", "127.0.0.1", "[::1]", "beta", "mio.beta.example:443",
     "2130706433", "mio..beta.example", "-", "mio.beta.example/x", "\ud800.example", "a" * 254 + ".example",
)  # fmt: skip


async def test_localhost_and_what_is_no_public_name_is_no_domain(receiver: Receiver, alice: User) -> None:
    """The reference server verifies names with `localhost` in them against its own key."""
    own = receiver.node.core.keys
    body = json.loads(receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now(), keys=own))
    for domain in NO_DOMAINS:
        answer = await receiver.post(json.dumps({**body, "senderDomain": domain}).encode())
        assert (answer.status, answer.json) == (400, {"error": "invalid domain"}), domain
    assert not receiver.dns.questions()


async def test_a_public_name_with_localhost_in_it_is_a_name_like_any_other(
    receiver: Receiver, alice: User
) -> None:
    message = receiver.beta.message(alice)
    answer = await receiver.send(
        receiver.beta, message, domain="localhost.evil.example", keys=receiver.node.core.keys
    )
    assert (answer.status, answer.json) == (400, {"error": "no Mailio DNS record found"})


async def test_a_domain_without_a_record_and_one_that_dns_says_nothing_about(
    receiver: Receiver, alice: User
) -> None:
    delta = Peer("mio.delta.example", 0xD1)
    answer = await receiver.send(delta, delta.message(alice))
    assert (answer.status, answer.json) == (400, {"error": "no Mailio DNS record found"})
    epsilon = Peer("mio.epsilon.example", 0xE1)
    receiver.dns.faults["mailio._mailiokey.mio.epsilon.example"] = Fault.SERVFAIL
    answer = await receiver.send(epsilon, epsilon.message(alice))
    assert (answer.status, answer.json["code"]) == (503, 503)
    assert answer.headers["Retry-After"]


# Keys


async def test_a_rotated_key_is_found_by_one_lookup_and_forgers_cause_no_more(
    receiver: Receiver, alice: User
) -> None:
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))
    receiver.clock.advance(70_000)
    rotated = Peer(BETA, 0x55)
    receiver.publish(rotated)
    before = len(receiver.dns.questions("TXT"))
    message = rotated.message(alice, id="second")
    receiver.receipt(await receiver.send(rotated, message))
    assert len(receiver.dns.questions("TXT")) == before + 1
    for number in range(20):
        forged = receiver.beta.message(alice, id=f"forged{number}")
        answer = await receiver.send(receiver.beta, forged)
        assert (answer.status, answer.json) == (400, NOT_SIGNED)
    assert len(receiver.dns.questions("TXT")) == before + 1
    receiver.receipt(await receiver.send(rotated, rotated.message(alice, id="third")))


# Again, too late, too early


async def test_a_replay_in_the_same_second_is_answered_alike_and_changes_nothing(
    receiver: Receiver, alice: User
) -> None:
    body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
    first = await receiver.post(body)
    answers = await asyncio.gather(*(receiver.post(body) for _ in range(10)))
    assert {answer.body for answer in answers} == {first.body}
    assert await receiver.kept() == len(await receiver.filed()) == 1


async def test_many_copies_at_the_same_moment_are_kept_once(receiver: Receiver, alice: User) -> None:
    body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
    answers = await asyncio.gather(*(receiver.post(body) for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    assert await receiver.kept() == len(await receiver.filed()) == 1


async def test_a_replay_on_the_next_day_and_after_a_restart(tmp_path: Path) -> None:
    async with dns_server() as dns:
        clock = VirtualClock(harness.START)
        async with harness.received(tmp_path, dns, clock) as receiver:
            alice = await receiver.node.user("alice")
            body = receiver.beta.signed(receiver.beta.message(alice), clock.now())
            receiver.receipt(await receiver.post(body))
            clock.advance(DAY)
            answer = await receiver.post(body)
            assert (answer.status, answer.json["message"]) == (
                400,
                "the request is not current: make it anew",
            )
        clock.advance(1_000)
        async with harness.received(tmp_path, dns, clock) as receiver:
            assert (await receiver.post(body)).status == 400
        clock.set(harness.START)
        async with harness.received(tmp_path, dns, clock) as receiver:
            receiver.receipt(await receiver.post(body))
            assert await receiver.kept() == len(await receiver.filed()) == 1


async def test_a_replay_through_another_peer(receiver: Receiver, alice: User) -> None:
    """Gamma has a message of beta's: under its own name it may not say it, under beta's it can't sign."""
    message = receiver.beta.message(alice)
    receiver.receipt(await receiver.send(receiver.beta, message))
    answer = await receiver.send(receiver.gamma, message)
    assert (answer.status, answer.json["code"]) == (403, 403)
    body = json.loads(receiver.beta.signed(message, receiver.clock.now()))
    answer = await receiver.post(json.dumps({**body, "senderDomain": GAMMA}).encode())
    assert (answer.status, answer.json) == (400, NOT_SIGNED)
    assert await receiver.kept() == 1


async def test_stale_and_future_timestamps(receiver: Receiver, alice: User) -> None:
    for off in (-601_000, 601_000, -DAY, DAY, -harness.START + 1):
        body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now() + off)
        answer = await receiver.post(body)
        assert (answer.status, answer.json["message"]) == (400, "the request is not current: make it anew"), (
            off
        )
    assert not await receiver.kept()


async def test_a_clock_that_is_some_minutes_off_is_no_attack(receiver: Receiver, alice: User) -> None:
    for off in (-599_000, 599_000):
        message = receiver.beta.message(alice, id=f"id{off}")
        receiver.receipt(await receiver.post(receiver.beta.signed(message, receiver.clock.now() + off)))


# Ids


async def test_two_senders_with_the_same_message_id_both_get_through(receiver: Receiver, alice: User) -> None:
    for peer in (receiver.beta, receiver.gamma):
        assert receiver.receipt(await receiver.send(peer, peer.message(alice))) == MESSAGE_ID
    assert len(await receiver.filed()) == 2
    assert {document["from"] for document in await receiver.documents(alice)} == {
        receiver.beta.author, receiver.gamma.author
    }  # fmt: skip


async def test_other_content_under_a_known_id_of_the_same_peer(receiver: Receiver, alice: User) -> None:
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))
    other = Peer(BETA, 0xB1)
    other.user = receiver.gamma.user
    for message in (receiver.beta.message(alice, thid="other"), other.message(alice)):
        answer = await receiver.send(receiver.beta, message)
        assert (answer.status, answer.json["message"]) == (
            409,
            "another message of this id was received before",
        )
    assert await receiver.kept() == 1


async def test_a_handshake_planted_by_a_chosen_message_id(receiver: Receiver, alice: User) -> None:
    """The id of the handshake in which alice accepts this sender becomes no document of hers, and no handshake."""
    planted = handshake_id(alice.address, receiver.beta.author)
    content = {"content": {"handshakeId": planted, "status": "accepted", "ownerAddress": alice.address}}
    message = receiver.beta.message(
        alice,
        id=planted,
        type="application/mailio-handshake+json",
        plainBodyBase64=base64.b64encode(json.dumps(content).encode()).decode(),
    )
    receiver.receipt(await receiver.send(receiver.beta, message))
    (filed,) = await receiver.filed()
    assert filed.id != planted
    assert filed.reason == "first_contact"
    database = f"userdb-{alice.address.encode().hex()}"
    assert await receiver.node.core.views.stores["userdb"].get(database, planted) is None
    assert not await receiver.node.core.log.stream(f"handshake-{alice.address}")
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice, id="next")))
    assert (await receiver.filed())[-1].reason != "handshake_accepted"


BAD_IDS = (
    "_design/x", "_local", "../../etc", "a/b", "a?b", "a%2fb", "a#b", "", "x" * 201, "a\nb", "\u202ea",
)  # fmt: skip


async def test_ids_that_mean_something_in_a_url_or_a_log_line(receiver: Receiver, alice: User) -> None:
    for identifier in BAD_IDS:
        answer = await receiver.send(receiver.beta, receiver.beta.message(alice, id=identifier))
        assert (answer.status, answer.json["message"][:17]) == (400, "error in field ID"), identifier


async def test_a_sender_can_not_have_itself_shown_as_the_owner(receiver: Receiver, alice: User) -> None:
    message = receiver.beta.message(alice, **{"from": f"did:web:{BETA}#{alice.address}"})
    receiver.receipt(await receiver.send(receiver.beta, message))
    (filed,) = await receiver.filed()
    assert filed.reason == "first_contact"


# Who is there


async def test_what_is_refused_does_not_tell_more_than_a_did_document_does(
    receiver: Receiver, alice: User
) -> None:
    """Whether an address is here is public (`/<address>/did.json`); what else there is to know, is not told."""
    nobody = f"did:web:{HERE}#0x{'9' * 40}"
    unknown = await receiver.send(receiver.beta, receiver.beta.message(nobody))
    await receiver.node.core.erasure.erase(alice.address, "test", "test")
    await receiver.node.settled()
    erased = await receiver.send(receiver.beta, receiver.beta.message(alice))
    assert (unknown.status, unknown.body) == (erased.status, erased.body)


async def test_a_message_to_somebody_who_was_erased_since_is_not_kept_again(
    receiver: Receiver, alice: User
) -> None:
    message = receiver.beta.message(alice)
    first = await receiver.send(receiver.beta, message)
    await receiver.node.settled()
    await receiver.node.core.erasure.erase(alice.address, "test", "test")
    again = await receiver.send(receiver.beta, message)
    assert (again.status, again.body) == (202, first.body)
    assert await receiver.kept() == 1
    (record,) = await receiver.node.core.log.read(0, types={"MailAccepted"})
    assert not isinstance(record.event, MailAccepted)


# When the node itself is in trouble


async def test_no_receipt_is_given_while_the_disk_fails_and_the_same_message_is_taken_later(
    receiver: Receiver, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, message = receiver.node.core, receiver.beta.message(alice)

    async def failing(*_: Any, **__: Any) -> Any:
        raise StorageUnavailable("the disk is full", "no space left")

    for part, name in ((core.blobs, "write_apart"), (core.log, "append")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, failing)
            answer = await receiver.send(receiver.beta, message)
            assert (answer.status, answer.json) == (503, {"code": 503, "message": "the disk is full"})
            assert answer.headers["Retry-After"]
    assert not await receiver.kept()
    receiver.receipt(await receiver.send(receiver.beta, message))
    assert len(await receiver.filed()) == 1


async def test_a_backlog_that_is_full_is_told_as_something_that_passes(
    receiver: Receiver, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.node.core.acceptance, "_backlog_limit", 0)
    answer = await receiver.send(receiver.beta, receiver.beta.message(alice))
    assert (answer.status, answer.json["message"]) == (
        503,
        "too much mail waits to be filed, try again later",
    )
    assert answer.headers["Retry-After"]
