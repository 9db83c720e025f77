"""A store that is built aside: nobody reads it yet, and whoever is interrupted begins anew.

So it needs neither a write-ahead log nor syncs, which are half of what writing costs. While it is being
built its file says so, and nothing opens it; `close` syncs it and makes it a store like any other.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from projections.stores.embedded import EmbeddedStore
from projections.stores.schema import APPLICATION_ID, BUILDING_ID, errors_of
from projections.view_store import Change, Document, Effect

CACHE_KIB: Final = 32 * 1024
"""Page cache: the indexes of some hundred thousand documents, whose ids come in no order."""


KNOWN_IDS: Final = 2_000_000
"""Documents whose ids are remembered, by 60 bytes each; in a larger store all are looked for."""


class BuildingStore(EmbeddedStore):
    """An `EmbeddedStore` for the one task that builds it. Readers and writer share a connection.

    What was written is remembered by a hash of its id: most documents that a view asks for are new.
    """

    def _connect(self) -> None:
        super()._connect()
        self._ids: set[int] | None = set()
        self._reader.close()
        self._reader = self._writer
        if self._writer.execute("SELECT EXISTS (SELECT 1 FROM document)").fetchone() != (0,):
            self._ids = None
        for pragma in (
            "main.locking_mode = EXCLUSIVE",
            "journal_mode = MEMORY",
            "synchronous = OFF",
            f"cache_size = -{CACHE_KIB}",
            f"application_id = {BUILDING_ID}",
        ):
            self._writer.execute(f"PRAGMA {pragma}").fetchall()

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document (also one whose winner is deleted), or None if it never was."""
        if self._ids is not None and hash((database, id)) not in self._ids:
            return None
        return await super().get(database, id)

    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        """Add all changes and move the checkpoint: see `EmbeddedStore.write`."""
        await super().write(changes, checkpoint, schema)
        if self._ids is not None:
            written = (change for change in changes if isinstance(change, Change))
            self._ids.update(hash((change.database, change.id)) for change in written)
            if len(self._ids) > KNOWN_IDS:
                self._ids = None

    async def _commit(self, size: int) -> None:
        self._writer.execute("COMMIT")

    @contextmanager
    def _scanning(self) -> Iterator[sqlite3.Connection]:
        """Give the one connection: nobody else gets at the file."""
        yield self._writer

    async def close(self) -> None:
        """Sync the file, let it be opened by others, release it."""
        if not self._closed:
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
