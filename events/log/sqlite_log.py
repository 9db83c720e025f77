"""The embedded log: one SQLite file, one writing process, any number of readers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eventsourcing.persistence import PersistenceError

from events.errors import CorruptRecord, Forbidden, Misconfigured, StorageUnavailable
from events.event import Recorded
from events.log import failpoints
from events.log.chain import GENESIS, Row, verify
from events.log.codec import Codec
from events.log.damage import damaged, lost_end, other_log, translated, unopenable
from events.log.entry import joined, prepare
from events.log.group_commit import GroupCommitter
from events.log.journal import SqliteJournal
from events.log.log import Clock, Origin, Write
from events.log.ownership import Ownership
from events.log.sqlite import (
    SELECT,
    Head,
    LogConnection,
    LogDatastore,
    LogRecorder,
    bind_vault,
    check_format,
    connect,
    other_vault,
    read_head,
    read_vault,
    undo_half_change,
)
from events.log.tail import Tail
from events.log.verification import ChainCheck, Fault, Verified, checked, inconsistencies
from events.log.witness import Witness, last_seen

BATCH: Final = 500
"""Records per reading step; between steps other work gets its turn (a step takes about 3 ms)."""

SCAN_POSITIONS: Final = 5_000
"""Positions that one step of a read by type looks at, however few of them match."""

CHECKED_AT_START: Final = 1_000
"""Newest records whose chain is verified on opening (about 3 ms)."""

FOLLOW_SECONDS: Final = 0.2
"""How often a read-only log looks for new records: no bell rings across processes."""

_SELECT_STREAM = (
    f"{SELECT} WHERE originator_id = ? AND originator_version > ? ORDER BY originator_version LIMIT ?"
)
_SELECT_AFTER = f"{SELECT} WHERE position > ? ORDER BY position LIMIT ?"
_SELECT_WINDOW = f"{SELECT} WHERE position > ? AND position <= ?"
_SELECT_HASH = "SELECT hash FROM events WHERE position = ?"
_SELECT_END = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), "
    "coalesce((SELECT max(position) FROM events), 0)"
)


class SqliteLog:
    """`events.log.log.Log` in one file. Use it from one event loop."""

    def __init__(  # noqa: PLR0917 - what `open` found, told once
        self,
        path: Path,
        reader: sqlite3.Connection,
        codec: Codec,
        clock: Clock,
        software: str,
        store: _Store | None,
    ) -> None:
        """Use `open` instead."""
        self._path = path
        self._reader = reader
        self._codec = codec
        self._clock = clock
        self._software = software
        self._store = store
        self._tail = Tail(read_head(reader).position)
        self._closing = False
        self._committer: GroupCommitter | None = None
        if store is not None:
            journal = SqliteJournal(store.writer, codec, store.witness)
            self._committer = GroupCommitter(journal, self._tail.publish)

    @classmethod
    @failpoints.after("log-opened")
    def open(
        cls,
        path: Path,
        clock: Clock,
        software: str,
        *,
        readonly: bool = False,
        codec: Codec | None = None,
        check: bool = True,
    ) -> SqliteLog:
        """Open the log file `path`, or make it if its folder exists and `readonly` is not asked for.

        `software` is the version that will be written into every record. A read-only log stands beside a
        running daemon. A `codec` with a sealer binds the log to its vault. Raises Misconfigured (in use, not
        a log, newer format, no access, another vault), CorruptRecord when the file is damaged, the newest
        records do not hash to what they say, or acknowledged ones are missing. Without `check`, only what
        keeps the log from being opened: for `verify`.
        """
        # Read first: a daemon that writes meanwhile notes what this reader then sees.
        seen = last_seen(path)
        with _opening(path):
            store = None if readonly else _Store(path)
            reader = None
            try:
                reader = store.reader if store else connect(str(path), readonly=True)
                check_format(reader, str(path))
                if check:
                    _check_tail(reader, seen)
                if codec is not None and codec.sealer is not None:
                    _check_vault(store.writer.raw if store else None, reader, codec.sealer.vault)
                return cls(path, reader, codec or Codec(), clock, software, store)
            except BaseException:
                if store is not None:
                    store.close()
                elif reader is not None:
                    reader.close()
                raise

    @property
    def head(self) -> int:
        """Position of the last durable event; 0 when the log is empty."""
        if self._store is None and not self._tail.closed:
            with _reading():
                self._tail.head = read_head(self._reader).position
        return self._tail.head

    async def append(self, *writes: Write, origin: Origin) -> list[Recorded]:
        """Append all writes in one transaction; return when they are synced to disk.

        Raises VersionConflict, AlreadyAnswered, StorageUnavailable, Busy, and what `prepare` raises: then
        nothing was written.
        """
        committer = self._writable()
        entry = prepare(writes, origin, self._clock, self._codec, self._software)
        if not entry.size:
            return []
        return await committer.append(entry)

    async def append_all(self, orders: Sequence[tuple[Write, Origin]]) -> list[Recorded]:
        """Append writes of different origins in their order, all in one transaction or none.

        Raises what `append` raises; AlreadyAnswered is only sure to be told of the first.
        """
        self._writable()
        entries = []
        for count, (write, origin) in enumerate(orders, 1):
            entries.append(prepare((write,), origin, self._clock, self._codec, self._software))
            if count % BATCH == 0:
                await asyncio.sleep(0)
        written = [entry for entry in entries if entry.size]
        # Asked again: others had their turn meanwhile, and may have closed the log.
        return await self._writable().append(joined(written)) if written else []

    def _writable(self) -> GroupCommitter:
        if self._committer is None:
            raise Forbidden("the log was opened for reading only")
        if self._closing:
            raise StorageUnavailable("the log is closed")
        return self._committer

    async def stream(self, name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Read the events of one stream with a version above `after`, in order."""
        records: list[Recorded] = []
        left = limit
        while left is None or left > 0:
            wanted = BATCH if left is None else min(left, BATCH)
            found = self._select(_SELECT_STREAM, name, after, wanted)
            _require_consecutive(f"stream {name}, version", after, [record.version for record in found])
            records += found
            if len(found) < wanted:
                break
            after = found[-1].version
            left = None if left is None else left - len(found)
            await asyncio.sleep(0)
        return records

    async def unsealed(self, name: str) -> list[int]:
        """Positions of records of one stream that are about somebody and readable without a key.

        Programs before format 2 of the log wrote such.
        """
        positions: list[int] = []
        after = 0
        while rows := self._rows(_SELECT_STREAM, name, after, BATCH):
            positions += (row.position for row in rows if self._codec.is_readable(row))
            after = rows[-1].version
            await asyncio.sleep(0)
        return positions

    async def read(self, after: int, limit: int = BATCH, types: Collection[str] = ()) -> list[Recorded]:
        """Read durable events of all streams above position `after`, in order.

        With `types`, only events of these type names; the others are not decoded.
        """
        if types:
            return await self._read_types(after, limit, sorted(types))
        recent = self._tail.after(after, limit)
        if recent is not None:
            return recent
        records: list[Recorded] = []
        while len(records) < limit:
            wanted = min(limit - len(records), BATCH)
            found = self._select(_SELECT_AFTER, after, wanted)
            _require_consecutive("position", after, [record.position for record in found])
            records += found
            if len(found) < wanted:
                break
            after = found[-1].position
            await asyncio.sleep(0)
        return records

    async def subscribe(self, after: int, batch: int = BATCH) -> AsyncIterator[Sequence[Recorded]]:
        """Yield every event above `after`, then each new one as soon as it is durable; end on close."""
        while not self._tail.closed:
            records = await self.read(after, min(batch, BATCH))
            if records:
                after = records[-1].position
                yield records
                await asyncio.sleep(0)
            elif self._store is None:
                await asyncio.sleep(FOLLOW_SECONDS)
            else:
                await self._tail.wait_beyond(after)

    async def verify(self, batch: int = BATCH, sound: int = 0) -> AsyncIterator[Verified]:
        """Check the chain, then the file; name everything that is wrong. Raises CorruptRecord when not even
        the end of the log can be found.

        The caller has seen that the chain is well up to position `sound`.
        """
        chain, head, bad = self._chain_behind(sound), self.head, None
        while True:
            last = min(chain.position + batch, head)
            faults = list(checked(chain, self._rows, self._raw, last))
            bad = bad or next((fault.position for fault in faults), None)
            if last == head:
                faults += await asyncio.to_thread(lambda: list(self._of_the_file()))
            yield Verified(last, head, bad, tuple(faults))
            if last == head:
                return
            await asyncio.sleep(0)

    def _chain_behind(self, sound: int) -> ChainCheck:
        found = self._raw(_SELECT_HASH, sound) if sound else []
        return ChainCheck(sound, found[0][0]) if found else ChainCheck()

    def forget_recent(self) -> None:
        """Let go of the newest records in memory: whoever reads them now sees what the store says."""
        self._tail.forget()

    def _of_the_file(self) -> Iterator[Fault]:
        """What is wrong with the end of the log, and with its file."""
        try:
            _check_end(self._reader, last_seen(self._path))
        except CorruptRecord as error:
            yield Fault(0, "", str(error))
        yield from (Fault(0, "", text) for text in inconsistencies(self._reader))

    def abandon(self) -> None:
        """Release the store at once, before anything was appended: whoever opened the log could not go on."""
        self._closing = True
        if self._store is not None:
            self._store.close()

    async def close(self) -> None:
        """Refuse new appends, wait for those under way, end the subscriptions, release the store."""
        if self._closing:
            return
        self._closing = True
        if self._committer is not None:
            await self._committer.drain()
        self._tail.close()
        if self._store is not None:
            self._store.close()
        else:
            self._reader.close()

    async def _read_types(self, after: int, limit: int, types: Sequence[str]) -> list[Recorded]:
        """Scan window by window, so that a rare type does not hold the loop for the length of the log."""
        statement = f"{_SELECT_WINDOW} AND topic IN ({','.join('?' * len(types))}) ORDER BY position LIMIT ?"
        records: list[Recorded] = []
        head = self.head
        while after < head and len(records) < limit:
            end = min(after + SCAN_POSITIONS, head)
            wanted = min(limit - len(records), BATCH)
            found = self._select(statement, after, end, *types, wanted)
            records += found
            after = found[-1].position if len(found) == wanted else end
            await asyncio.sleep(0)
        return records

    def _select(self, statement: str, *params: str | int) -> list[Recorded]:
        decode = self._codec.decode
        return [decode(row) for row in self._rows(statement, *params)]

    def _rows(self, statement: str, *params: str | int) -> list[Row]:
        """Read to the end at once: an open read would keep the write-ahead file from being reused."""
        if self._tail.closed:
            raise StorageUnavailable("the log is closed")
        return [Row(*row) for row in self._raw(statement, *params)]

    def _raw(self, statement: str, *params: str | int) -> list[Any]:
        with _reading():
            return self._reader.execute(statement, params).fetchall()


class _Store:
    """What the one writing process holds: the lock, and the recorder's writing and reading connections."""

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise Misconfigured(
                f"the folder {path.parent} does not exist: make it or choose another data folder"
            )
        self._ownership = Ownership(path)
        self._datastore: LogDatastore | None = None
        try:
            _make_private(path)
            self.witness = Witness(path)
            probe = connect(str(path))
            try:
                check_format(probe, str(path))
            finally:
                probe.close()
            self._datastore = LogDatastore(str(path))
            self.recorder = LogRecorder(self._datastore)
            self.recorder.create_table()
            self.writer = self._take(is_writer=True)
            self._reading = self._take(is_writer=False)
            read_head(self._reading.raw)
            # SQLite has made the write-ahead file by now. It syncs that name too, but goes on when it can't.
            _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise
        self.reader = self._reading.raw
        self.reader.row_factory = None

    def close(self) -> None:
        """Close the connections (the last one folds the write-ahead file into the database) and unlock."""
        if self._datastore is not None:
            for connection in self._held():
                self._datastore.pool.put_connection(connection)
            self._datastore.close()
        if "witness" in self.__dict__:
            self.witness.close()
        self._ownership.release()

    def _take(self, *, is_writer: bool) -> LogConnection:
        assert self._datastore is not None
        connection = self._datastore.pool.get_connection(is_writer=is_writer)
        assert isinstance(connection, LogConnection)
        return connection

    def _held(self) -> Iterator[LogConnection]:
        for name in ("writer", "_reading"):
            if name in self.__dict__:
                yield self.__dict__[name]


@failpoints.after("log-created")
def _make_private(path: Path) -> None:
    """Create the file readable by its owner only; SQLite's files beside it follow."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_tail(reader: sqlite3.Connection, seen: Head | None) -> None:
    """Verify the newest records, and that none is missing behind them. Raises CorruptRecord."""
    head = read_head(reader).position
    _check_end(reader, seen)
    after = max(0, head - CHECKED_AT_START)
    previous = reader.execute(_SELECT_HASH, (after,)).fetchone() if after else (GENESIS,)
    rows = [Row(*row) for row in reader.execute(_SELECT_AFTER, (after, CHECKED_AT_START))]
    if previous is None:
        raise damaged(f"the record at position {after} is missing")
    bad = verify(rows, previous[0], after)
    if bad is not None:
        stream = next((row.stream for row in rows if row.position == bad), "unknown")
        raise damaged(f"position {bad}, stream {stream}: the record is not what was written")


def _check_end(reader: sqlite3.Connection, seen: Head | None) -> None:
    """Compare the end of the log with what is known of it elsewhere. Raises CorruptRecord."""
    given, head = reader.execute(_SELECT_END).fetchone()
    if given != head:
        raise damaged(f"positions up to {given} were given, the last found is {head}")
    if seen is None:
        return
    if seen.position > head:
        raise lost_end(head, seen.position, "log.sqlite.head")
    found = reader.execute(_SELECT_HASH, (seen.position,)).fetchone() if seen.position else None
    if found is not None and found[0] != seen.hash:
        raise other_log(seen.position)


def _check_vault(writer: sqlite3.Connection | None, reader: sqlite3.Connection, vault: str) -> None:
    """Bind the log to the vault, or where only reading is asked for, see that it is the right one."""
    if writer is not None:
        bind_vault(writer, vault)
    elif (bound := read_vault(reader)) and bound != vault:
        raise other_vault(bound, vault)


def bound_vault(path: Path) -> str:
    """Return the identity of the vault that a log file is sealed with; "" for none, and for no file.

    The first look at a log after a power loss. Raises Misconfigured when the file can't be read.
    """
    if not path.exists():
        return ""
    with _opening(path):
        undo_half_change(path)
        reader = connect(str(path), readonly=True)
        try:
            return read_vault(reader)
        finally:
            reader.close()


def _require_consecutive(what: str, after: int, numbers: Sequence[int]) -> None:
    """Records that are missing in between were there once. Raises CorruptRecord."""
    for number in numbers:
        if number != after + 1:
            raise damaged(f"{what} {after + 1} is missing, {number} follows")
        after = number


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """What goes wrong on opening is for the operator to put right."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise unopenable(error, path) from error
    except (PersistenceError, OSError) as error:
        raise Misconfigured(f"cannot open the log {path}: {error}") from error


@contextmanager
def _reading() -> Iterator[Any]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, "read") from error
