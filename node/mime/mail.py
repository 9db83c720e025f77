"""The shape of a parsed mail as clients read it (wire spec section 5.6). Member names are wire."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from node.mime.limits import Defect


class Address(msgspec.Struct, frozen=True, rename="pascal"):
    """An address as Go writes it: `{"Name":..,"Address":..}`. Both may be empty."""

    name: str
    address: str


class VerdictStatus(StrEnum):
    """Outcome of a check."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    NOT_AVAILABLE = "NOT_AVAILABLE"


class Verdict(msgspec.Struct, frozen=True):
    """What a check of the mail said."""

    status: VerdictStatus


class InlinePart(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A small part that the HTML shows; `content` is base64 in JSON. `content_id` has no angle brackets."""

    content_type: str
    content: bytes
    content_id: str = ""
    content_disposition: str = ""


class MailAttachment(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A file. Its bytes are a blob: `content` is null, `content_url` is `blob:<sha256>`.

    `size_bytes` and `is_denied` (the extension is one of those that section 5.6 denies) are extensions
    of this node. So are `id` and `key` (base64url), which find and open an attachment that is stored sealed.
    """

    content_type: str
    filename: str
    content: None
    content_url: str
    size_bytes: int
    content_disposition: str = ""
    content_id: str = ""
    is_denied: bool = False
    id: str = ""
    key: str = ""


class Mail(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A received mail. Members without a default are always there, the others when they say something.

    `timestamp` is that of the Date field in milliseconds, 0 when there is none (see `defects`).
    `headers` has Go's canonical names (`Message-Id`); values are unfolded, in order, with encoded
    words as received. `defects` is an extension of this node.
    """

    from_: Address = msgspec.field(name="from")
    to: list[Address]
    message_id: str
    subject: str
    size_bytes: int
    size_html_body_bytes: int
    size_inline_bytes: int
    size_attachments_bytes: int
    timestamp: int
    dmarc_verdict: Verdict | None
    reply_to: list[Address] = []
    cc: list[Address] = []
    bcc: list[Address] = []
    body_text: str = ""
    body_html: str = ""
    body_inline_part: list[InlinePart] = []
    headers: dict[str, list[str]] = {}
    attachments: list[MailAttachment] = []
    spam_verdict: Verdict | None = None
    virus_verdict: Verdict | None = None
    spf_verdict: Verdict | None = None
    dkim_verdict: Verdict | None = None
    defects: list[Defect] = []


class ParsedMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail with what belongs to it but not into its document.

    `blobs` are the bytes of the attachments, in the order of `mail.attachments`; the caller stores
    them. The flags are those of wire spec sections 5.6 and 6.4.
    """

    mail: Mail
    blobs: list[bytes]
    is_automated: bool = False
    is_forwarded: bool = False
    is_replied: bool = False
