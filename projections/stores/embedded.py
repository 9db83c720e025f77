"""The embedded view store: one SQLite file for each view, read on the loop, written in batches.

Statements run on the loop in short slices: two threads that take turns at the interpreter lock would make
each other wait longer than the statements take. COMMIT syncs nothing here, so a small one runs on the loop
too; a large one, and moving the write-ahead log into the file, are work for the store's thread.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Self, TypeVar

import structlog

from events.errors import Misconfigured, StorageUnavailable
from events.log import failpoints
from projections.revision import REVS_LIMIT
from projections.stores import comparison, generations, local_documents
from projections.stores.batch import Batch
from projections.stores.reading import StoreReader
from projections.stores.schema import WAL_BYTES, connect, errors_of, log_path, prepare, touch, translated
from projections.stores.waiting import Waiting
from projections.view_store import Document, Effect, Forget

T = TypeVar("T")

_messages = structlog.get_logger("projections")

SLICE: Final = 50
"""Changes written before others on the loop get their turn: about 2 ms."""

SMALL_BYTES: Final = 256 * 1024
"""What a transaction may write to be committed on the loop: copying it takes about a millisecond."""

ROW_BYTES: Final = 2 * 1024
"""What a change writes beside its body: parts of index pages, shared with its neighbours."""

KNOWN_DOCUMENTS: Final = 1_000
"""Documents that `get` remembers until they change: a door asks for the same few again and again …"""

KNOWN_BYTES: Final = 4 * 1024
"""… with bodies of at most this many bytes."""


class EmbeddedStore(StoreReader):
    """A `ViewStore` in one SQLite file; beyond the port, what the sync door and a rebuild need."""

    def __init__(self, path: Path, revs_limit: int, *, readonly: bool) -> None:
        """Take an existing, checked file: call `open` instead."""
        self._path = path
        self._revs_limit = revs_limit
        self._readonly = readonly
        self._closed = False
        self._writing = asyncio.Lock()
        self._waiting = Waiting()
        self._thread = ThreadPoolExecutor(1, f"view-{path.name}")
        self._connect()

    def _connect(self) -> None:
        self._known: dict[tuple[str, str], Document] = {}
        self._reader = connect(self._path, readonly=self._readonly)
        self._writer = self._reader if self._readonly else connect(self._path)
        self._log = log_path(self._path)
        self._begins_log = True

    @classmethod
    def open(cls, path: Path, revs_limit: int = REVS_LIMIT, *, readonly: bool = False) -> Self:
        """Open the store at `path`, a new one if there is none (not when `readonly`).

        Raises Misconfigured when the file is missing (readonly), damaged, foreign or of a newer format;
        StorageUnavailable when it can't be opened now.
        """
        if readonly and not path.exists():
            raise Misconfigured(
                "there is no such view store: has the node run with this configuration?", str(path)
            )
        try:
            if not readonly:
                generations.settle(path)
            prepare(path, readonly=readonly)
            with errors_of(path):
                return cls(path, revs_limit, readonly=readonly)
        except OSError as error:
            raise StorageUnavailable("the view store can't be opened", f"{path}: {error}") from error

    @staticmethod
    def remove(path: Path) -> None:
        """Delete the files of a store that nobody has open; one that isn't there is fine."""
        generations.remove(path)

    @property
    def path(self) -> Path:
        """Where the store is; a link to its newest generation."""
        return self._path

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document (also one whose winner is deleted), or None if it never was."""
        known = self._known.get((database, id))
        if known is None and (known := await super().get(database, id)) is not None:
            self._remember(known, database)
        return known

    def _remember(self, document: Document, database: str) -> None:
        """Keep a document, unless others may write the file: then nobody says when it changes."""
        if self._readonly or len(document.winner.body) > KNOWN_BYTES:
            return
        if len(self._known) >= KNOWN_DOCUMENTS:
            del self._known[next(iter(self._known))]
        self._known[database, document.id] = document

    # Writing

    @failpoints.after("view-written")
    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        """Add all changes and move the checkpoint: all or nothing, and harmless when repeated.

        Raises InvalidInput for malformed changes, StorageUnavailable when the disk is full or fails,
        Misconfigured when the file is damaged; then nothing was written.
        """
        changed: Iterable[str] = ()
        try:
            size = sum(map(_bytes, changes))
            async with self._transaction(size) as connection:
                batch = self._batch(connection)
                for count, change in enumerate(changes, 1):
                    if isinstance(change, Forget):
                        batch.forget(change)
                    else:
                        batch.add(change)
                    if count % SLICE == 0:
                        await asyncio.sleep(0)
                changed = batch.finish(checkpoint, schema)
        finally:
            # A cancelled COMMIT may have succeeded; forgetting and waking too often is harmless.
            for change in changes:
                if isinstance(change, Forget):
                    self._known.clear()
                else:
                    self._known.pop((change.database, change.id), None)
            self._waiting.wake(changed)

    def _batch(self, connection: sqlite3.Connection) -> Batch:
        """Begin the changes of one transaction."""
        return Batch(connection, self._revs_limit)

    async def put_local(
        self,
        database: str,
        id: str,  # noqa: A002 - CouchDB's word
        body: bytes,
        expected: str | None = None,
    ) -> str:
        """Write a `_local` document; return its new `rev` (`0-<n>`).

        With `expected`, raises Conflict unless the stored document has that rev.
        """
        async with self._transaction() as connection:
            generation = local_documents.require(connection, database, id, expected) + 1
            local_documents.put(connection, database, id, generation, body)
        return f"0-{generation}"

    async def delete_local(self, database: str, id: str, expected: str | None = None) -> bool:  # noqa: A002
        """Delete a `_local` document; tell whether there was one. `expected` as with `put_local`."""
        async with self._transaction() as connection:
            generation = local_documents.require(connection, database, id, expected)
            local_documents.delete(connection, database, id)
        return generation > 0

    async def park(self, position: int, reason: str) -> None:
        """Note that the record at this log position could not be taken in, and why."""
        async with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO parked (position, reason) VALUES (?, ?)", (position, reason)
            )

    async def unpark(self, position: int) -> bool:
        """Forget a parked record; tell whether there was one."""
        async with self._transaction() as connection:
            return connection.execute("DELETE FROM parked WHERE position = ?", (position,)).rowcount > 0

    @asynccontextmanager
    async def _transaction(self, size: int = 0) -> AsyncIterator[sqlite3.Connection]:
        """One write transaction: committed at the end of the block, rolled back when it raises.

        `size` is about how many bytes it writes.
        """
        async with self._writing:
            self._require_writable()
            connection = self._writer
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                await self._commit(size)
            except sqlite3.Error as error:
                raise translated(error, self._path) from error
            finally:
                if connection.in_transaction:
                    connection.rollback()

    async def _commit(self, size: int) -> None:
        """Commit, on the loop where that neither writes much nor syncs: a log's beginning is synced."""
        if size <= SMALL_BYTES and not self._begins_log:
            self._writer.execute("COMMIT")
        else:
            await self._in_thread(self._writer.execute, "COMMIT")
            self._begins_log = False
        if os.path.getsize(self._log) >= WAL_BYTES:  # noqa: ASYNC240, PTH202 - 3 µs
            await self._move_log()

    @failpoints.after("view-log-moved")
    async def _move_log(self) -> None:
        """Move the write-ahead log into the file. What fails, or a reader holds back, is moved next time."""
        self._begins_log = True
        try:
            await self._in_thread(_moved, self._writer)
        except sqlite3.Error as error:
            _messages.warning("write-ahead log is not moved yet", file=self._log, reason=repr(error))

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run in the store's thread; a caller that is cancelled goes only when the work is done."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    # Waiting

    async def wait_for_change(self, database: str, since: int) -> int:
        """Return the database's `update_seq` as soon as it is above `since`.

        Costs nothing while waiting. Only sees what this store object writes. Raises
        StorageUnavailable when the store is closed meanwhile.
        """
        while True:
            if self._closed:
                raise StorageUnavailable("the view store was closed")
            reached = await self.update_seq(database)
            if reached > since:
                return reached
            await self._waiting.next(database)

    # Comparing and swapping

    async def digest(self, database: str | None = None) -> str:
        """Hash all documents (of one database) in canonical order: 64 hex digits.

        Equal for equal events, whatever the batches were. `_local` documents and parked records
        do not count.
        """
        with errors_of(self._path), self._scanning() as connection:
            return await self._in_thread(comparison.digest, connection, database)

    async def differences(self, other: EmbeddedStore) -> AsyncIterator[list[tuple[str, str]]]:
        """Name, some at a time, all (database, id) that are not the same in the other store, or not there.

        Each of the two is read as it is when its turn comes: what is written meanwhile may be named or not.
        """
        with errors_of(self._path), self._scanning() as connection:
            connection.execute("ATTACH ? AS other", (f"{other.path.resolve().as_uri()}?mode=ro",))
            slices = comparison.differences(connection)
            try:
                while (part := await self._in_thread(next, slices, None)) is not None:
                    yield part
            finally:
                slices.close()
                connection.execute("DETACH other")

    @contextmanager
    def _scanning(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for long reads in the thread."""
        with closing(connect(self._path, readonly=True)) as connection:
            yield connection

    @failpoints.after("swap-done")
    async def swap_in(self, rebuilt: Path) -> None:
        """Put the closed store at `rebuilt` in the place of this one; readers and waiters go on.

        `_local` documents are carried over; the old file is removed. Raises Misconfigured when the
        rebuilt file is not a sound store. Whenever the machine stops, one whole store is found again.
        """
        await asyncio.to_thread(prepare, rebuilt, readonly=False)
        async with self._writing:
            self._require_writable()
            await self._replace(rebuilt)
        self._waiting.wake_all()

    async def scrub(self) -> None:
        """Write the file anew: what was deleted is then in no free page and no write-ahead log any more.

        Readers go on; who writes waits. Raises StorageUnavailable when there is no room for a second copy.
        """
        copy = self._path.with_name(f"{self._path.name}.copy")
        async with self._writing:
            self._require_writable()
            try:
                with errors_of(self._path):
                    await self._in_thread(_copied, self._writer, copy)
                await self._replace(copy)
            finally:
                generations.remove(copy)

    async def _replace(self, fresh: Path) -> None:
        """Put a complete file in the place of this one."""
        old = self._path.resolve()
        with errors_of(self._path):
            await self._in_thread(_finish, fresh, old)
            try:
                generations.replace(self._path, fresh)
            finally:
                # Even one that failed, as the name may be in place but not durable: then both stay.
                await self._follow_name(old)
        if old != self._path.resolve():
            generations.remove(old)

    async def _follow_name(self, old: Path) -> None:
        """Go over to the file that the path means now."""
        if self._path.resolve() == old:
            return
        retired = {self._reader, self._writer}
        self._connect()
        for connection in retired:
            await self._in_thread(connection.close)

    def _require_writable(self) -> None:
        if self._closed or self._readonly:
            raise StorageUnavailable("the view store is not open for writing", str(self._path))

    async def close(self) -> None:
        """Release the store after the transaction that is under way; who waits is told."""
        async with self._writing:
            if self._closed:
                return
            self._closed = True
            self._known.clear()
            self._waiting.close()
            for connection in {self._reader, self._writer}:
                await self._in_thread(connection.close)
            self._thread.shutdown()


def _bytes(change: Effect) -> int:
    """Return about how many bytes a change writes; who forgets a database may have much to do."""
    return SMALL_BYTES + 1 if isinstance(change, Forget) else len(change.body) + ROW_BYTES


def _moved(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log. Its answer is read: unread, it would keep the next COMMIT from ending."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _copied(connection: sqlite3.Connection, copy: Path) -> None:
    """Write what is stored, and nothing else, to a new file."""
    generations.remove(copy)
    touch(copy)
    connection.execute("VACUUM INTO ?", (str(copy),))
    fd = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@failpoints.after("swap-completed")
def _finish(rebuilt: Path, current: Path) -> None:
    """Complete a rebuilt file: the `_local` documents of the current one, everything synced to disk."""
    with closing(connect(rebuilt)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        local_documents.carry_over(connection, str(current))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
