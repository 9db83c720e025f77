"""What is kept of a federated message as its raw form: the bytes that the peer signed, and the proof.

JSON and base64, which travelled beside them, say nothing more and take two and a half times as much room.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2
import msgspec

from events.errors import CorruptRecord, MailioError
from node.mtp.message import DidCommMessage, DidCommRequest, read_request
from node.mtp.verifying import Verified

MAIL_TYPE: Final = "application/didcomm-encrypted+json"
"""Media type of a message among mails in an archive."""


class SignedMessage(msgspec.Struct, frozen=True, array_like=True):
    """The CBOR of a `didCommRequest`, its Ed25519 signature, the key for which it holds, and whose it was."""

    signed: bytes
    signature: bytes
    key: bytes
    peer: str


def stored(verified: Verified) -> bytes:
    """Return the bytes to keep."""
    return msgspec.msgpack.encode(
        SignedMessage(verified.signed, verified.signature, verified.key, verified.peer)
    )


def message_of(raw: bytes) -> DidCommMessage:
    """Return the message in kept bytes. Raises CorruptRecord.

    It was inspected and validated before it was accepted, and its seal says that it is still the same.
    """
    try:
        content = cbor2.loads(msgspec.msgpack.decode(raw, type=SignedMessage).signed)
        try:
            return msgspec.convert(content, DidCommRequest).did_comm_message
        except msgspec.ValidationError:
            # Whole numbers as floats, null for what is not there: rare, and slower.
            return read_request(_as_json(content)).did_comm_message
    except (msgspec.MsgspecError, cbor2.CBORDecodeError, MailioError) as error:
        raise CorruptRecord("a stored message can't be read", str(error)) from error


def _as_json(value: Any) -> Any:
    """Give numbers the form that JSON had: browsers write whole numbers as floats in CBOR (section 1.7)."""
    if isinstance(value, dict):
        return {name: _as_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_as_json(element) for element in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | bytes) else None


def as_mail(raw: bytes) -> bytes:
    """Write a kept message as a mail, for archives that other programs read; its content stays encrypted."""
    message = message_of(raw)
    fields = {"From": message.from_, "To": ", ".join(message.to), "Message-ID": f"<{message.id}>"}
    head = "".join(f"{name}: {_field(text)}\r\n" for name, text in fields.items())
    body = msgspec.json.format(msgspec.json.encode(message), indent=1)
    return f"{head}MIME-Version: 1.0\r\nContent-Type: {MAIL_TYPE}\r\n\r\n".encode() + body + b"\n"


def _field(text: str) -> str:
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)[:900]
