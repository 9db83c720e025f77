"""The index of blobs: name -> place, in SQLite. Derived from the segments, so it is never synced."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from events.errors import StorageUnavailable
from events.log import failpoints
from node.storage.appender import sync_folder
from node.storage.segments import HEADER_SIZE, Place

INDEX_FILE = "index.sqlite"
"""Name of the index in the folder of the segments."""

SCHEMA = 1
"""Raised when the tables change; an index of another schema is built anew."""

_CLOSED = "closed"
# The mark of an index that was synced and closed; while it is open the mark is the boot id.

_ROWS = 200
# Rows in one INSERT: one statement gives the interpreter lock away once, not once a row.

_TABLES = """
CREATE TABLE blob (name BLOB PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
                   length INTEGER NOT NULL, damaged INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE progress (segment INTEGER NOT NULL, offset INTEGER NOT NULL);
INSERT INTO progress VALUES (0, 0);
"""


class Entry(NamedTuple):
    """What the index knows of a blob. One that is damaged or erased is never taken for stored."""

    name: bytes
    place: Place
    damaged: bool = False
    erased: bool = False

    @property
    def state(self) -> int:
        """The column `damaged`: 0 sound, 1 damaged, 2 erased."""
        return 2 if self.erased else int(self.damaged)


def _entry(name: bytes, segment: int, offset: int, length: int, state: int) -> Entry:
    return Entry(name, Place(segment, offset, length), state == 1, state == 2)


def boot_id() -> str:
    """Identify this run of the operating system, "" when it can't be told.

    An unsynced file survives a killed process, but not a power loss: an index that was open in an
    earlier run is not believed.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class BlobIndex:
    """One SQLite file. `segment` and `offset` say up to where the segments are indexed.

    Used from one thread at a time. Every method raises StorageUnavailable when SQLite fails.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._damaged = False
        self.segment = 0
        self.offset = 0

    @classmethod
    def open(cls, path: Path) -> BlobIndex:
        """Open for writing; an index that is missing, broken or not to be believed begins empty."""
        trusted = _is_trusted(path)
        if not trusted:
            # Before the mark, or a process that dies behind it would leave an index to be believed.
            _remove(path)
        # From here to a clean close only a process of this run of the system may believe it.
        _write_mark(path, boot_id())
        index = cls._load(path, _connect) if trusted else None
        if index is None:
            _remove(path)
            index = cls(path, _connect(path))
            index._connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT")
        return index

    @classmethod
    def open_read_only(cls, path: Path) -> BlobIndex | None:
        """Open beside a running writer; None when there is no index to believe."""
        return cls._load(path, _connect_read_only) if _is_trusted(path) else None

    @classmethod
    def _load(cls, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> BlobIndex | None:
        connection: sqlite3.Connection | None = None
        try:
            connection = connect(path)
            if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                raise sqlite3.DatabaseError("another schema")
            index = cls(path, connection)
            index.refresh()
        except (sqlite3.Error, StorageUnavailable):
            if connection is not None:
                connection.close()
            return None
        return index

    def find(self, name: bytes) -> Entry | None:
        """Look a blob up by its binary name."""
        sql = "SELECT segment, offset, length, damaged FROM blob WHERE name = ?"
        try:
            row = self._connection.execute(sql, (name,)).fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return None if row is None else _entry(name, *row)

    @failpoints.after("index-written")
    def add(self, entries: Sequence[Entry], segment: int, offset: int) -> None:
        """Add entries (the newest place of a name stands) and move the mark, in one transaction."""
        try:
            self._connection.execute("BEGIN")
            for first in range(0, len(entries), _ROWS):
                self._insert(entries[first : first + _ROWS])
            self._connection.execute("UPDATE progress SET segment = ?, offset = ?", (segment, offset))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise self._unavailable(error) from error
        self.segment, self.offset = segment, offset

    def mark_segment_lost(self, segment: int) -> int:
        """Remember that all blobs of a segment are bad; return how many they are."""
        try:
            sql = "UPDATE blob SET damaged = 1 WHERE segment = ?"
            return self._connection.execute(sql, (segment,)).rowcount
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def mark_damaged(self, name: bytes) -> None:
        """Remember that a blob's bytes are bad, so that the same content is stored anew when it comes."""
        try:
            self._connection.execute("UPDATE blob SET damaged = 1 WHERE name = ?", (name,))
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def mark_erased(self, names: Sequence[bytes]) -> None:
        """Remember that blobs were erased on purpose."""
        try:
            self._connection.executemany(
                "UPDATE blob SET damaged = 2 WHERE name = ?", [(name,) for name in names]
            )
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def entries(self) -> Iterator[Entry]:
        """All blobs in the order in which they lie on disk."""
        return self._select("ORDER BY segment, offset")

    def beyond(self, segment: int, size: int) -> list[Entry]:
        """Blobs of a segment that end beyond `size`."""
        return list(self._select("WHERE segment = ? AND offset + length + ? > ?", segment, HEADER_SIZE, size))

    def _select(self, condition: str, *values: int) -> Iterator[Entry]:
        sql = f"SELECT name, segment, offset, length, damaged FROM blob {condition}"  # noqa: S608 - constants
        try:
            for row in self._connection.execute(sql, values):
                yield _entry(*row)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def count(self) -> tuple[int, int]:
        """Return (number of blobs, sum of their lengths in bytes)."""
        row = self._connection.execute("SELECT count(*), coalesce(sum(length), 0) FROM blob").fetchone()
        return row[0], row[1]

    def refresh(self) -> None:
        """Read the mark again, which another process moves."""
        try:
            row = self._connection.execute("SELECT segment, offset FROM progress").fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        self.segment, self.offset = row or (0, 0)

    def close(self) -> None:
        """Close without a promise: the next start of the system walks the segments."""
        self._connection.close()

    def close_synced(self) -> None:
        """Sync and close, so that also the next run of the system believes it. The writer's way."""
        if self._damaged:
            self.close()
            return
        try:
            (held_back, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._connection.close()
            if held_back:
                # A reader is there. What stays in the write-ahead file is not synced.
                return
            fd = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            _write_mark(self._path, _CLOSED)
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            raise self._unavailable(error) from error

    @failpoints.after("index-inserted")
    def _insert(self, entries: Sequence[Entry]) -> None:
        values = ",".join(["(?,?,?,?,?)"] * len(entries))
        flat = [value for e in entries for value in (e.name, *e.place, e.state)]
        self._connection.execute(f"INSERT OR REPLACE INTO blob VALUES {values}", flat)  # noqa: S608 - only marks

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """Tell the operator. A damaged index is never believed again: the next start makes it anew."""
        told = f"{self._path}: {error}"
        if isinstance(error, sqlite3.Error) and _is_damage(error):
            self._damaged = True
            _beside(self._path, "-state").unlink(missing_ok=True)
            told += ": restart the node, which makes this index again from the segments"
        return StorageUnavailable("storage is not available now", told)


def _is_damage(error: sqlite3.Error) -> bool:
    code = int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _beside(path, suffix).unlink(missing_ok=True)


def _is_trusted(path: Path) -> bool:
    try:
        mark = _beside(path, "-state").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return path.exists() and mark in (_CLOSED, boot_id()) and mark != ""


@failpoints.after("mark-replaced")
def _write_mark(path: Path, mark: str) -> None:
    """Replace the mark beside the index durably; it says who may believe the index."""
    fresh = _beside(path, "-state.new")
    _write_aside(fresh, mark)
    fresh.replace(_beside(path, "-state"))
    sync_folder(path.parent)


@failpoints.after("mark-written")
def _write_aside(path: Path, mark: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(mark)
        file.flush()
        os.fsync(file.fileno())
