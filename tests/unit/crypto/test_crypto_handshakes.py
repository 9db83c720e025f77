"""Handshake documents: the owner's signature covers every member, or the handshake does not count."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from events.errors import Forbidden, InvalidInput, MailioError
from events.identity import handshake_id, web_did
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.cbor import decode, encode
from node.crypto.handshakes import (
    Refusal,
    handshake_document,
    read_handshake_body,
    sign_handshake,
    verify_handshake,
)
from node.crypto.keys import UserKeys
from tests.unit.crypto.conftest import NOW
from tests.vectors.vectors import vector


def content(alice: UserKeys, bob: UserKeys, **changes: Any) -> dict[str, Any]:
    sender = str(web_did("mio.alpha.example", alice.address))
    stated = {
        "handshakeId": handshake_id(bob.address, sender),
        "originServer": {"domain": "mio.beta.example"},
        "signupSubType": 3,
        "signupRules": {"frequencyMinutes": 60},
        "status": "accepted",
        "level": "personal",
        "senderMetadata": {"address": alice.address, "emailHash": to_base64(bytes(32))},
        "type": "user",
        "created": NOW,
    }
    return {name: value for name, value in {**stated, **changes}.items() if value is not ...}


@pytest.fixture
def signed(alice: UserKeys, bob: UserKeys) -> dict[str, Any]:
    return sign_handshake(content(alice, bob), bob)


def refusal(document: dict[str, Any], owner: UserKeys) -> str:
    with pytest.raises((Forbidden, InvalidInput)) as refused:
        verify_handshake(document, owner.address, owner.public_key)
    return refused.value.private


def resign(document: dict[str, Any], owner: UserKeys, changed: dict[str, Any]) -> dict[str, Any]:
    """Sign whatever it is, without the checks of an honest client."""
    payload = encode(changed)
    return {
        "content": changed,
        "cborPayloadBase64": to_base64(payload),
        "signatureBase64": to_base64(owner.sign(payload)),
    }


def test_a_signed_handshake_is_read_with_all_its_members(
    signed: dict[str, Any], alice: UserKeys, bob: UserKeys
) -> None:
    read = verify_handshake(signed, bob.address, bob.public_key)
    assert (read.owner, read.status, read.level, read.type) == (bob.address, "accepted", "personal", "user")
    assert (read.subtype, read.frequency_minutes, read.created) == (3, 60, NOW)
    assert (read.sender_address, read.origin_domain) == (alice.address, "mio.beta.example")
    assert read.content["senderMetadata"]["emailHash"] == read.sender_email_hash


def test_created_is_a_float_in_cbor_and_any_number_in_json(signed: dict[str, Any], bob: UserKeys) -> None:
    assert isinstance(decode(from_base64(signed["cborPayloadBase64"]))["created"], float)
    for number in (NOW, float(NOW)):
        signed["content"]["created"] = number
        assert verify_handshake(signed, bob.address, bob.public_key).created == NOW


def every_change(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(found for name in value for found in every_change(value[name], (*path, name)))]


def test_changing_removing_or_adding_any_member_of_the_json_is_refused(
    signed: dict[str, Any], bob: UserKeys
) -> None:
    for path in every_change(signed["content"]):
        if not path:
            continue
        replacements: tuple[Any, ...] = ("tampered", 1, None, [], {}, ...)
        for replacement in replacements:
            document = copy.deepcopy(signed)
            holder = document["content"]
            for name in path[:-1]:
                holder = holder[name]
            if replacement is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = replacement
            assert refusal(document, bob) == Refusal.CONTENT_DIFFERS, (path, replacement)
    document = copy.deepcopy(signed)
    document["content"]["Status"] = "revoked"
    assert refusal(document, bob) == Refusal.CONTENT_DIFFERS


def test_changing_any_byte_of_the_signed_payload_or_signature_is_refused(
    signed: dict[str, Any], bob: UserKeys
) -> None:
    for member in ("cborPayloadBase64", "signatureBase64"):
        raw = from_base64(signed[member])
        for index in range(len(raw)):
            changed = bytearray(raw)
            changed[index] ^= 1
            assert refusal({**signed, member: to_base64(bytes(changed))}, bob) == Refusal.BAD_SIGNATURE


def test_a_handshake_of_another_owner_is_refused(
    signed: dict[str, Any], alice: UserKeys, bob: UserKeys
) -> None:
    assert refusal(signed, alice) == Refusal.BAD_SIGNATURE
    with pytest.raises(Forbidden) as refused:
        verify_handshake(signed, alice.address, bob.public_key)
    assert refused.value.private == Refusal.FOREIGN_ADDRESS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ownerPublicKey": to_base64(bytes(32))}, Refusal.FOREIGN_KEY),
        ({"ownerAddress": "0x" + "0" * 40}, Refusal.FOREIGN_ADDRESS),
        ({"status": "maybe"}, Refusal.UNKNOWN_VOCABULARY),
        ({"level": "high"}, Refusal.UNKNOWN_VOCABULARY),
        ({"type": "group"}, Refusal.UNKNOWN_VOCABULARY),
        ({"signatureScheme": "none"}, Refusal.UNKNOWN_VOCABULARY),
        ({"status": None}, Refusal.BAD_MEMBER),
        ({"originServer": {}}, Refusal.BAD_MEMBER),
        ({"originServer": "x"}, Refusal.BAD_MEMBER),
        ({"originServer": {"domain": "d" * 300}}, Refusal.BAD_MEMBER),
        ({"created": "now"}, Refusal.BAD_MEMBER),
        ({"created": -1}, Refusal.BAD_MEMBER),
        ({"created": 1e300}, Refusal.BAD_MEMBER),
        ({"created": True}, Refusal.BAD_MEMBER),
        ({"handshakeId": "../_design/x"}, Refusal.BAD_MEMBER),
        ({"senderMetadata": {"address": "0x12"}}, Refusal.BAD_MEMBER),
        ({"senderMetadata": {"emailHash": "AAAA"}}, Refusal.BAD_MEMBER),
        ({"signupRules": {"frequencyMinutes": -5}}, Refusal.BAD_MEMBER),
        ({"signupRules": {"frequencyMinutes": 2**60}}, Refusal.BAD_MEMBER),
        ({"signupSubType": 2**40}, Refusal.BAD_MEMBER),
    ],
    ids=repr,
)
def test_what_the_owner_signed_must_still_make_sense(
    alice: UserKeys, bob: UserKeys, signed: dict[str, Any], changes: dict[str, Any], reason: Refusal
) -> None:
    assert refusal(resign(signed, bob, {**signed["content"], **changes}), bob) == reason


def test_the_members_that_may_be_missing_may_be_missing(alice: UserKeys, bob: UserKeys) -> None:
    optional = ("handshakeId", "signupSubType", "signupRules", "senderMetadata", "type")
    read = verify_handshake(
        sign_handshake(content(alice, bob, **dict.fromkeys(optional, ...)), bob), bob.address, bob.public_key
    )
    assert (read.id, read.type, read.sender_address, read.subtype, read.frequency_minutes) == (
        "",
        "",
        "",
        0,
        0,
    )


@pytest.mark.parametrize(
    "document", [{}, {"content": 1}, {"content": {}, "signatureBase64": 5, "cborPayloadBase64": ""},
                 {"content": {}, "signatureBase64": "", "cborPayloadBase64": "!"}],
)  # fmt: skip
def test_what_is_no_handshake_is_invalid_input(document: dict[str, Any], bob: UserKeys) -> None:
    with pytest.raises(InvalidInput):
        verify_handshake(document, bob.address, bob.public_key)


def test_a_signed_bomb_is_refused(bob: UserKeys) -> None:
    for payload in (b"\x81" * 5000 + b"\x00", b"\x9b" + b"\xff" * 8, b"\xa0" + b"\x00" * 20_000):
        bomb = {
            "content": {},
            "cborPayloadBase64": to_base64(payload),
            "signatureBase64": to_base64(bob.sign(payload)),
        }
        assert refusal(bomb, bob) == Refusal.MALFORMED_CBOR


def test_the_body_is_read_out_of_a_message_document(signed: dict[str, Any], bob: UserKeys) -> None:
    document = handshake_document(signed["content"]["handshakeId"], signed, str(bob.did), NOW)
    assert read_handshake_body(document) == signed
    stored = vector("handshake-stored-document")[1]["document"]
    assert verify_handshake(read_handshake_body(stored), bob.address, bob.public_key).status == "accepted"


@pytest.mark.parametrize(
    "body", [None, 5, "", "!", to_base64(b"[]"), to_base64(b"\xff\xfe"), to_base64(b'{"a":' + b"[" * 30_000), "A" * 2**20],
)  # fmt: skip
def test_a_body_that_is_missing_malformed_or_huge_is_invalid_input(body: Any) -> None:
    with pytest.raises(InvalidInput):
        read_handshake_body({"didCommMessage": {"plainBodyBase64": body}})


def test_documents_without_a_body_are_invalid_input() -> None:
    documents: tuple[dict[str, Any], ...] = ({}, {"didCommMessage": None}, {"didCommMessage": []})
    for document in documents:
        with pytest.raises(MailioError):
            read_handshake_body(document)


def test_honest_clients_can_not_sign_nonsense(alice: UserKeys, bob: UserKeys) -> None:
    with pytest.raises(InvalidInput):
        sign_handshake(content(alice, bob, status="maybe"), bob)


def test_json_of_a_signed_handshake_is_plain(signed: dict[str, Any]) -> None:
    assert '"created": 1760000000000' in json.dumps(signed)
