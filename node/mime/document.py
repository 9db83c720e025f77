"""From raw bytes to the message document that the user's clients replicate (wire spec section 6.4)."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

import msgspec

from node.mime.mail import ParsedMail

MESSAGE_TYPE = "application/mailio-smtp+json"
"""Type of a message that came by SMTP (wire spec section 5.1)."""

SecurityStatus = Literal["clean", "malware", "spam", "phishing"]


class DidCommMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The envelope of a mail among Mailio messages; `plain_body_base64` is the JSON `Mail`."""

    type: str
    from_: str = msgspec.field(name="from")
    to: list[str]
    intent: str
    created_time: int
    plain_body_base64: str


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
) -> bytes:
    """Return the document as canonical JSON: keys sorted, no spaces, UTF-8.

    `received_at` (milliseconds) stands in for a missing Date, and is the message's creation time.
    """
    mail = parsed.mail
    if not mail.timestamp:
        mail = msgspec.structs.replace(mail, timestamp=received_at)
    envelope = DidCommMessage(
        type=MESSAGE_TYPE,
        from_=mail.from_.address,
        to=[address.address for address in mail.to],
        intent="message",
        created_time=received_at,
        plain_body_base64=b64encode(msgspec.json.encode(mail, order="sorted")).decode("ascii"),
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
