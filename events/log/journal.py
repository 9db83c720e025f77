"""The writing end of the SQLite log: places entries in their streams, chains them, commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from events.errors import AlreadyAnswered, Conflict, VersionConflict
from events.event import Recorded
from events.log import failpoints
from events.log.chain import Row, record_hash
from events.log.codec import Codec
from events.log.damage import translated
from events.log.entry import Draft, Entry
from events.log.log import ANY_VERSION
from events.log.sqlite import INSERT, SELECT, Head, LogConnection, read_head
from events.log.witness import Witness

VERSIONS_KEPT: Final = 100_000
"""Streams whose version is remembered (about 20 MB); one that is not costs an index look-up."""

_SELECT_VERSION = "SELECT max(originator_version) FROM events WHERE originator_id = ?"
_SELECT_BY_ID = "SELECT position FROM events WHERE event_id = ?"
_SELECT_RANGE = f"{SELECT} WHERE position >= ? ORDER BY position LIMIT ?"


class SqliteJournal:
    """`events.log.group_commit.Journal` over the one writing connection of a log file."""

    def __init__(self, connection: LogConnection, codec: Codec, witness: Witness) -> None:
        self._connection = connection.raw
        self._connection.row_factory = None
        self._cursor = self._connection.cursor()
        self._codec = codec
        self._witness = witness
        self._versions: dict[str, int] = {}
        with self._storage():
            self._head = read_head(self._connection)
        self._clean = True

    def begin(self) -> None:
        """Begin a transaction; after a failure that could not be mended then, mend it first."""
        if not self._clean:
            self.recover()
        with self._storage():
            self._connection.execute("BEGIN IMMEDIATE")
        self._clean = False

    @failpoints.after("event-inserted")
    def write(self, entry: Entry) -> list[Recorded]:
        """Insert an entry whole, or nothing of it.

        Raises VersionConflict, AlreadyAnswered, or Conflict when an event id was given twice by the clock.
        """
        try:
            records, versions = self._place(entry)
            self._insert(records, entry)
        except VersionConflict:
            self._check_unanswered(entry)
            raise
        except sqlite3.IntegrityError as error:
            self._check_unanswered(entry)
            raise Conflict("already there", f"event id {entry.first_id.hex()} is taken") from error
        except sqlite3.Error as error:
            raise translated(error, "written") from error
        if len(self._versions) > VERSIONS_KEPT:
            self._versions.clear()
        self._versions.update(versions)
        self._head = Head(records[-1].position, records[-1].hash)
        return records

    @failpoints.after("event-committed")
    def commit(self) -> None:
        """Make the transaction durable."""
        with self._storage():
            self._connection.execute("COMMIT")
        self._witness.note(self._head)
        self._clean = True

    def recover(self) -> None:
        """Roll back what is open; forget what was only in memory."""
        self._clean = False
        self._versions.clear()
        with self._storage():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._head = read_head(self._connection)
        self._clean = True

    def find(self, entry: Entry) -> list[Recorded] | None:
        """Return the entry's records if it is in the store: it was written whole, so side by side."""
        with self._storage():
            found = self._connection.execute(_SELECT_BY_ID, (entry.first_id,)).fetchone()
            if found is None:
                return None
            rows = self._connection.execute(_SELECT_RANGE, (found[0], entry.count)).fetchall()
        return [self._codec.decode(Row(*row)) for row in rows]

    def _place(self, entry: Entry) -> tuple[list[Recorded], dict[str, int]]:
        """Give every event its position, version and hash; return also the streams' new versions."""
        position, digest = self._head
        versions: dict[str, int] = {}
        records: list[Recorded] = []
        for write in entry.writes:
            stream = write.stream
            version = versions[stream] if stream in versions else self._version(stream)
            if write.expected not in (ANY_VERSION, version):
                raise VersionConflict(stream, write.expected, version)
            for draft in write.drafts:
                position, version = position + 1, version + 1
                topic = type(draft.event).__name__
                digest = record_hash(digest, position, stream, version, topic, draft.event_id, draft.state)
                records.append(_recorded(draft, position, stream, version, digest))
            versions[stream] = version
        return records, versions

    def _version(self, stream: str) -> int:
        known = self._versions.get(stream)
        if known is None:
            (found,) = self._connection.execute(_SELECT_VERSION, (stream,)).fetchone()
            known = self._versions[stream] = found or 0
        return known

    def _insert(self, records: list[Recorded], entry: Entry) -> None:
        """Insert rows; a single one needs no savepoint, as a statement fails whole by itself."""
        drafts = (draft for write in entry.writes for draft in write.drafts)
        rows = [
            (r.position, r.stream, r.version, type(r.event).__name__, d.event_id, d.state, r.hash)
            for r, d in zip(records, drafts, strict=True)
        ]
        if len(rows) == 1:
            self._cursor.execute(INSERT, rows[0])
            return
        self._connection.execute("SAVEPOINT entry")
        try:
            self._connection.executemany(INSERT, rows)
        except sqlite3.IntegrityError:
            self._connection.execute("ROLLBACK TO entry")
            self._connection.execute("RELEASE entry")
            raise
        self._connection.execute("RELEASE entry")

    def _check_unanswered(self, entry: Entry) -> None:
        """Say AlreadyAnswered rather than a conflict that would invite another try."""
        if entry.answers is not None:
            with self._storage():
                found = self._connection.execute(_SELECT_BY_ID, (entry.first_id,)).fetchone()
            if found is not None:
                raise AlreadyAnswered(*entry.answers)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, "written") from error


def _recorded(draft: Draft, position: int, stream: str, version: int, digest: bytes) -> Recorded:
    return Recorded(
        position=position,
        stream=stream,
        version=version,
        event=draft.event,
        metadata=draft.metadata,
        hash=digest,
    )
