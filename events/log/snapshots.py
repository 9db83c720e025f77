"""Snapshots of folded states in a SQLite file of their own: a cache that may be lost at any time.

Nothing is synced. What a power loss may leave behind is caught by a digest per snapshot and, where
SQLite itself finds the file damaged, by starting with an empty one.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from pathlib import Path
from typing import Final

from events.errors import Misconfigured, StorageUnavailable
from events.log import failpoints

_DIGEST_BYTES: Final = 16
_TABLE: Final = "snapshots_1"
"""Named after its shape: a program with another shape begins anew beside it."""

_CREATE = f"""CREATE TABLE IF NOT EXISTS {_TABLE} (
    stream TEXT PRIMARY KEY, schema INTEGER NOT NULL, version INTEGER NOT NULL, digest BLOB NOT NULL,
    state BLOB NOT NULL)"""
_LOAD = f"SELECT version, digest, state FROM {_TABLE} WHERE stream = ? AND schema = ?"  # noqa: S608 - constants
_SAVE = f"INSERT OR REPLACE INTO {_TABLE} VALUES (?,?,?,?,?)"  # noqa: S608 - constants


class SqliteSnapshots:
    """`events.log.log.SnapshotStore` in one file: one snapshot per stream, the last one saved.

    A snapshot may be ahead of a log that was restored from a backup: compare its version with the stream's.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises Misconfigured if the folder is missing or can't be written."""
        self._path = path
        self._lost = False
        self._connection = self._open()

    async def load(self, stream: str, schema: int) -> tuple[int, bytes] | None:
        """Return (version, state) of the newest snapshot taken with this state schema.

        Raises StorageUnavailable.
        """
        self._come_back()
        try:
            row = self._connection.execute(_LOAD, (stream, schema)).fetchone()
        except sqlite3.DatabaseError as error:
            self._replace(error)
            return None
        if row is None or row[1] != _digest(stream, row[0], schema, row[2]):
            return None
        return row[0], row[2]

    @failpoints.after("snapshot-taken")
    async def save(self, stream: str, version: int, schema: int, state: bytes) -> None:
        """Keep `state` as the fold of the stream's first `version` events.

        Raises StorageUnavailable when the disk refuses: the caller goes on without the snapshot.
        """
        self._come_back()
        row = (stream, schema, version, _digest(stream, version, schema, state), state)
        try:
            self._connection.execute(_SAVE, row)
        except sqlite3.DatabaseError as error:
            self._replace(error)
        else:
            return
        try:
            self._connection.execute(_SAVE, row)
        except sqlite3.Error as error:
            raise StorageUnavailable("snapshots are not available now", repr(error)) from error

    async def clear(self) -> None:
        """Let go of all snapshots, files and all. Raises StorageUnavailable when that fails."""
        self._begin_anew()

    def close(self) -> None:
        """Release the file."""
        self._lost = False
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                raise Misconfigured(f"cannot open the snapshots {self._path}: {error}") from error
        self._delete()
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_CREATE)
        except BaseException:
            connection.close()
            raise
        return connection

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """Begin anew when the file is damaged; any other trouble is the disk's. Raises StorageUnavailable."""
        if not _is_damaged(error):
            raise StorageUnavailable("snapshots are not available now", repr(error)) from error
        self._begin_anew()

    def _come_back(self) -> None:
        """Begin anew where an earlier try has failed, which left no file open."""
        if self._lost:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._lost = True
        self._connection.close()
        try:
            self._delete()
            self._connection = self._connect()
            self._lost = False
        except (OSError, sqlite3.Error) as again:
            raise StorageUnavailable("snapshots are not available now", repr(again)) from again

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Tell damage from a full or missing disk; the low byte of the code is its kind."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _digest(stream: str, version: int, schema: int, state: bytes) -> bytes:
    return blake2b(f"{stream}\0{version}\0{schema}\0".encode() + state, digest_size=_DIGEST_BYTES).digest()
