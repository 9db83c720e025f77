"""Between rows of the embedded store and the values of the port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from events.errors import CorruptRecord
from projections.revision import RevisionTree
from projections.view_store import Attachment, Document, Revision

MAX_SQL_INTEGER: Final = 2**63 - 1

DOCUMENT: Final = "d.id, d.seq, d.tree, d.deleted, d.attachments, d.body"
"""Columns for `document`."""

DOCUMENT_WITHOUT_BODY: Final = "d.id, d.seq, d.tree, d.deleted, NULL, x''"
"""The same without content: for feeds that name only ids and revisions."""

_encode_attachments = msgspec.msgpack.Encoder().encode
_decode_attachments = msgspec.msgpack.Decoder(tuple[Attachment, ...]).decode


class Indexed(msgspec.Struct, frozen=True):
    """What the folder index knows of a body; None where the document is not in it."""

    folder: str | None = None
    created: int | None = None
    unread: int | None = None


class _Members(msgspec.Struct):
    folder: Any = None
    created: Any = None
    isRead: Any = None  # noqa: N815 - the document's own name (wire spec section 6.4)


_NOT_INDEXED = Indexed()
_decode_members = msgspec.json.Decoder(_Members).decode


def indexed(body: bytes, deleted: bool) -> Indexed:
    """Read the indexed members of a body. As in CouchDB, a document that lacks one isn't indexed."""
    if deleted or b'"folder"' not in body:
        return _NOT_INDEXED
    try:
        members = _decode_members(body)
    except msgspec.MsgspecError as error:
        raise CorruptRecord("a document body is not JSON", str(error)) from error
    folder, created = members.folder, members.created
    if not isinstance(folder, str) or type(created) not in {int, float} or abs(created) > MAX_SQL_INTEGER:
        return _NOT_INDEXED
    return Indexed(folder, int(created), 0 if members.isRead is True else 1)


def packed(attachments: Sequence[Attachment]) -> bytes | None:
    """Attachment descriptors as a column; NULL for none."""
    return _encode_attachments(attachments) if attachments else None


def unpacked(column: bytes | None) -> tuple[Attachment, ...]:
    """Attachment descriptors from a column."""
    return _decode_attachments(column) if column is not None else ()


def content_bytes(body_length: int, attachments: Sequence[Attachment]) -> int:
    """What a leaf counts towards the user's quota: body and attachments."""
    return body_length + sum(file.length for file in attachments) if attachments else body_length


def document(row: tuple[Any, ...]) -> Document:
    """Read a row of the `DOCUMENT` columns."""
    tree = RevisionTree.decode(row[2])
    winner = Revision(rev=tree.winner, deleted=bool(row[3]), body=row[5], attachments=unpacked(row[4]))
    return Document(id=row[0], seq=row[1], tree=tree, winner=winner)
