"""The port to a store of views: databases of revisioned documents, and how far a view has come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from events.event import Recorded
from projections.revision import RevisionTree


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a document. `blob` names its bytes in the blob store, `digest` is `md5-<base64>`."""

    name: str
    content_type: str
    length: int
    digest: str
    blob: str
    revpos: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of one document, to be added to what a database holds.

    `revisions` is the path of the revision, newest first (`3-…`, `2-…`, `1-…`), as far as the writer
    knows it. `seq` is the position of the event it comes from: sequence numbers of a database are log
    positions, hence the same after every rebuild. `body` is the document as canonical JSON (keys
    sorted, no spaces) without members that begin with an underscore.
    """

    database: str
    id: str
    seq: int
    revisions: tuple[str, ...]
    body: bytes = b"{}"
    deleted: bool = False
    attachments: tuple[Attachment, ...] = ()


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """Documents leave a database without a trace, as if they had never been: somebody was erased.

    `id` names one, `ending` those whose ids end so; neither: the whole database goes, with everything that
    clients keep in it.
    """

    database: str
    id: str = ""
    ending: str = ""

    def concerns(self, id: str) -> bool:  # noqa: A002 - CouchDB's word
        """Whether a document is one of those."""
        return id == self.id if self.id else id.endswith(self.ending)

    @property
    def whole(self) -> bool:
        """Whether the database goes as a whole."""
        return not self.id and not self.ending


Effect = Change | Forget
"""What an event does to a view's documents."""


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One stored leaf revision with its content."""

    rev: str
    deleted: bool
    body: bytes
    attachments: tuple[Attachment, ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document as stored: its tree of revisions, its last sequence number, its winning revision."""

    id: str
    seq: int
    tree: RevisionTree
    winner: Revision


class Documents(Protocol):
    """Where a view looks up what it has written before, the current batch included."""

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002
        """Return the document (also one whose winner is deleted), or None if it never was."""


class View(Protocol):
    """A projection: a pure function from events, and what it wrote before, to document changes.

    `name` is its name in the store and on the command line; `schema` is raised when the same events
    give other documents than before (the runner then asks for a rebuild). `types` are the names of the
    event types it wants. At most one change per database comes from one event.
    """

    name: str
    schema: int
    types: frozenset[str]

    async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
        """Return the document changes that this event makes."""


class ViewStore(Protocol):
    """One view's documents with its checkpoint. Contract: `tests/contract/test_view_store.py`."""

    async def checkpoint(self) -> int:
        """Position of the last event whose changes are in the store; 0 at the beginning."""

    async def schema(self) -> int:
        """Schema of the view that wrote the store; 0 when nothing was written yet."""

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002
        """Return the document (also one whose winner is deleted), or None if it never was."""

    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        """Add all changes and move the checkpoint: all or nothing, and harmless when repeated."""

    async def databases(self) -> Sequence[str]:
        """Names of all databases, sorted."""

    def documents(self, database: str) -> AsyncIterator[Document]:
        """All documents of a database in id order."""

    async def close(self) -> None:
        """Release the store."""
