"""The signed envelope: whatever comes is refused with our own error, or is what was signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import InvalidInput, LimitExceeded, MailioError
from node.crypto.keys import ServerKeys
from node.mtp.envelope import (
    DID_LOOKUP,
    MESSAGE,
    InvalidEnvelope,
    Opened,
    open_reply,
    open_request,
    sign_reply,
    sign_request,
)
from node.mtp.message import read_request
from tests.vectors.vectors import vector

KEYS = ServerKeys(b"a" * 32, 0)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
PAYLOADS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    ),
    max_size=5,
)


def body_of(payload: dict[str, Any], **changed: Any) -> bytes:
    """Return a signed request with members of its envelope changed afterwards."""
    return json.dumps(
        {**json.loads(sign_request(MESSAGE, payload, KEYS, "mio.alpha.example")), **changed}
    ).encode()


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_what_was_signed_opens_verifies_and_is_covered(payload: dict[str, Any]) -> None:
    opened = open_request(MESSAGE, sign_request(MESSAGE, payload, KEYS, "mio.alpha.example"))
    assert opened.payload == payload
    assert opened.is_signed_by([b"b" * 32, KEYS.public_key])
    assert not opened.is_signed_by([b"b" * 32])
    assert not opened.is_signed_by([])
    opened.require_covered()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.builds(lambda text: text.encode("utf-8", "replace"), st.text(max_size=200))
)
def test_any_bytes_are_refused_with_our_own_error(body: bytes) -> None:
    with pytest.raises((InvalidEnvelope, LimitExceeded)):
        open_request(MESSAGE, body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_one_byte_of_a_request_is_taken_for_what_was_signed(data: st.DataObject) -> None:
    body = bytearray(
        sign_request(MESSAGE, vector("mtp-message-request")[0]["didCommRequest"], KEYS, "a.example")
    )
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != body[place]))
    try:
        opened = open_request(MESSAGE, bytes(body))
        if opened.is_signed_by([KEYS.public_key]):
            opened.require_covered()
            read_request(opened.payload)
            assert opened.payload == vector("mtp-message-request")[0]["didCommRequest"]
    except (InvalidInput, LimitExceeded):
        return


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["didCommRequest"].update(timestamp=1),
        lambda body: body["didCommRequest"]["didCommMessage"].update(intent="handshake"),
        lambda body: body["didCommRequest"]["didCommMessage"].update(pthid="x"),
        lambda body: body["didCommRequest"]["didCommMessage"]["body"]["recipients"].pop(),
        lambda body: body["didCommRequest"]["didCommMessage"].pop("body"),
        lambda body: body["didCommRequest"]["didCommMessage"].update(
            From="did:web:evil.example#0x" + "1" * 40
        ),
        lambda body: body["didCommRequest"].update(timestamp=True),
        lambda body: body["didCommRequest"]["didCommMessage"]["body"].update(tag="\ud800"),
    ],
)
def test_a_body_that_differs_from_the_signed_bytes_is_refused(change: Callable[[Any], Any]) -> None:
    body = vector("mtp-message-request")[1]["body"]
    body = json.loads(json.dumps(body))
    change(body)
    opened = open_request(MESSAGE, json.dumps(body).encode())
    with pytest.raises(InvalidEnvelope, match="signature verification failed"):
        opened.require_covered()


@pytest.mark.parametrize(
    "spelled",
    [
        {"b": 1.0, "a": "x"}, {"a": "x", "b": 1, "c": None, "d": [], "e": 0}, {"a": "x", "b": 1.0, "z": False},
    ],
)  # fmt: skip
def test_other_spellings_of_the_same_are_taken(spelled: dict[str, Any]) -> None:
    opened = open_request(MESSAGE, body_of({"a": "x", "b": 1}))
    signed = cbor2.dumps(spelled)
    Opened(
        kind=MESSAGE, payload=opened.payload, signed=signed, signature=b"", sender_domain=""
    ).require_covered()


def test_the_members_that_go_loses_are_passed_over_in_did_lookups_only() -> None:
    document = {"foundLookups": [{"didDocument": {"id": "did:mailio:0x1", "service": []}}]}
    opened = open_reply(DID_LOOKUP, sign_reply(DID_LOOKUP, document, KEYS, lossy=True))
    opened.require_covered()
    with pytest.raises(InvalidEnvelope):
        Opened(
            kind=MESSAGE, payload=opened.payload, signed=opened.signed, signature=b"", sender_domain=""
        ).require_covered()


SIGNED = json.loads(sign_request(MESSAGE, {"a": 1}, KEYS, "mio.alpha.example"))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "Invalid request body"),
        (b"[]", "Invalid request body"),
        (b"{}", "Invalid request body"),
        (b'{"didCommRequest":{"a":1e999}}', "Invalid request body"),
        (b'{"didCommRequest":{"a":NaN}}', "Invalid request body"),
        (b'{"didCommRequest":{"a":' + b"9" * 5000 + b"}}", "Invalid request body"),
        (b'{"didCommRequest":{"a":1,"a":1}}', "Invalid request body"),
        (b'{"didCommRequest":{},"didCommRequest":{}}', "Invalid request body"),
        (b'\xff{"didCommRequest":{}}', "Invalid request body"),
        (b'{"didCommRequest":' + b"[" * 50_000, "Invalid request body"),
        (b'{"didCommRequest":[]}', "Invalid request body"),
        (json.dumps({**SIGNED, "senderDomain": 1}).encode(), "Invalid request body"),
        (json.dumps({**SIGNED, "cborPayloadBase64": None}).encode(), "Invalid request body"),
        (json.dumps({**SIGNED, "signatureBase64": "QUJD"}).encode(), "error in field SignatureBase64, tag base64, parameter "),
        (json.dumps({**SIGNED, "signatureBase64": ""}).encode(), "error in field SignatureBase64, tag required, parameter "),
        (json.dumps({**SIGNED, "cborPayloadBase64": "QUJ"}).encode(), "error in field CborPayloadBase64, tag base64, parameter "),
        (json.dumps({**SIGNED, "cborPayloadBase64": "QUJD\n"}).encode(), "error in field CborPayloadBase64, tag base64, parameter "),
        (json.dumps({**SIGNED, "senderDomain": ""}).encode(), "error in field SenderDomain, tag required, parameter "),
        (json.dumps({**SIGNED, "senderDomain": "a" * 300}).encode(), "invalid domain"),
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused_in_the_reference_servers_words(body: bytes, error: str) -> None:
    with pytest.raises(InvalidEnvelope) as refused:
        open_request(MESSAGE, body)
    assert (refused.value.public, refused.value.http) == (error, 400)


def test_json_bombs_are_refused_before_they_take_memory() -> None:
    for bomb in (b"[", b"{},", b"[],", b"0,"):
        body = b'{"didCommRequest":{"a":[' + bomb * 200_000 + b"0]}}"
        with pytest.raises(LimitExceeded):
            open_request(MESSAGE, body)
    deep = b'{"didCommRequest":' + b'{"a":' * 17 + b"1" + b"}" * 18
    with pytest.raises(LimitExceeded):
        open_request(MESSAGE, deep)


@pytest.mark.parametrize(
    "signed",
    [
        b"\x9b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8, b"\x5b" + b"\xff" * 8, b"\xa2\x61a\x01\x61a\x01",
        b"\xbf\x61a\x01\xff", b"\xc1\x01", b"\xa1\x01\x02", b"",
    ],
    ids=lambda signed: signed.hex(),
)  # fmt: skip
def test_hostile_cbor_is_refused_although_its_signature_holds(signed: bytes) -> None:
    body = body_of(
        {"a": 1},
        cborPayloadBase64=base64.b64encode(signed or b"\x00").decode(),
        signatureBase64=base64.b64encode(KEYS.sign(signed or b"\x00")).decode(),
    )
    opened = open_request(MESSAGE, body)
    assert opened.is_signed_by([KEYS.public_key])
    with pytest.raises(InvalidEnvelope):
        opened.require_covered()


def test_deep_cbor_is_refused_by_its_limit() -> None:
    opened = Opened(
        kind=MESSAGE, payload={}, signed=b"\x81" * 50_000 + b"\x00", signature=b"", sender_domain=""
    )
    with pytest.raises(LimitExceeded):
        opened.require_covered()


@settings(max_examples=300, deadline=None)
@given(PAYLOADS)
def test_a_payload_is_refused_with_our_own_error_or_read(payload: dict[str, Any]) -> None:
    base = json.loads(json.dumps(vector("mtp-message-request")[0]["didCommRequest"]))
    try:
        read_request({**base, **payload})
        read_request({**base, "didCommMessage": {**base["didCommMessage"], **payload}})
    except MailioError:
        return
