"""Raw bytes to the mail that clients read. Never raises: what is malformed gives a document and defects.

The walk is our own (`structure`), because the standard library's parser needs one generator a level and
asks every open container about every line: its time is the product of depth and length. Its modern
policy raises on malformed fields. The differential tests hold both against each other.
"""

from __future__ import annotations

import email.utils
import hashlib

from node.mime.bodies import Bodies
from node.mime.headers import Block, decode_words, field_text
from node.mime.limits import Code, Defect, MimeLimits, printable
from node.mime.mail import Address, Mail, MailAttachment, ParsedMail
from node.mime.parameters import parse_addresses
from node.mime.structure import message_id, scan

SUBJECT_LENGTH = 10_000
"""Characters of a subject that are kept; the header map has all of it."""

_ONCE = ("from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "sender", "content-type")
_AUTOMATED_FIELDS = frozenset({"list-id", "list-unsubscribe", "x-autoreply", "x-autorespond", "feedback-id"})
_AUTOMATED_PRECEDENCE = frozenset({"bulk", "list", "junk", "auto_reply"})
NAMES_KEPT = 1_000
"""Spellings of field names that are remembered; mail in the wild has some hundred …"""

NAME_LENGTH = 64
"""… of at most this many characters."""

_NAMES: dict[str, str] = {}
_YEAR_10000 = 253_402_300_800


def parse(raw: bytes, limits: MimeLimits | None = None) -> ParsedMail:
    """Read a message, whatever the bytes are, in time linear in their number. Never raises."""
    limits = limits or MimeLimits()
    tree = scan(raw, limits)
    head = _Head(tree.parts[0].block, limits)
    bodies = Bodies(raw, tree)
    attachments = [
        MailAttachment(
            content_type=file.media,
            filename=file.filename,
            content=None,
            content_url=f"blob:{hashlib.sha256(file.content).hexdigest()}",
            size_bytes=len(file.content),
            content_disposition=file.disposition,
            content_id=file.content_id,
            is_denied=file.is_denied,
        )
        for file in bodies.files
    ]
    mail = Mail(
        from_=head.sender(),
        to=head.addresses("to"),
        cc=head.addresses("cc"),
        bcc=head.addresses("bcc"),
        reply_to=head.addresses("reply-to"),
        message_id=message_id(head.block),
        subject=head.text("subject")[:SUBJECT_LENGTH],
        timestamp=head.timestamp(),
        headers=head.map(),
        body_text=bodies.text,
        body_html=bodies.html,
        body_inline_part=bodies.inline,
        attachments=attachments,
        size_bytes=len(raw),
        size_html_body_bytes=len(bodies.html.encode()),
        size_inline_bytes=sum(len(part.content) for part in bodies.inline),
        size_attachments_bytes=sum(len(file.content) for file in bodies.files),
        dmarc_verdict=None,
        defects=head.defects + tree.defects + bodies.defects,
    )
    return ParsedMail(
        mail=mail,
        blobs=[file.content for file in bodies.files],
        is_automated=head.is_automated(),
        is_forwarded=bool(head.raw("x-forwarded-for")),
        is_replied=head.is_replied(mail.subject),
    )


class _Head:
    """The header block of the message, and what was wrong with it."""

    def __init__(self, block: Block, limits: MimeLimits) -> None:
        self.block = block
        self.defects: list[Defect] = []
        self._limits = limits
        if block.broken:
            line = block.broken.decode("ascii", "replace").strip()
            self.defects.append(Defect(Code.HEADER_MALFORMED, printable(line)))
        keys = [field.key for field in block.fields]
        # A dozen questions are asked of every message: one table answers them all.
        self._first = dict(zip(reversed(keys), (field.raw for field in reversed(block.fields)), strict=True))
        if len(self._first) < len(keys):
            self.defects += [Defect(Code.HEADER_REPEATED, key) for key in _ONCE if keys.count(key) > 1]

    def raw(self, key: str) -> bytes:
        """Return the value of the first field with this lower-case name as received, or nothing."""
        return self._first.get(key, b"")

    def text(self, key: str) -> str:
        return decode_words(field_text(self.raw(key), self.defects), self.defects)

    def addresses(self, key: str) -> list[Address]:
        raw = self.raw(key)
        if not raw:
            return []
        text = field_text(raw, self.defects)
        return [Address(name, address) for name, address in parse_addresses(text)]

    def sender(self) -> Address:
        for address in self.addresses("from") or self.addresses("sender"):
            if address.address:
                return address
        self.defects.append(Defect(Code.FROM_MISSING))
        return Address("", "")

    def timestamp(self) -> int:
        text = field_text(self.raw("date")[:200])
        try:
            parsed = email.utils.parsedate_tz(text)
            seconds = email.utils.mktime_tz(parsed) if parsed else 0
        except (ValueError, OverflowError, TypeError, IndexError):
            seconds = 0
        if 0 < seconds < _YEAR_10000:
            return int(seconds) * 1000
        self.defects.append(Defect(Code.DATE_INVALID, printable(text)))
        return 0

    def map(self) -> dict[str, list[str]]:
        """Return all fields by Go's canonical name, cut where the block passes its limit."""
        found: dict[str, list[str]] = {}
        room = self._limits.header_block
        for field in self.block.fields:
            room -= len(field.raw) + len(field.name)
            if room < 0 or len(found) > self._limits.headers:
                self.defects.append(Defect(Code.HEADERS_TRUNCATED))
                break
            found.setdefault(_canonical(field.name), []).append(field_text(field.raw))
        return found

    def is_automated(self) -> bool:
        """RFC 3834 section 5, RFC 2919, and what list and bulk senders say of themselves."""
        submitted = self._word("auto-submitted")
        if submitted and submitted != "no":
            return True
        if (
            self._word("precedence") in _AUTOMATED_PRECEDENCE
            or self._word("content-type") == "multipart/report"
        ):
            return True
        return not _AUTOMATED_FIELDS.isdisjoint(self._first)

    def is_replied(self, subject: str) -> bool:
        """Wire spec section 5.6: In-Reply-To, a subject starting `re:`, or several References."""
        references = field_text(self.raw("references")).split()
        is_reply = bool(field_text(self.raw("in-reply-to"))) or len(references) > 1
        return is_reply or subject.lower().startswith("re:")

    def _word(self, key: str) -> str:
        raw = self.raw(key)
        return field_text(raw[:200]).partition(";")[0].strip().lower() if raw else ""


def _canonical(name: str) -> str:
    """Write a field's name as Go does; the usual names are remembered."""
    known = _NAMES.get(name)
    if known is None:
        known = "-".join(word.capitalize() for word in name.split("-"))
        if len(_NAMES) < NAMES_KEPT and len(name) <= NAME_LENGTH:
            _NAMES[name] = known
    return known
