"""One user's database as the door sees it: the store's questions, bound to one name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from node.sync.limits import SyncLimits
from node.sync.numbering import Numbering
from node.sync.superseded import Superseded
from projections.revision import RevisionTree
from projections.stores.embedded import EmbeddedStore
from projections.stores.local_documents import LocalDocument
from projections.stores.reading import DatabaseInfo, Missing
from projections.view_store import Document, Revision

TOP = 2**63 - 1
"""Above every sequence number."""


class Database:
    """A database of the embedded store. Long reads go in slices, so that others get their turn."""

    def __init__(
        self,
        store: EmbeddedStore,
        name: str,
        limits: SyncLimits,
        superseded: Superseded,
        numbering: Numbering | None = None,
    ) -> None:
        self.name = name
        self.numbering = numbering or Numbering()
        self._store = store
        self._limits = limits
        self.superseded = superseded

    async def info(self) -> DatabaseInfo:
        """Counters and `update_seq`."""
        return await self._store.info(self.name)

    async def update_seq(self) -> int:
        """Position of the last change; clients see it through `numbering`."""
        return await self._store.update_seq(self.name)

    async def get(self, document_id: str) -> Document | None:
        """Return a document, deleted ones too."""
        return await self._store.get(self.name, document_id)

    async def leaf(self, document: Document, rev: str) -> Revision | None:
        """Return a leaf with its content, or a revision replaced just now; None for any other."""
        if document.winner.rev == rev:
            return document.winner
        if not document.tree.is_leaf(rev):
            return self.superseded.get(self.name, document.id, rev) if rev in document.tree else None
        return await self._store.revision(self.name, document.id, rev)

    async def since(
        self, since: int, *, descending: bool = False, bodies: bool = False
    ) -> AsyncIterator[Document]:
        """Changed documents above `since`; with `descending` the newest first."""
        size, before = self._limits.rows_per_slice, TOP
        while True:
            part = await self._store.documents_since(
                self.name, since, size, before=before, descending=descending, bodies=False
            )
            for document in part:
                # One that changed meanwhile comes again at its new place, behind those we still have to pass.
                whole = await self._whole(document) if bodies else document
                if whole is not None and whole.seq == document.seq:
                    yield whole
            if len(part) < size:
                return
            if descending:
                before = part[-1].seq
            else:
                since = part[-1].seq
            await asyncio.sleep(0)

    async def _whole(self, document: Document) -> Document | None:
        """Read one document with its body: never more than one large body at a time."""
        return await self._store.get(self.name, document.id)

    async def pending(self, since: int) -> int:
        """Count the documents changed above `since`, up to a limit."""
        if since >= await self.update_seq():
            return 0
        rows = await self._store.documents_since(self.name, since, self._limits.pending_rows, bodies=False)
        return len(rows)

    async def by_ids(self, ids: Sequence[str]) -> list[Document | None]:
        """Documents without bodies in the order of their ids, None where there never was one."""
        found: list[Document | None] = []
        for start in range(0, len(ids), self._limits.rows_per_slice):
            part = ids[start : start + self._limits.rows_per_slice]
            found += await self._store.by_ids(self.name, part, bodies=False)
            await asyncio.sleep(0)
        return found

    async def in_range(
        self,
        startkey: str | None = None,
        endkey: str | None = None,
        *,
        inclusive_end: bool = True,
        descending: bool = False,
        bodies: bool = False,
    ) -> AsyncIterator[Document]:
        """Documents that are not deleted, in id order; `descending` turns the range."""
        last: str | None = None
        while True:
            part = await self._store.all_docs(
                self.name,
                startkey=startkey if last is None else last,
                endkey=endkey,
                inclusive_end=inclusive_end,
                descending=descending,
                limit=self._limits.rows_per_slice + 1,
                bodies=False,
            )
            for document in part:
                whole = await self._whole(document) if bodies else document
                if document.id != last and whole is not None and not whole.winner.deleted:
                    yield whole
            if len(part) <= self._limits.rows_per_slice:
                return
            last = part[-1].id
            await asyncio.sleep(0)

    async def count_before(self, startkey: str | None, *, descending: bool) -> int:
        """Count the documents that a range starting at `startkey` leaves out (`offset`)."""
        if startkey is None:
            return 0
        count = 0
        async for _ in self.in_range(endkey=startkey, inclusive_end=False, descending=descending):
            count += 1
        return count

    async def in_folder(
        self,
        folder: str,
        created_from: int | None,
        created_to: int | None,
        *,
        descending: bool,
    ) -> AsyncIterator[Document]:
        """Documents of a folder by time of creation, from the folder index."""
        skip = 0
        while True:
            part = await self._store.in_folder(
                self.name,
                folder,
                created_from=created_from,
                created_to=created_to,
                descending=descending,
                skip=skip,
                limit=self._limits.rows_per_slice,
                bodies=False,
            )
            for document in part:
                whole = await self._whole(document)
                if whole is not None and not whole.winner.deleted:
                    yield whole
            if len(part) < self._limits.rows_per_slice:
                return
            skip += len(part)
            await asyncio.sleep(0)

    async def missing(self, document_id: str, revs: Sequence[str]) -> Missing:
        """Answer `_revs_diff` for one document."""
        absent = await self._store.missing(self.name, {document_id: revs})
        return absent.get(document_id) or Missing((), ())

    async def changed(self, since: int) -> int:
        """Return the new `update_seq` as soon as it is above `since`."""
        return await self._store.wait_for_change(self.name, since)

    async def get_local(self, name: str) -> LocalDocument | None:
        """Return a `_local` document by its name without `_local/`."""
        return await self._store.get_local(self.name, name)

    async def put_local(self, name: str, body: bytes, expected: str | None) -> str:
        """Write a `_local` document; return its rev. Raises Conflict."""
        return await self._store.put_local(self.name, name, body, expected)

    async def delete_local(self, name: str, expected: str | None) -> bool:
        """Delete a `_local` document; tell whether there was one. Raises Conflict."""
        return await self._store.delete_local(self.name, name, expected)


NO_REVISIONS = RevisionTree()
"""The tree of a document that never was."""
