"""Lookups of peers: what they may know, once, and at a bounded rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from events.account import DisableAccount
from events.log.clock import VirtualClock
from node.crypto.base64_text import to_base64
from node.crypto.cbor import decode, equal_to_json
from node.mtp.did_lookup import HASH_SCHEME
from node.mtp.envelope import DID_LOOKUP, HANDSHAKE_LOOKUP, Opened, open_reply, sign_request
from node.mtp.turns import LOOKUP_RATE
from tests.integration.api.harness import Answer, User
from tests.integration.mtp import harness
from tests.integration.mtp.harness import Receiver
from tests.servers.dns import dns_server

UNKNOWN = to_base64(bytes(32))


async def hash_of(receiver: Receiver, user: User) -> str:
    entry = await receiver.node.core.directory.by_email(user.email)
    assert entry is not None
    return entry.email_hash


def asking(receiver: Receiver, *hashes: str, at: int | None = None, **changes: Any) -> dict[str, Any]:
    header = {
        "signatureScheme": "EdDSA_X25519",
        "emailLookupHashScheme": HASH_SCHEME,
        "timestamp": receiver.clock.now() if at is None else at,
    }
    lookups = [{"emailHash": one, "email": "alice@alpha.example"} for one in hashes]
    return {"senderAddress": "0x1", "lookupHeader": header, "didLookups": lookups, **changes}


def answered(receiver: Receiver, answer: Answer) -> Opened:
    assert answer.status == 200, answer
    opened = open_reply(DID_LOOKUP, answer.body)
    assert opened.is_signed_by([receiver.node.core.keys.public_key])
    opened.require_covered()
    return opened


async def test_a_document_is_found_by_the_hash_of_an_email_and_the_signature_covers_it(
    receiver: Receiver, alice: User
) -> None:
    known = await hash_of(receiver, alice)
    answer = await receiver.ask(receiver.beta, DID_LOOKUP, asking(receiver, known, UNKNOWN, "nonsense"))
    opened = answered(receiver, answer)
    (found,) = opened.payload["foundLookups"]
    assert found["emailHash"] == known
    assert found["didDocument"]["id"] == f"did:mailio:{alice.address}"
    assert (found["supportsMailio"], found["supportsStandardEmail"]) == (True, True)
    assert [one["emailHash"] for one in opened.payload["notFoundLookups"]] == [UNKNOWN, "nonsense"]
    assert equal_to_json(decode(opened.signed), opened.payload)


async def test_who_was_disabled_or_never_was_gives_the_same_answer(receiver: Receiver, alice: User) -> None:
    known = await hash_of(receiver, alice)
    await receiver.node.core.accounts.execute(alice.address, DisableAccount(), "test")
    await receiver.node.settled()
    opened = answered(
        receiver, await receiver.ask(receiver.beta, DID_LOOKUP, asking(receiver, known, UNKNOWN))
    )
    disabled, unknown = opened.payload["notFoundLookups"]
    assert {**disabled, "emailHash": ""} == {**unknown, "emailHash": ""}


async def test_a_lookup_is_answered_once_also_across_a_restart(tmp_path: Path) -> None:
    async with dns_server() as dns:
        clock = VirtualClock(harness.START)
        async with harness.received(tmp_path, dns, clock) as receiver:
            body = sign_request(
                DID_LOOKUP, asking(receiver, UNKNOWN), receiver.beta.keys, receiver.beta.domain
            )
            answered(receiver, await receiver.post(body, DID_LOOKUP.path))
            assert (await receiver.post(body, DID_LOOKUP.path)).status == 409
        async with harness.received(tmp_path, dns, clock) as receiver:
            answer = await receiver.post(body, DID_LOOKUP.path)
            assert (answer.status, answer.json["message"]) == (
                409,
                "the request was answered already: make it anew",
            )
            answered(
                receiver,
                await receiver.ask(receiver.beta, DID_LOOKUP, asking(receiver, UNKNOWN, at=clock.now() + 1)),
            )
            clock.advance(700_000)
            assert (await receiver.post(body, DID_LOOKUP.path)).status == 400


@pytest.mark.parametrize("off", [-601_000, 601_000])
async def test_a_lookup_that_is_not_current_is_refused(receiver: Receiver, off: int) -> None:
    payload = asking(receiver, UNKNOWN, at=receiver.clock.now() + off)
    for kind, content in ((DID_LOOKUP, payload), (HANDSHAKE_LOOKUP, {**payload, "handshakeLookups": []})):
        answer = await receiver.ask(receiver.beta, kind, content)
        assert (answer.status, answer.json["message"]) == (400, "the request is not current: make it anew")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"senderAddress": ""}, 400), ({"lookupHeader": None}, 400), ({"didLookups": None}, 400),
        ({"didLookups": [{}]}, 400), ({"didLookups": [{"emailHash": "", "email": ""}] * 51}, 413),
        ({"didLookups": [{"emailHash": "x" * 5_000, "email": ""}]}, 413), ({"lookupHeader": {"timestamp": 1}}, 400),
    ],
)  # fmt: skip
async def test_a_lookup_that_is_none_is_refused(
    receiver: Receiver, changed: dict[str, Any], status: int
) -> None:
    answer = await receiver.ask(receiver.beta, DID_LOOKUP, asking(receiver, UNKNOWN, **changed))
    assert answer.status == status


@pytest.mark.parametrize("lookups", [None, "x", {}])
async def test_a_handshake_lookup_that_is_none_is_refused(receiver: Receiver, lookups: Any) -> None:
    payload = {**asking(receiver), "handshakeLookups": lookups}
    assert (await receiver.ask(receiver.beta, HANDSHAKE_LOOKUP, payload)).status == 400


async def test_a_handshake_lookup_is_answered_with_a_signature(receiver: Receiver) -> None:
    payload = {**asking(receiver), "handshakeLookups": [{"address": "0x" + "1" * 40}]}
    answer = await receiver.ask(receiver.beta, HANDSHAKE_LOOKUP, payload)
    assert answer.status == 200
    opened = open_reply(HANDSHAKE_LOOKUP, answer.body)
    assert opened.is_signed_by([receiver.node.core.keys.public_key])
    assert opened.payload["handshakes"] == []


async def test_the_directory_can_not_be_read_out_by_asking_often(receiver: Receiver) -> None:
    """Fifty a request: after a burst a peer gets some ten answers a second, and another peer its own."""
    hashes = [to_base64(number.to_bytes(32, "big")) for number in range(50)]
    answers = [
        (
            await receiver.ask(
                receiver.beta, DID_LOOKUP, asking(receiver, *hashes, at=receiver.clock.now() + number)
            )
        ).status
        for number in range(LOOKUP_RATE.burst // 50 + 3)
    ]
    assert answers == [200] * 10 + [429] * 3
    answered(receiver, await receiver.ask(receiver.gamma, DID_LOOKUP, asking(receiver, UNKNOWN)))


async def test_a_message_is_no_lookup(receiver: Receiver, alice: User) -> None:
    body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
    answer = await receiver.post(body, DID_LOOKUP.path)
    assert (answer.status, answer.json) == (400, {"error": "Invalid request body"})
