"""Messages of peers: taken once, filed by the owner's handshakes, answered with a receipt."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2

from actors.messages import Execute
from events.account import DisableAccount
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id
from events.log.clock import VirtualClock
from events.log.log import Origin
from events.mail import MailAccepted
from events.policy import Folder, Reason
from node.core import Core
from node.crypto.base64_text import to_base64
from node.mtp.stored import as_mail, message_of
from tests.integration.api.harness import PASSWORD, User, database
from tests.integration.mtp import harness
from tests.integration.mtp.harness import BETA, GAMMA, HERE, MESSAGE_ID, Receiver
from tests.servers.dns import dns_server


async def accepted(core: Core) -> list[MailAccepted]:
    records = await core.log.read(0, types={"MailAccepted"})
    return [record.event for record in records if isinstance(record.event, MailAccepted)]


async def say(receiver: Receiver, owner: User, sender: str, status: str) -> None:
    terms = Terms(id=handshake_id(owner.address, sender), status=status, created=1)
    await receiver.node.core.actors.ask(
        "handshake", owner.address, Execute(RecordHandshake(terms), Origin(actor="test"))
    )


async def test_a_message_is_on_disk_at_the_receipt_and_then_in_the_users_database(
    receiver: Receiver, alice: User
) -> None:
    beta = receiver.beta
    answer = await receiver.send(beta, beta.message(alice, thid="t", pthid="p", unknown="gone"))
    assert receiver.receipt(answer) == MESSAGE_ID
    (event,) = await accepted(receiver.node.core)
    assert (event.transport, event.helo, event.message_id, event.authenticated) == (
        "mtp",
        BETA,
        MESSAGE_ID,
        True,
    )
    assert event.authors == (beta.author,)
    (filed,) = await receiver.filed()
    assert (filed.folder, filed.reason, filed.sender) == (Folder.INBOX, Reason.FIRST_CONTACT, beta.author)
    (document,) = await receiver.documents(alice)
    assert document["id"] == filed.id != MESSAGE_ID
    assert document["from"] == beta.author
    assert document["isReplied"] is True
    sent = beta.message(alice, thid="t", pthid="p")
    assert document["didCommMessage"] == sent
    assert "securityStatus" not in document


async def test_the_same_message_again_gets_the_same_receipt_and_is_filed_once(
    receiver: Receiver, alice: User
) -> None:
    message = receiver.beta.message(alice)
    first = await receiver.send(receiver.beta, message)
    receiver.clock.advance(30_000)
    again = await receiver.send(receiver.beta, message)
    assert (again.status, again.body) == (202, first.body)
    assert len(await receiver.filed()) == 1


async def test_a_lost_reply_is_made_up_for_after_a_restart(tmp_path: Path) -> None:
    async with dns_server() as dns:
        clock = VirtualClock(harness.START)
        async with harness.received(tmp_path, dns, clock) as receiver:
            alice = await receiver.node.user("alice")
            message = receiver.beta.message(alice)
            first = await receiver.send(receiver.beta, message)
        clock.advance(60_000)
        async with harness.received(tmp_path, dns, clock) as receiver:
            again = await receiver.send(receiver.beta, message)
            assert (again.status, again.body) == (202, first.body)
            assert len(await receiver.filed()) == 1


async def test_an_attachment_becomes_a_file_of_each_recipients_document(
    receiver: Receiver, alice: User
) -> None:
    bob = await receiver.node.user("bob")
    content = b"encrypted bytes " * 40_000
    files = [
        {"id": "../a/b.pdf", "data": {"base64": to_base64(content), "links": ["https://evil.example/x"]}},
        {"id": "b.pdf", "data": {"base64": to_base64(b"two"), "links": None}},
        {"id": "", "data": {"links": None}},
    ]
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice, bob, attachments=files)))
    assert len(await receiver.filed()) == 2
    for user in (alice, bob):
        (document,) = await receiver.documents(user)
        found = document["didCommMessage"]["attachments"]
        assert [one["id"] for one in found] == ["../a/b.pdf", "b.pdf", ""]
        assert found[0]["data"]["hash"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert "base64" not in found[0]["data"]
        (link,) = found[0]["data"]["links"]
        assert link == f"/{database(user)}/{document['id']}/b.pdf"
        assert found[1]["data"]["links"][0].endswith("/2-b.pdf")
        credentials = base64.b64encode(f"{user.address}:{PASSWORD}".encode()).decode()
        answer = await receiver.node.get(link, Authorization=f"Basic {credentials}")
        assert (answer.status, answer.body) == (200, content)


async def test_an_accepted_sender_is_known_to_be_who_it_is(receiver: Receiver, alice: User) -> None:
    await say(receiver, alice, receiver.beta.author, "accepted")
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))
    (filed,) = await receiver.filed()
    assert (filed.folder, filed.reason) == (Folder.INBOX, Reason.HANDSHAKE_ACCEPTED)


async def test_whoever_takes_no_message_is_named_while_the_others_get_theirs(
    receiver: Receiver, alice: User
) -> None:
    bob, carol = await receiver.node.user("bob"), await receiver.node.user("carol")
    await say(receiver, bob, receiver.beta.author, "revoked")
    await receiver.node.core.accounts.execute(carol.address, DisableAccount(), "test")
    await receiver.node.settled()
    nobody = f"did:web:{HERE}#0x{'9' * 40}"
    message = receiver.beta.message(alice, bob, carol, nobody, f"did:web:{GAMMA}#{bob.address}")
    receiver.receipt(await receiver.send(receiver.beta, message))
    (event,) = await accepted(receiver.node.core)
    assert [one.address for one in event.recipients] == [alice.address]
    assert {one.address: one.code for one in event.turned} == {
        bob.address: "5.8.2", carol.address: "5.2.1", "0x" + "9" * 40: "5.1.1"
    }  # fmt: skip
    assert len(await receiver.filed()) == 1


async def test_when_nobody_takes_it_the_sender_is_told_so_and_nothing_is_kept(
    receiver: Receiver, alice: User
) -> None:
    await say(receiver, alice, receiver.beta.author, "revoked")
    nobody = f"did:web:{HERE}#0x{'9' * 40}"
    elsewhere = f"did:web:{GAMMA}#{alice.address}"
    for recipients, status, text in (
        ([alice], 403, "the recipient does not accept mail from this sender"),
        ([nobody], 404, "no such mailbox here"),
        ([elsewhere], 404, "no local recipients found"),
    ):
        answer = await receiver.send(receiver.beta, receiver.beta.message(*recipients))
        assert (answer.status, answer.json) == (status, {"code": status, "message": text})
    assert not await accepted(receiver.node.core)


async def test_a_full_mailbox_is_told_as_something_that_passes(tmp_path: Path) -> None:
    async with harness.receiver(tmp_path) as receiver:
        alice = await receiver.node.user("alice")
        receiver.node.core.acceptance._quota = 100
        answer = await receiver.send(receiver.beta, receiver.beta.message(alice))
        assert (answer.status, answer.json["code"]) == (507, 507)


class Offers:
    """Knows one offer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def redeem(self, owner: str, nonce: str, requester_did: str, message_id: str) -> bool:
        self.asked.append((owner, nonce, requester_did, message_id))
        return nonce == "NonceNonceNonceN"


def showing(nonce: Any) -> str:
    return to_base64(json.dumps({"nonce": nonce}).encode())


async def test_a_request_with_an_offer_goes_to_the_handshakes_and_one_without_is_refused(
    receiver: Receiver, alice: User
) -> None:
    offers = Offers()
    receiver.node.core.peer_door._taken._offers = offers
    kind = {"type": "application/mailio-handshake-request+json", "intent": "handshake_request"}
    for nonce in ("wrong", 7, None):
        message = receiver.beta.message(alice, **kind, plainBodyBase64=showing(nonce))
        answer = await receiver.send(receiver.beta, message)
        assert answer.status == 403
        assert answer.json["message"] == "the handshake offer is unknown, used or expired"
    message = receiver.beta.message(alice, **kind, plainBodyBase64=showing("NonceNonceNonceN"))
    receiver.receipt(await receiver.send(receiver.beta, message))
    assert offers.asked[-1] == (alice.address, "NonceNonceNonceN", receiver.beta.author, MESSAGE_ID)
    (filed,) = await receiver.filed()
    assert (filed.folder, filed.reason) == (Folder.HANDSHAKE, Reason.HANDSHAKE_REQUESTED)


async def test_an_answer_to_a_request_needs_no_offer(receiver: Receiver, alice: User) -> None:
    kind = "application/mailio-handshake-response+json"
    for number, intent in enumerate(
        ("handshake", "handshake_request", "handsake_response", "handshake_response")
    ):
        message = receiver.beta.message(alice, id=f"id{number}", type=kind, intent=intent)
        receiver.receipt(await receiver.send(receiver.beta, message))
    assert {filed.folder for filed in await receiver.filed()} == {Folder.HANDSHAKE}


class Reports:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, list[str]]] = []

    async def record(self, peer: str, message_id: str, statuses: Any) -> None:
        self.told.append((peer, message_id, [str(status.code) for status in statuses]))


async def test_a_delivery_notification_is_told_to_whoever_sent_the_message(
    receiver: Receiver, alice: User
) -> None:
    reports = Reports()
    receiver.node.core.peer_door._taken._reports = reports
    statuses = {"statusCodes": [{"class": 2, "subject": 0, "detail": 0, "address": alice.address}]}
    message = {
        "type": "application/didcomm-signed+json",
        "id": MESSAGE_ID,
        "from": f"did:web:{BETA}:{receiver.beta.keys.address}",
        "to": [f"did:web:{HERE}#{alice.address}"],
        "intent": "delivery",
        "plainBodyBase64": to_base64(json.dumps(statuses).encode()),
    }
    assert receiver.receipt(await receiver.send(receiver.beta, message)) == MESSAGE_ID
    assert reports.told == [(BETA, MESSAGE_ID, ["2.0.0"])]
    assert not await accepted(receiver.node.core)


async def test_what_is_kept_proves_who_sent_it_and_can_be_read_as_a_mail(
    receiver: Receiver, alice: User
) -> None:
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))
    (event,) = await accepted(receiver.node.core)
    raw = await receiver.node.core.blobs.read(event.blob)
    assert message_of(raw).id == MESSAGE_ID
    assert as_mail(raw).startswith(f"From: {receiver.beta.author}\r\n".encode())


async def test_messages_are_taken_at_the_path_of_the_settings_and_at_the_usual_one(tmp_path: Path) -> None:
    async with harness.receiver(tmp_path, messaging_path="/api/v2/inbox") as receiver:
        alice = await receiver.node.user("alice")
        body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
        for path in ("/api/v2/inbox", "/api/v1/mtp/message"):
            receiver.receipt(await receiver.post(body, path))
        document = (await receiver.node.get("/.well-known/did.json")).json
        assert document["service"][1]["serviceEndpoint"] == f"{HERE}/api/v2/inbox"


async def test_a_browser_that_writes_cbor_in_its_own_way_is_understood(
    receiver: Receiver, alice: User
) -> None:
    """Times as floats, wide heads, null for what is not there (wire spec section 1.7)."""
    message = receiver.beta.message(alice, createdTime=1_760_000_000_000)
    signed = cbor2.dumps(
        {
            "timestamp": float(receiver.clock.now()),
            "signatureScheme": "EdDSA_X25519",
            "didCommMessage": {**message, "createdTime": 1.76e12, "thid": None, "attachments": []},
        }
    )
    body = {
        "didCommRequest": receiver.beta.request(message, receiver.clock.now()),
        "cborPayloadBase64": to_base64(b"\xb9\x00\x03" + signed[1:]),
        "signatureBase64": to_base64(receiver.beta.keys.sign(b"\xb9\x00\x03" + signed[1:])),
        "senderDomain": BETA,
    }
    receiver.receipt(await receiver.post(json.dumps(body).encode()))
    (document,) = await receiver.documents(alice)
    assert document["didCommMessage"] == message
