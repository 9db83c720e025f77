"""From raw bytes to the message document that the user's clients replicate (wire spec section 6.4)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Literal

import msgspec

from node.crypto import jwe
from node.crypto.jwe import SealTo
from node.mime.mail import ParsedMail

MESSAGE_TYPE = "application/mailio-smtp+json"
"""Type of a message that came by SMTP (wire spec section 5.1)."""

SecurityStatus = Literal["clean", "malware", "spam", "phishing"]


class DidCommMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The envelope of a mail among Mailio messages: its JSON in `plain_body_base64`, or sealed in `body`."""

    type: str
    from_: str = msgspec.field(name="from")
    to: list[str]
    intent: str
    created_time: int
    plain_body_base64: str = ""
    body: dict[str, Any] | None = None


class MessageDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The document without `_id`, `folder` and `created`, which the projection adds.

    False flags are absent.
    """

    id: str
    from_: str = msgspec.field(name="from")
    did_comm_message: DidCommMessage
    security_status: SecurityStatus
    is_automated: bool = False
    is_forwarded: bool = False
    is_replied: bool = False


def message_document(
    parsed: ParsedMail,
    *,
    id: str,  # noqa: A002
    received_at: int,
    security_status: SecurityStatus = "clean",
    seal_to: SealTo | None = None,
) -> bytes:
    """Return the document as canonical JSON: keys sorted, no spaces, UTF-8.

    `received_at` (milliseconds) stands in for a missing Date, and is the message's creation time. With
    `seal_to`, only sender, that time and the flags are readable; no two calls then return the same.
    """
    mail = parsed.mail
    if not mail.timestamp:
        mail = msgspec.structs.replace(mail, timestamp=received_at)
    content = msgspec.json.encode(mail, order="sorted")
    sender = mail.from_.address
    envelope = DidCommMessage(
        type=MESSAGE_TYPE,
        from_=sender,
        to=[seal_to.kid] if seal_to else [address.address for address in mail.to],
        intent="message",
        created_time=received_at,
        plain_body_base64="" if seal_to else b64encode(content).decode("ascii"),
        body=jwe.seal(content, MESSAGE_TYPE, sender, seal_to) if seal_to else None,
    )
    document = MessageDocument(
        id=id,
        from_=mail.from_.address,
        did_comm_message=envelope,
        security_status=security_status,
        is_automated=parsed.is_automated,
        is_forwarded=parsed.is_forwarded,
        is_replied=parsed.is_replied,
    )
    return msgspec.json.encode(document, order="sorted")
