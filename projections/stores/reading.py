"""Reading an embedded store: every question about one database, answered from committed state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from projections.revision import RevisionTree
from projections.stores import local_documents
from projections.stores.local_documents import LocalDocument
from projections.stores.rows import DOCUMENT, DOCUMENT_WITHOUT_BODY, MAX_SQL_INTEGER, document, unpacked
from projections.stores.schema import translated
from projections.view_store import Document, Revision

PAGE: Final = 100
"""Documents that `documents` reads at once before it lets others run: about 2 ms of work."""

PARKED_LIMIT: Final = 1000
"""Parked records shown at once."""

_EMPTY: Final = RevisionTree()

_OF_DATABASE: Final = "FROM document d WHERE d.database = (SELECT number FROM database WHERE name = ?)"


class DatabaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /{db}` tells. `update_seq` is a log position; `used_bytes` counts bodies and attachments."""

    name: str
    update_seq: int = 0
    doc_count: int = 0
    doc_del_count: int = 0
    used_bytes: int = 0


class FolderCount(NamedTuple):
    """Documents in a folder, and those of them without `isRead: true`."""

    total: int
    unread: int


class Missing(msgspec.Struct, frozen=True):
    """A document's answer to `_revs_diff`."""

    missing: tuple[str, ...]
    possible_ancestors: tuple[str, ...]


class StoreReader:
    """The reading half of the embedded store. Point reads take some 10 to 20 µs and run on the loop.

    All methods raise Misconfigured when the file is damaged (it must be rebuilt), StorageUnavailable
    when it can't be read now. A database that nothing was written to reads as an empty one.
    """

    _path: Path
    _reader: sqlite3.Connection

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    def _documents(self, condition: str, values: Sequence[object], *, bodies: bool = True) -> list[Document]:
        columns = DOCUMENT if bodies else DOCUMENT_WITHOUT_BODY
        return [document(row) for row in self._rows(f"SELECT {columns} {_OF_DATABASE} {condition}", *values)]

    async def checkpoint(self) -> int:
        """Position of the last event whose changes are in the store; 0 at the beginning."""
        return self._meta("checkpoint")

    async def schema(self) -> int:
        """Schema of the view that wrote the store; 0 when nothing was written yet."""
        return self._meta("schema")

    def _meta(self, name: str) -> int:
        rows = self._rows("SELECT value FROM meta WHERE name = ?", name)
        return int(rows[0][0]) if rows else 0

    async def databases(self) -> Sequence[str]:
        """Names of all databases, sorted."""
        return [name for (name,) in self._rows("SELECT name FROM database ORDER BY name")]

    async def count(self) -> int:
        """Number of documents in all databases, deleted ones too."""
        return int(self._rows("SELECT count(*) FROM document")[0][0])

    async def info(self, database: str) -> DatabaseInfo:
        """Counters of a database; all 0 for one that nothing was written to."""
        rows = self._rows(
            "SELECT name, update_seq, doc_count, deleted_count, used_bytes FROM database WHERE name = ?",
            database,
        )
        if not rows:
            return DatabaseInfo(name=database)
        name, update_seq, count, deleted, used = rows[0]
        return DatabaseInfo(
            name=name, update_seq=update_seq, doc_count=count, doc_del_count=deleted, used_bytes=used
        )

    async def update_seq(self, database: str) -> int:
        """Sequence number of the last change of a database, 0 for none."""
        return (await self.info(database)).update_seq

    async def used_bytes(self, database: str) -> int:
        """Bytes of all leaf bodies and their attachments: what a quota counts."""
        return (await self.info(database)).used_bytes

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document (also one whose winner is deleted), or None if it never was."""
        found = self._documents("AND d.id = ?", (database, id))
        return found[0] if found else None

    async def revision(self, database: str, id: str, rev: str) -> Revision | None:  # noqa: A002
        """Return one leaf revision, winning or not; None when unknown or superseded (its body is gone)."""
        found = await self.get(database, id)
        if found is None or found.winner.rev == rev:
            return found.winner if found else None
        rows = self._rows(
            "SELECT l.rev, l.deleted, l.body, l.attachments FROM loser l WHERE l.rev = ?3 AND l.document = ("
            "SELECT number FROM document WHERE id = ?2 AND database = ("
            "SELECT number FROM database WHERE name = ?1))",
            database,
            id,
            rev,
        )
        return _revision(rows[0]) if rows else None

    async def documents(self, database: str) -> AsyncIterator[Document]:
        """All documents of a database, deleted ones too, in id order (code points)."""
        after: str | None = None
        while True:
            page = self._documents(
                "AND (? IS NULL OR d.id > ?) ORDER BY d.id LIMIT ?", (database, after, after, PAGE)
            )
            for each in page:
                yield each
            if len(page) < PAGE:
                return
            after = page[-1].id
            await asyncio.sleep(0)

    async def documents_since(
        self,
        database: str,
        since: int = 0,
        limit: int | None = None,
        *,
        before: int = MAX_SQL_INTEGER,
        descending: bool = False,
        bodies: bool = True,
    ) -> list[Document]:
        """The changes feed: each document once, at its last sequence number, those above `since`.

        Those from `before` on are left out. With `descending` the newest come first. Without `bodies`,
        winners have neither body nor attachments. Page with `limit` and the last `seq` received: one call
        reads on the loop.
        """
        direction = "DESC" if descending else "ASC"
        return self._documents(
            f"AND d.seq > ? AND d.seq < ? ORDER BY d.seq {direction} LIMIT ?",
            (database, since, before, -1 if limit is None else limit),
            bodies=bodies,
        )

    async def all_docs(
        self,
        database: str,
        *,
        startkey: str | None = None,
        endkey: str | None = None,
        inclusive_end: bool = True,
        descending: bool = False,
        skip: int = 0,
        limit: int | None = None,
        bodies: bool = True,
    ) -> list[Document]:
        """Documents that are not deleted, in id order, between two ids.

        As in CouchDB, `descending` also turns the range: `startkey` is then its upper end.
        """
        low, high = (">=", "<=") if inclusive_end else (">=", "<")
        if descending:
            low, high = "<=", low if inclusive_end else ">"
        return self._documents(
            f"AND NOT d.deleted AND (?2 IS NULL OR d.id {low} ?2) AND (?3 IS NULL OR d.id {high} ?3) "
            f"ORDER BY d.id {'DESC' if descending else 'ASC'} LIMIT ?4 OFFSET ?5",
            (database, startkey, endkey, -1 if limit is None else limit, skip),
            bodies=bodies,
        )

    async def by_ids(
        self, database: str, ids: Sequence[str], *, bodies: bool = True
    ) -> list[Document | None]:
        """Documents by id in the order asked, deleted ones too, None where there never was one (`keys`)."""
        found = []
        for id_ in ids:
            rows = self._documents("AND d.id = ?", (database, id_), bodies=bodies)
            found.append(rows[0] if rows else None)
        return found

    async def in_folder(
        self,
        database: str,
        folder: str,
        *,
        created_from: int | None = None,
        created_to: int | None = None,
        descending: bool = True,
        skip: int = 0,
        limit: int | None = None,
        bodies: bool = True,
    ) -> list[Document]:
        """Documents of a folder by time of creation, newest first: `client-folder-created-desc-index`.

        The bounds, in milliseconds, belong to the range. Documents without a text `folder` or a
        number `created` are in no folder, as in a Mango index.
        """
        direction = "DESC" if descending else "ASC"
        return self._documents(
            "AND d.folder = ? AND d.created >= ? AND d.created <= ? "
            f"ORDER BY d.folder {direction}, d.created {direction}, d.id {direction} LIMIT ? OFFSET ?",
            (
                database,
                folder,
                -(2**63) if created_from is None else created_from,
                2**63 - 1 if created_to is None else created_to,
                -1 if limit is None else limit,
                skip,
            ),
            bodies=bodies,
        )

    async def folder_counts(self, database: str) -> dict[str, FolderCount]:
        """Count the documents of every folder that has any, from the index alone."""
        rows = self._rows(
            f"SELECT d.folder, count(*), sum(d.unread) {_OF_DATABASE} AND d.folder IS NOT NULL GROUP BY 1",
            database,
        )
        return {folder: FolderCount(total, unread) for folder, total, unread in rows}

    async def missing(self, database: str, revisions: Mapping[str, Sequence[str]]) -> dict[str, Missing]:
        """Answer `_revs_diff`: for each document that lacks some of the revisions, which.

        Raises InvalidInput when a revision is malformed.
        """
        answer = {}
        for id_, revs in revisions.items():
            (found,) = await self.by_ids(database, [id_], bodies=False)
            absent = Missing(*(found.tree if found else _EMPTY).missing(revs))
            if absent.missing:
                answer[id_] = absent
        return answer

    async def get_local(self, database: str, id: str) -> LocalDocument | None:  # noqa: A002
        """Return a `_local` document by its id without `_local/`, None when there is none."""
        try:
            return local_documents.read(self._reader, database, id)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    async def local_documents(self, database: str) -> dict[str, LocalDocument]:
        """Return all `_local` documents of a database by id (without `_local/`): at most 1000."""
        try:
            return local_documents.read_all(self._reader, database)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    async def parked(self) -> dict[int, str]:
        """Log positions of the records that this view could not take in, with the reason; the first 1000."""
        return dict(self._rows("SELECT position, reason FROM parked ORDER BY position LIMIT ?", PARKED_LIMIT))


def _revision(row: tuple[Any, ...]) -> Revision:
    rev, deleted, body, attachments = row
    return Revision(rev=rev, deleted=bool(deleted), body=body, attachments=unpacked(attachments))
