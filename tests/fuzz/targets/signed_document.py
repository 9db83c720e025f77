"""Invariant: a DID document, a credential or a handshake from a stranger is refused by name, or is the good one.

Nothing but what its owner signed is taken for signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from events.errors import MailioError
from events.identity import handshake_id, web_did
from node.crypto.credentials import issue_registration_credential, verify_registration_credential
from node.crypto.did_documents import (
    ServerEndpoints,
    agreement_key,
    messaging_endpoint,
    signing_key,
    user_document,
)
from node.crypto.handshakes import handshake_document, read_handshake_body, sign_handshake, verify_handshake
from node.crypto.keys import ServerKeys, UserKeys
from node.sync.handshakes import is_handshake
from node.sync.json_text import parsed

NOW = 1_760_000_000_000
SERVER = ServerKeys(bytes(range(32)), NOW)
USER = UserKeys(bytes(range(32)), bytes(range(1, 33)))
CONTENT: dict[str, Any] = {
    "handshakeId": handshake_id(USER.address, "friend@beta.example"),
    "originServer": {"domain": "localhost"},
    "status": "accepted",
    "level": "none",
    "type": "user",
    "created": NOW,
}
HANDSHAKE = handshake_document(
    CONTENT["handshakeId"], sign_handshake(CONTENT, USER), str(web_did("localhost", USER.address)), NOW
)
DID = user_document(
    USER.public_key, USER.agreement_public_key, SERVER.address, ServerEndpoints("mio.example")
)
CREDENTIAL = issue_registration_credential(USER.address, "mio.example", SERVER, NOW)
SEEDS = [
    json.dumps(document).encode() for document in (HANDSHAKE, read_handshake_body(HANDSHAKE), DID, CREDENTIAL)
]


def one(data: bytes) -> None:
    document = _taken(lambda: parsed(data, 100))
    if not isinstance(document, dict):
        return
    is_handshake(document)
    messaging_endpoint(document)
    for key_of in (signing_key, agreement_key):
        key = _taken(partial(key_of, document))
        assert key is None or len(key) == 32
    for body in (document, _taken(lambda: read_handshake_body(document))):
        if isinstance(body, dict):
            verified = _taken(partial(verify_handshake, body, USER.address, USER.public_key))
            assert verified is None or verified.status == CONTENT["status"]
    credential = dict(document)
    holds = _taken(
        lambda: (
            verify_registration_credential(credential, USER.address, SERVER.address, SERVER.public_key),
            True,
        )
    )
    assert holds is None or document["credentialSubject"]["id"] == CREDENTIAL["credentialSubject"]["id"]


def _taken(read: Callable[[], Any]) -> Any:
    """Return what was read, None for what was refused."""
    try:
        return read()
    except MailioError:
        return None
