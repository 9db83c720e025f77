"""A store that is built aside: nobody reads it yet, and whoever is interrupted begins anew.

So it needs neither a write-ahead log nor syncs, which are half of what writing costs, nor indexes until all
is there (`projections.stores.loading`). While it is being built its file says so, and nothing opens it;
`close` completes and syncs it and makes it a store like any other.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from projections.stores.batch import Batch
from projections.stores.embedded import EmbeddedStore
from projections.stores.loading import IndexesNeeded, Load, LoadingBatch
from projections.stores.schema import APPLICATION_ID, BUILDING_ID, errors_of, translated
from projections.view_store import Document, Effect

CACHE_KIB: Final = 4 * 1024
"""Page cache: rows are written once, to the end of the file; updates come to those of busy documents."""

KNOWN_DOCUMENTS: Final = 2_000_000
"""Documents that are loaded without indexes: 32 MB to keep in mind. With more, the indexes are made then."""


class BuildingStore(EmbeddedStore):
    """An `EmbeddedStore` for the one task that builds it. Readers and writer share a connection.

    Asked for anything but documents by their ids, it makes its indexes first, which takes seconds.
    """

    def _connect(self) -> None:
        super()._connect()
        self._reader.close()
        self._reader = self._writer
        for pragma in (
            "main.locking_mode = EXCLUSIVE",
            "journal_mode = MEMORY",
            "synchronous = OFF",
            f"cache_size = -{CACHE_KIB}",
            f"application_id = {BUILDING_ID}",
        ):
            self._writer.execute(f"PRAGMA {pragma}").fetchall()
        self._load: Load | None = None
        (begun,) = self._writer.execute("SELECT EXISTS (SELECT 1 FROM document)").fetchone()
        self._is_empty = not begun

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document (also one whose winner is deleted), or None if it never was."""
        if self._load is not None and (database, id) not in self._known:
            try:
                found = self._load.get(database, id)
            except sqlite3.Error as error:
                raise translated(error, self._path) from error
            if found is not None:
                self._remember(found, database)
            return found
        return await super().get(database, id)

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        self._end_load()
        return super()._rows(sql, *values)

    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        """Add all changes and move the checkpoint: see `EmbeddedStore.write`."""
        if self._is_empty:
            with errors_of(self._path):
                self._load = Load(self._writer)
            self._is_empty = False
        try:
            await super().write(changes, checkpoint, schema)
        except IndexesNeeded:
            self._end_load()
            await super().write(changes, checkpoint, schema)
        if self._load is not None:
            self._load.keep(self._batched)
            if self._load.documents > KNOWN_DOCUMENTS:
                self._end_load()

    def _batch(self, connection: sqlite3.Connection) -> Batch:
        if self._load is None:
            return super()._batch(connection)
        self._batched = LoadingBatch(connection, self._revs_limit, self._load)
        return self._batched

    def _end_load(self) -> None:
        if self._load is not None:
            with errors_of(self._path):
                self._load.end()
            self._load = None

    async def _commit(self, size: int) -> None:
        self._writer.execute("COMMIT")

    @contextmanager
    def _scanning(self) -> Iterator[sqlite3.Connection]:
        """Give the one connection: nobody else gets at the file."""
        self._end_load()
        yield self._writer

    async def close(self) -> None:
        """Complete and sync the file, let it be opened by others, release it."""
        if not self._closed:
            self._end_load()
            with errors_of(self._path):
                await self._in_thread(_finish, self._writer, self._path)
        await super().close()


def _finish(connection: sqlite3.Connection, path: Path) -> None:
    """Sync everything but the mark, then the mark: a crash between the two costs the work, nothing else."""
    _sync(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _sync(path)


def _sync(path: Path) -> None:
    file = os.open(path.resolve(), os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
