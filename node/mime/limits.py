"""What the node accepts of a message's form, and the names of what it finds wrong."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class MimeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on the form of a message; bytes where nothing else is said.

    Origins: Postfix's defaults where it has one, otherwise wire spec section 5.6, or the reason given.
    """

    header_block: int = 102_400
    """Header block of the message: Postfix `header_size_limit`."""
    part_header_block: int = 32_768
    """Header block of one part: nothing but names and types belongs there."""
    headers: int = 1_000
    """Header fields: a long way of 50 hops with traces and signatures has some 300."""
    header_length: int = 65_536
    """One header field, folded: the longest honest ones are lists of 1,000 recipients."""
    line_length: int = 1_048_576
    """One line of the body: RFC 5321 says 998, but HTML in one 8-bit line is common and harmless."""
    parts: int = 1_000
    """Body parts, containers included: the wire spec allows 100 attachments and 100 inline parts."""
    nesting: int = 100
    """Depth of containers: Postfix `mime_nesting_limit`."""
    received: int = 50
    """Received fields: Postfix `hopcount_limit`; more is a loop (RFC 5321 section 6.3)."""


class Violation(StrEnum):
    """Why the form of a message is refused."""

    HEADER_BLOCK_TOO_LARGE = "header-block-too-large"
    TOO_MANY_HEADERS = "too-many-headers"
    HEADER_TOO_LONG = "header-too-long"
    LINE_TOO_LONG = "line-too-long"
    TOO_MANY_PARTS = "too-many-parts"
    NESTED_TOO_DEEP = "nested-too-deep"
    LOOP = "loop"


class Code(StrEnum):
    """Defects of a message that was read all the same. Part of the stored document: never rename one."""

    HEADER_MALFORMED = "header-malformed"
    """A line in the header block is no header field: the body is taken to begin there."""
    HEADER_8BIT = "header-8bit"
    """A header holds bytes that are neither ASCII nor UTF-8; they were read as Windows-1252."""
    HEADER_REPEATED = "header-repeated"
    """A field that may occur once occurs again (RFC 5322 section 3.6); the first one counts."""
    HEADERS_TRUNCATED = "headers-truncated"
    """The header map is cut at `MimeLimits.header_block`."""
    ENCODED_WORD = "encoded-word-malformed"
    """An encoded word (RFC 2047) can't be decoded and is shown as it is."""
    FROM_MISSING = "from-missing"
    """No author address."""
    DATE_INVALID = "date-invalid"
    """The Date field is missing or no date; `timestamp` is 0."""
    CHARSET_UNKNOWN = "charset-unknown"
    """Text in an unknown character set was read as UTF-8 or Windows-1252."""
    CHARSET_MISMATCH = "charset-mismatch"
    """Text is not in the character set that it claims."""
    TRANSFER_ENCODING_UNKNOWN = "transfer-encoding-unknown"
    """The content was taken as it is."""
    TRANSFER_ENCODING_MALFORMED = "transfer-encoding-malformed"
    """Base64 with something else inside or an incomplete end; what could be decoded was."""
    CONTENT_TYPE_INVALID = "content-type-invalid"
    """The content type has no type and subtype: text/plain (RFC 2045 section 5.2)."""
    BOUNDARY_MISSING = "boundary-missing"
    """A multipart without a boundary, or with that of one around it, is text."""
    BOUNDARY_NOT_FOUND = "boundary-not-found"
    """A multipart in which its boundary never occurs is text."""
    BOUNDARY_NOT_CLOSED = "boundary-not-closed"
    """The last part goes to the end of its container."""
    PARTS_TRUNCATED = "parts-truncated"
    """There are more parts than `MimeLimits.parts`; the rest is in the last one."""
    NESTING_TRUNCATED = "nesting-truncated"
    """A container deeper than `MimeLimits.nesting` is kept whole, as an attachment."""
    TEXT_TRUNCATED = "text-truncated"
    """A text or HTML part is too large; the whole of it is an attachment."""
    HTML_UNSAFE = "html-too-complex"
    """HTML that would cost too much to sanitise is given as text; the original is an attachment."""
    FILENAME_CHANGED = "filename-changed"
    """A file name held a path, control characters, or was too long."""
    EXTENSION_DENIED = "extension-denied"
    """An attachment has an extension that wire spec section 5.6 denies."""


class Defect(msgspec.Struct, frozen=True):
    """One thing that is wrong with a message; `detail` says where, in printable characters."""

    code: Code
    detail: str = ""


def printable(text: str, length: int = 80) -> str:
    """Cut a stranger's text for a defect's detail: one line, no control characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:length])
