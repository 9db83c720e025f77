"""Multipart bodies of the replication protocol: `related` (a document and its files) and `mixed` (several).

RFC 2046 section 5.1; framing as in the CouchDB replication protocol. Bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final
from urllib.parse import quote

import msgspec

from node.sync.refusal import bad_request

MAX_PARTS: Final = 1_000
"""Parts of one body; a document has at most 200 attachments."""

MAX_BOUNDARY: Final = 70
"""Characters of a boundary (RFC 2046 section 5.1.1)."""


class Part(msgspec.Struct, frozen=True):
    """One part: media type with parameters, content, and further headers."""

    content_type: str
    content: bytes
    headers: tuple[tuple[str, str], ...] = ()


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type header names; raise a refusal when it names none."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise bad_request("multipart body without a valid boundary")
    return boundary


def parts(body: bytes, boundary: str) -> list[Part]:
    """Split a multipart body; raise a refusal when it is malformed."""
    delimiter = b"\r\n--" + boundary.encode()
    pieces = (b"\r\n" + body).split(delimiter, MAX_PARTS + 2)
    if len(pieces) > MAX_PARTS + 2:
        raise bad_request("too many parts")
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise bad_request("multipart body is incomplete")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    piece = piece.lstrip(b" \t")
    if not piece.startswith(b"\r\n"):
        raise bad_request("malformed multipart delimiter")
    head, separator, content = piece.partition(b"\r\n\r\n")
    if not separator:
        raise bad_request("a part has no end of its header")
    header = BytesHeaderParser().parsebytes(head[2:] + b"\r\n\r\n")
    try:
        disposition = header.get_filename("")
    except ValueError as error:
        # It says which of Python's codecs reads it (RFC 2231), and some of those fail in ways of their own.
        raise bad_request("a part has an unreadable file name", str(error)) from None
    return Part(
        str(header.get("Content-Type", "")), content, (("filename", disposition),) if disposition else ()
    )


def joined(content: Sequence[Part], boundary: str) -> bytes:
    """Write parts as a multipart body; `boundary` must not occur in them."""
    return b"".join(piece(part, boundary) for part in content) + end(boundary)


def piece(part: Part, boundary: str) -> bytes:
    """Write one part with the delimiter in front of it."""
    lines = [("Content-Type", part.content_type), *part.headers]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines if value)
    return b"--%s\r\n%s\r\n%s\r\n" % (boundary.encode(), head.encode(), part.content)


def end(boundary: str) -> bytes:
    """Write the delimiter behind the last part."""
    return b"--%s--" % boundary.encode()


def attachment_headers(name: str, length: int) -> tuple[tuple[str, str], ...]:
    """Headers of the part of an attachment; its name is escaped (RFC 5987), never raw."""
    return (
        ("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}"),
        ("Content-Length", str(length)),
    )
