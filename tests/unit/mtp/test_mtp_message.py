"""Messages between nodes: validated in the reference server's words, and then some."""

from __future__ import annotations

import json
from typing import Any

import pytest

from events.errors import InvalidInput, LimitExceeded, MailboxFull
from node.mtp import status
from node.mtp.did_lookup import read_did_request
from node.mtp.message import (
    MAX_ATTACHMENTS,
    MAX_RECIPIENTS,
    DidCommMessage,
    local_recipients,
    read_receipt,
    read_request,
)
from node.mtp.status import Code, Outcome
from tests.vectors.vectors import vector

BOB = "0xb229e972e494372e5c1952f0b058041669f6623a"
ALICE = "did:web:mio.alpha.example#0x446f4461302935ad8387d0349b726bf7dbbc5118"


def payload(**changed: Any) -> dict[str, Any]:
    """Return the vector's payload with members of its message changed; None takes one away."""
    request: dict[str, Any] = json.loads(json.dumps(vector("mtp-message-request")[0]["didCommRequest"]))
    request["didCommMessage"].update(changed)
    return request


def with_keys(*kids: str) -> DidCommMessage:
    body = payload()["didCommMessage"]["body"]
    body["recipients"] = [{"encrypted_key": "a", "header": {"kid": kid}} for kid in kids]
    return read_request(payload(body=body)).did_comm_message


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"type": ""}, "error in field Type, tag required, parameter "),
        ({"type": "text/plain"}, "error in field Type, tag oneof, parameter application/didcomm-encrypted"),
        ({"from": ""}, "error in field From, tag required, parameter "),
        ({"intent": "x"}, "error in field Intent, tag oneof, parameter message handshake delivery handshake_request"),
        ({"intent": "smtpmessage"}, "error in field Intent, tag oneof"),
        ({"id": None}, "error in field ID, tag required"),
        ({"id": "_design/x"}, "error in field ID, tag id"),
        ({"id": "../other"}, "error in field ID, tag id"),
        ({"id": "a" * 201}, "error in field ID, tag id"),
        ({"id": "a\n"}, "error in field ID, tag id"),
        ({"body": None}, "error in field Body, tag required"),
        ({"intent": "delivery", "to": []}, "error in field To, tag required"),
        ({"intent": "delivery"}, "error in field PlainBodyBase64, tag required"),
        ({"plainBodyBase64": "***"}, "error in field PlainBodyBase64, tag base64"),
        ({"type": 7}, "invalid format"),
        ({"attachments": [None]}, "invalid format"),
        ({"attachments": [{"id": "a"}]}, "invalid format"),
        ({"createdTime": 1.5}, "invalid format"),
        ({"createdTime": 2**63}, "invalid format"),
    ],
)  # fmt: skip
def test_what_a_message_lacks_is_told_as_the_reference_server_tells_it(
    changed: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_request(payload(**changed))
    assert refused.value.public.startswith(text)


@pytest.mark.parametrize("name", ["aad", "ciphertext", "iv", "recipients", "tag", "protected"])
def test_every_member_of_the_content_is_required(name: str) -> None:
    body = payload()["didCommMessage"]["body"]
    with pytest.raises(InvalidInput):
        read_request(payload(body={**body, name: type(body[name])()}))


@pytest.mark.parametrize("intent", ["", "message", "handshake", "handshake_request", "handsake_response", "handshake_response"])  # fmt: skip
def test_every_spelling_of_an_intent_is_taken(intent: str) -> None:
    assert read_request(payload(intent=intent)).did_comm_message.intent == intent


@pytest.mark.parametrize(
    "changed",
    [
        {"attachments": [{"id": "a", "data": {"links": None}}] * (MAX_ATTACHMENTS + 1)},
        {"to": ["did:web:a#b"] * (MAX_RECIPIENTS + 1)},
        {"thid": "x" * 1_025},
        {"from": "did:web:" + "a" * 600},
        {"toEmails": [{"email": "x" * 2_000, "emailHash": ""}]},
    ],
)
def test_more_of_something_than_any_client_sends_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(LimitExceeded):
        read_request(payload(**changed))


def test_times_are_plain_integers_as_the_reference_server_has_it() -> None:
    for changed in ({**payload(), "timestamp": 1.0}, payload(createdTime=1.76e12)):
        with pytest.raises(InvalidInput):
            read_request(changed)


def test_a_receipt_is_read_although_it_is_no_message() -> None:
    assert read_receipt(vector("mtp-message-receipt")[0]["didCommRequest"]).did_comm_message.type == ""
    with pytest.raises(InvalidInput):
        read_receipt({"didCommMessage": {}})


def test_recipients_are_those_of_the_keys_on_this_server_each_once() -> None:
    here = f"did:web:mio.beta.example#{BOB}"
    other = f"did:web:mio.beta.example#{BOB[:-1]}b"
    message = with_keys(
        ALICE, here, "nonsense", f"did:web:mio.gamma.example#{BOB}", f"did:mailio:{BOB}", here.replace("0xb", "0xB"),
        other, f"did:web:mio.beta.example:{BOB}", "did:web:mio.beta.example#master",
        f"did:web:mio.beta.example.evil.example#{BOB}",
    )  # fmt: skip
    assert local_recipients(message, "mio.beta.example") == (BOB, BOB[:-1] + "b")
    assert local_recipients(message, "mio.alpha.example") == ()
    assert local_recipients(with_keys(ALICE, ALICE), "mio.alpha.example") == (ALICE.partition("#")[2],)


def test_failures_that_the_reference_server_files_under_success_are_failures() -> None:
    assert status.DELIVERED.outcome is Outcome.DONE
    assert [Code(2, *rest).outcome for rest in ((2, 1), (2, 2), (3, 5))] == [Outcome.FAILED] * 3
    assert (status.CONGESTION.outcome, status.REFUSED.outcome) == (Outcome.RETRY, Outcome.FAILED)


def test_codes_are_written_read_and_put_into_words() -> None:
    assert Code.parse(str(status.MAILBOX_FULL)).words == "mailbox: full"
    assert status.code_of(MailboxFull("full")) == status.MAILBOX_FULL
    assert (Code(5, 99, 1).words, Code(5, 1, 99).words) == ("", "")
    for text in ("", "5.1", "5.1.x", "5.1.1.1", "5.1.9999"):
        with pytest.raises(InvalidInput):
            Code.parse(text)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"statusCodes":[{}]}', b'{"statusCodes":null}', b"\xff"])
def test_a_malformed_notification_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        status.decode_statuses(content)


def test_a_lookup_is_bounded_and_validated() -> None:
    request = vector("mtp-did-request")[0]["didLookupRequest"]
    for changed in (
        {"senderAddress": ""},
        {"didLookups": None},
        {"lookupHeader": {"signatureScheme": "x", "timestamp": 1}},
    ):
        with pytest.raises(InvalidInput):
            read_did_request({**request, **changed})
    with pytest.raises(LimitExceeded):
        read_did_request({**request, "didLookups": request["didLookups"] * 51})
