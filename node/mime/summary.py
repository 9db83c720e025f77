"""One line about a stored message, for lists: who, what about, where, why; never the text."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from node.crypto.handshakes import DOCUMENT_TYPE as HANDSHAKE_TYPE
from projections.view_store import Document


class _Mail(msgspec.Struct):
    subject: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    type: str = ""
    plain_body_base64: str = ""


class _Message(msgspec.Struct, rename="camel"):
    did_comm_message: _Envelope
    author: str = msgspec.field(name="from", default="")
    folder: str = ""
    reason: str = ""
    created: int = 0
    is_read: bool = False


def summarise(document: Document) -> dict[str, Any] | None:
    """Summarise a document; None for a deleted one and for what is no message."""
    if document.winner.deleted:
        return None
    try:
        message = msgspec.json.decode(document.winner.body, type=_Message)
    except msgspec.MsgspecError:
        return None
    if message.did_comm_message.type == HANDSHAKE_TYPE:
        return None
    return {
        "id": document.id,
        "created": message.created,
        "folder": message.folder,
        "reason": message.reason,
        "from": message.author,
        "subject": _subject(message.did_comm_message),
        "read": message.is_read,
    }


def _subject(envelope: _Envelope) -> str:
    """Return the subject of a plain mail; an encrypted message shows none."""
    try:
        return msgspec.json.decode(base64.b64decode(envelope.plain_body_base64), type=_Mail).subject
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError):
        return ""
