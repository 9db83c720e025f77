"""The log's table in SQLite, and an `eventsourcing` recorder on it.

The recorder adds to the library's own: positions that are never reused, triggers that refuse to change
or delete a record, an event id and a chain hash per record, a format version, and subscriptions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any, Final, NamedTuple
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    InterfaceError,
    ListenNotifySubscription,
    Notification,
    StoredEvent,
    Subscription,
)
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)

from events.errors import Misconfigured
from events.log.chain import GENESIS, record_hash

APPLICATION_ID: Final = 0x4D4C4F47
"""`MLOG`: marks the file as a Mailio log (SQLite file format, header offset 68)."""

FORMAT: Final = 2
"""Format of the log; raised when an older program could not go on writing. 2: records may be sealed."""

BUSY_SECONDS: Final = 5.0
"""How long a connection waits for another one's lock; only the library's recorder ever has to."""

CHECKPOINT_PAGES: Final = 4_000
"""Pages in the write-ahead file before they move to the database: 16 MiB, a few hundred groups of appends."""

JOURNAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Size to which the write-ahead file is cut back after a long read had kept it from being reused."""

_STATEMENTS_CACHED: Final = 64

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        originator_id TEXT NOT NULL,
        originator_version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        event_id BLOB UNIQUE CHECK (length(event_id) = 16),
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        state BLOB NOT NULL,
        UNIQUE (originator_id, originator_version)
    )""",
    """CREATE TRIGGER IF NOT EXISTS events_are_never_changed BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS events_are_never_deleted BEFORE DELETE ON events
       BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
    "CREATE TABLE IF NOT EXISTS log_meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    f"INSERT OR IGNORE INTO log_meta VALUES ('format', {FORMAT})",  # noqa: S608 - constants only
    f"PRAGMA application_id = {APPLICATION_ID}",
)

COLUMNS: Final = "position, originator_id, originator_version, topic, event_id, state, hash"
INSERT: Final = f"INSERT INTO events ({COLUMNS}) VALUES (?,?,?,?,?,?,?)"  # noqa: S608 - constants only
SELECT: Final = f"SELECT {COLUMNS} FROM events"  # noqa: S608 - constants only
SELECT_HEAD: Final = "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1"


class Head(NamedTuple):
    """The newest record: its position (0 when there is none) and its hash."""

    position: int = 0
    hash: bytes = GENESIS


def connect(path: str, *, readonly: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode, durable on commit; the file must exist unless it may be made.

    Raises sqlite3.Error.
    """
    name = f"{Path(path).absolute().as_uri()}?mode=ro" if readonly else path
    connection = sqlite3.connect(
        name,
        uri=readonly,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
    )
    try:
        _configure(connection, readonly=readonly)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, *, readonly: bool) -> None:
    """Set what SQLite keeps per connection, and the write-ahead mode that it keeps in the file."""
    if readonly:
        connection.execute("PRAGMA query_only = ON")
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")


def undo_half_change(path: Path) -> None:
    """Undo the change of a database in which the power went; who only reads is not let in before.

    A new file has a journal for that until it is in write-ahead mode. One that is not there is fine, and so
    is one in which somebody is writing now. Raises sqlite3.Error.
    """
    if Path(f"{path}-journal").exists() and path.exists():
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check_format(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file of another application, or one of a newer format. Raises Misconfigured."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and tables == 0:
        return
    if application != APPLICATION_ID:
        raise Misconfigured(f"{path} is not a Mailio log: choose another data folder")
    (found,) = connection.execute("SELECT value FROM log_meta WHERE name = 'format'").fetchone()
    if found > FORMAT:
        raise Misconfigured(
            f"the log {path} has format {found}, this program knows {FORMAT} at most: run the newer program"
        )


def read_vault(connection: sqlite3.Connection) -> str:
    """Return the identity of the vault that the log's records are sealed with, "" while none is."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'log_meta'").fetchone()
    row = tables and connection.execute("SELECT value FROM log_meta WHERE name = 'vault'").fetchone()
    return str(row[0]) if row else ""


def bind_vault(connection: sqlite3.Connection, vault: str) -> None:
    """Note the vault whose keys seal the log, before the first record is sealed.

    An older program is kept from writing to the log from now on. Raises Misconfigured when it is another's.
    """
    bound = read_vault(connection)
    if bound == vault:
        return
    if bound:
        raise other_vault(bound, vault)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR REPLACE INTO log_meta VALUES ('format', ?)", (FORMAT,))
    connection.execute("INSERT INTO log_meta VALUES ('vault', ?)", (vault,))
    connection.execute("COMMIT")


def other_vault(bound: str, found: str) -> Misconfigured:
    """Say that the vault at hand is not the one that the log was written with."""
    return Misconfigured(
        f"the log is sealed with the keys of vault {bound}, found is vault {found}: restore the right one"
    )


def read_head(connection: sqlite3.Connection) -> Head:
    """Return the newest record's position and hash as this connection sees it."""
    row = connection.execute(SELECT_HEAD).fetchone()
    return Head(*row) if row else Head()


class _LogTransaction(SQLiteTransaction):
    """Takes the write lock at the beginning: a reader that turns writer late can fail instead of wait."""

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        return cursor


class LogConnection(SQLiteConnection):
    """A pooled connection; `raw` is the driver's."""

    @property
    def raw(self) -> sqlite3.Connection:
        """The driver's connection, for work that the library's cursor would slow down."""
        return self._sqlite_conn

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        """Run a block in a transaction; the library's errors replace the driver's."""
        with _LogTransaction(self, commit=commit) as cursor, cursor:
            yield cursor


class _LogConnectionPool(SQLiteConnectionPool):
    """Makes connections by `connect`."""

    def _create_connection(self) -> LogConnection:
        try:
            connection = connect(self.db_name)
        except sqlite3.Error as error:
            raise InterfaceError(error) from error
        connection.row_factory = sqlite3.Row
        return LogConnection(connection, self.max_age)

    def close(self) -> None:
        """Close the pool once every connection has been given back.

        The library closes those in use as well; the driver crashes the interpreter when another thread is
        inside one of them.
        """
        with self._put_condition:
            self._put_condition.wait_for(lambda: not self._in_use, timeout=BUSY_SECONDS)
            super().close()


class LogDatastore(SQLiteDatastore):
    """The pool of a log file's connections: one writer at a time, several readers."""

    def __init__(self, path: str, *, pool_size: int = 5, max_overflow: int = 10) -> None:
        super().__init__(path, originator_id_type="text")
        self.pool = _LogConnectionPool(db_name=path, pool_size=pool_size, max_overflow=max_overflow)


class LogRecorder(SQLiteApplicationRecorder):
    """The library's application recorder on the log's table.

    What it inserts is chained like everything else, but has no event id; the node itself appends
    through `events.log.sqlite_log`.
    """

    def __init__(self, datastore: SQLiteDatastore) -> None:
        super().__init__(datastore, events_table_name="events")
        self._listeners: set[Flag] = set()

    def construct_create_table_statements(self) -> list[str]:
        """Give the statements that make the tables where they are missing."""
        return list(SCHEMA)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Insert all or none, then wake the subscriptions; return their positions."""
        positions = super().insert_events(stored_events, **kwargs)
        for listener in tuple(self._listeners):
            listener.set()
        return positions

    def _insert_events(
        self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any
    ) -> Sequence[int] | None:
        c.execute(SELECT_HEAD)
        position, digest = c.fetchone() or Head()
        positions = []
        for event in stored_events:
            position += 1
            stream = _text(event.originator_id)
            fields = (position, stream, event.originator_version, event.topic, None, event.state)
            digest = record_hash(digest, *fields)
            c.execute(INSERT, (*fields, digest))
            positions.append(position)
        return positions

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read records from `start` to `stop` in order of position."""
        first = 1 if start is None else start if inclusive_of_start else start + 1
        clauses, params = ["position >= ?"], [first]  # type: tuple[list[str], list[int | str]]
        if stop is not None:
            clauses.append("position <= ?")
            params.append(stop)
        if topics:
            clauses.append(f"topic IN ({','.join('?' * len(topics))})")
            params += topics
        statement = f"{SELECT} WHERE {' AND '.join(clauses)} ORDER BY position LIMIT ?"
        with self.datastore.transaction(commit=False) as c:
            c.execute(statement, [*params, limit])
            return [self._notification(row) for row in c.fetchall()]

    def _notification(self, row: sqlite3.Row) -> Notification:
        return Notification(
            id=row["position"],
            originator_id=self.convert_originator_id(row["originator_id"]),
            originator_version=row["originator_version"],
            topic=row["topic"],
            state=row["state"],
        )

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Follow what this recorder object inserts, after the position `gt`."""
        return _LogSubscription(self, gt, topics)

    def listen(self, flag: Flag) -> None:
        """Set `flag` after each insert from now on."""
        self._listeners.add(flag)

    def unlisten(self, flag: Flag) -> None:
        """Stop setting `flag`."""
        self._listeners.discard(flag)


class _LogSubscription(ListenNotifySubscription[LogRecorder]):
    """The library's pulling thread, woken by the recorder."""

    def __init__(self, recorder: LogRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        # The thread has begun to pull already: what was inserted before the flag is heard comes by this pull.
        recorder.listen(self._has_been_notified)
        self._has_been_notified.set()

    def stop(self) -> None:
        """Stop, from any thread."""
        super().stop()
        self._recorder.unlisten(self._has_been_notified)


def _text(originator_id: UUID | str) -> str:
    """Stream names as the library's SQLite recorders store them."""
    return originator_id.hex if isinstance(originator_id, UUID) else originator_id
