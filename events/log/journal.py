"""The writing end of the SQLite log: places entries in their streams, chains them, commits.

Placing is arithmetic on the loop. All rows of a group are then one statement, which is its own transaction:
SQLite works through it without the interpreter lock, so the loop prepares the next group meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Final

from events.errors import AlreadyAnswered, Conflict, VersionConflict
from events.event import Recorded
from events.log import failpoints
from events.log.chain import Row, record_hash
from events.log.codec import Codec
from events.log.damage import translated
from events.log.entry import Draft, Entry
from events.log.log import ANY_VERSION
from events.log.sqlite import COLUMNS, INSERT, SELECT, Head, LogConnection, read_head
from events.log.witness import Witness

VERSIONS_KEPT: Final = 100_000
"""Streams whose version is remembered (about 20 MB); one that is not costs an index look-up."""

ROWS_AT_ONCE: Final = 1_000
"""Rows that one statement inserts; more, which only one large append can bring, take a transaction."""

_SELECT_VERSION = "SELECT max(originator_version) FROM events WHERE originator_id = ?"
_SELECT_BY_ID = "SELECT position FROM events WHERE event_id = ?"
_SELECT_RANGE = f"{SELECT} WHERE position >= ? ORDER BY position LIMIT ?"


_Row = tuple[int, str, int, str, bytes, bytes, bytes]


@lru_cache(maxsize=512)
def _insert_of(rows: int) -> str:
    """Give the statement that inserts so many rows."""
    return f"INSERT INTO events ({COLUMNS}) VALUES {','.join(['(?,?,?,?,?,?,?)'] * rows)}"  # noqa: S608 - only marks


class SqliteJournal:
    """`events.log.group_commit.Journal` over the one writing connection of a log file."""

    def __init__(self, connection: LogConnection, codec: Codec, witness: Witness) -> None:
        self._connection = connection.raw
        self._connection.row_factory = None
        self._codec = codec
        self._witness = witness
        self._versions: dict[str, int] = {}
        self._rows: list[_Row] = []
        self._ids: set[bytes] = set()
        with self._storage():
            self._head = read_head(self._connection)
        self._clean = True

    def begin(self) -> None:
        """Begin a group; after a failure that could not be mended then, mend it first."""
        if not self._clean:
            self.recover()
        self._rows = []
        self._ids.clear()
        self._clean = False

    @failpoints.after("event-placed")
    def write(self, entry: Entry) -> list[Recorded]:
        """Take an entry into the group whole, or nothing of it.

        Raises VersionConflict, AlreadyAnswered.
        """
        try:
            records, versions = self._place(entry)
        except VersionConflict:
            self._check_unanswered(entry)
            raise
        except sqlite3.Error as error:
            raise translated(error, "written") from error
        self._check_unanswered(entry)
        self._take(records, entry)
        if len(self._versions) > VERSIONS_KEPT:
            self._versions.clear()
        self._versions.update(versions)
        self._head = Head(records[-1].position, records[-1].hash)
        return records

    @failpoints.after("event-committed")
    def commit(self) -> None:
        """Make the group durable. Raises Conflict when one of its event ids was given before."""
        try:
            self._insert(self._rows)
        except sqlite3.IntegrityError as error:
            raise Conflict("already there", f"an event id is taken: {error}") from error
        except sqlite3.Error as error:
            raise translated(error, "written") from error
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

    def _take(self, records: Sequence[Recorded], entry: Entry) -> None:
        drafts = [draft for write in entry.writes for draft in write.drafts]
        for r, d in zip(records, drafts, strict=True):
            self._rows.append(
                (r.position, r.stream, r.version, type(r.event).__name__, d.event_id, d.state, r.hash)
            )
            self._ids.add(d.event_id)

    def _insert(self, rows: Sequence[_Row]) -> None:
        if len(rows) <= ROWS_AT_ONCE:
            self._connection.execute(_insert_of(len(rows)), list(chain.from_iterable(rows)))
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")

    def _check_unanswered(self, entry: Entry) -> None:
        """Say AlreadyAnswered rather than a conflict that would invite another try."""
        if entry.answers is None:
            return
        with self._storage():
            found = self._connection.execute(_SELECT_BY_ID, (entry.first_id,)).fetchone()
        if found is not None or entry.first_id in self._ids:
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
