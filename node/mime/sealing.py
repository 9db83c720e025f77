"""The attachments of a mail that is sealed to its owner before it is stored (docs/encryption.md).

Each is encrypted with a key of its own, which stands in the mail beside its name and type; the mail itself
goes into a JWE (`node.mime.document`). The forms are those of the clients' own messages, so the same code
opens both.
"""

from __future__ import annotations

import secrets

import msgspec

from node.crypto.base64_text import to_base64url
from node.crypto.jwe import KEY_BYTES, seal_file
from node.mime.mail import MailAttachment, ParsedMail

SEALED_TYPE = "application/octet-stream"
"""Content type of a sealed attachment, whatever is in it."""

ID_BYTES = 16
"""Randomness of a sealed attachment's name."""


def with_sealed_attachments(parsed: ParsedMail) -> ParsedMail:
    """Return the mail with its attachments' bytes encrypted, each known by a random id."""
    sealed = [_seal(*pair) for pair in zip(parsed.mail.attachments, parsed.blobs, strict=True)]
    mail = msgspec.structs.replace(parsed.mail, attachments=[attachment for attachment, _ in sealed])
    return msgspec.structs.replace(parsed, mail=mail, blobs=[content for _, content in sealed])


def _seal(attachment: MailAttachment, content: bytes) -> tuple[MailAttachment, bytes]:
    identifier, key = secrets.token_hex(ID_BYTES), secrets.token_bytes(KEY_BYTES)
    told = msgspec.structs.replace(attachment, id=identifier, key=to_base64url(key))
    return told, seal_file(identifier, key, content)
