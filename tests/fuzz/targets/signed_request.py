"""Invariant: a request or reply of a peer is refused by name, or says what its signer has signed.

Of what has a good signature nothing else is ever read: neither another message, nor a lookup it did not make.
"""

from __future__ import annotations

import json
from typing import Any

from events.errors import MailioError
from node.crypto import cbor
from node.crypto.keys import ServerKeys
from node.mtp.did_lookup import read_did_request
from node.mtp.envelope import (
    DID_LOOKUP,
    MESSAGE,
    Kind,
    Opened,
    open_reply,
    open_request,
    sign_reply,
    sign_request,
)
from node.mtp.message import local_recipients, read_receipt, read_request, receipt
from tests.vectors.vectors import vector

PEER = ServerKeys(bytes(range(32)), 0)
PAYLOADS: dict[str, tuple[Kind, dict[str, Any]]] = {
    name: (kind, vector(name)[0][kind.request])
    for name, kind in (
        ("mtp-message-request", MESSAGE),
        ("mtp-message-attachment", MESSAGE),
        ("mtp-delivery-request", MESSAGE),
        ("mtp-did-request", DID_LOOKUP),
    )
}
RECEIPT = sign_reply(MESSAGE, receipt("id", 1), PEER, "mio.example")
SEEDS = [
    *(sign_request(kind, payload, PEER, "mio.example") for kind, payload in PAYLOADS.values()),
    RECEIPT,
    b'{"didCommRequest":{"a":1,"a":2}}',
    b"[" * 50,
]
SIGNED = [payload for _, payload in PAYLOADS.values()]


def one(data: bytes) -> None:
    for kind, read in ((MESSAGE, open_request), (DID_LOOKUP, open_request), (MESSAGE, open_reply)):
        try:
            opened = read(kind, data)
            _use(kind, opened)
        except MailioError:
            continue


def _use(kind: Kind, opened: Opened) -> None:
    if opened.is_signed_by([PEER.public_key]):
        opened.require_covered()
        own = json.loads(RECEIPT)[MESSAGE.reply]
        assert any(cbor.equal_to_json(opened.payload, known) for known in (*SIGNED, own))
    if kind is DID_LOOKUP:
        read_did_request(opened.payload)
        return
    read_receipt(opened.payload)
    request = read_request(opened.payload)
    local_recipients(request.did_comm_message, "mio.beta.example")
