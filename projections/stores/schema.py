"""The embedded store's file: its tables, how it is opened, and what its errors mean to the operator."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from events.errors import MailioError, Misconfigured, StorageUnavailable
from events.log.sqlite import undo_half_change

FORMAT: Final = 1
"""Version of the tables below (`PRAGMA user_version`). Views are derived: a new format asks for a rebuild."""

APPLICATION_ID: Final = 0x4D494C56
"""`PRAGMA application_id` of a view store: "MILV"."""

BUILDING_ID: Final = 0x4D494C42
"""The same while a store is being built aside, which has no right to be opened yet: "MILB"."""

CACHE_KIB: Final = 16 * 1024
"""Page cache of one connection: the upper pages of the indexes of some 100,000 mailboxes."""

PAGE_BYTES: Final = 8192
"""Page size of a new file: three message documents of 2 KB fill a page; with 4096 bytes writing was a third
slower (`benchmarks/materialise.py`)."""

WAL_BYTES: Final = 32 * 1024 * 1024
"""The write-ahead log is moved into the file when it is this long: some batches of mail."""

BUSY_SECONDS: Final = 10.0
"""How long to wait for a lock that another process holds (a backup, a reader at its first page)."""

INDEXES: Final = {
    "document_id": "CREATE UNIQUE INDEX document_id ON document (database, id)",
    "document_seq": "CREATE UNIQUE INDEX document_seq ON document (database, seq)",
    # The clients' `client-folder-created-desc-index` (wire spec section 6.1); `unread` for the counts.
    "document_folder": """
    CREATE INDEX document_folder ON document (database, folder DESC, created DESC, id DESC, unread)
        WHERE folder IS NOT NULL
    """,
}
"""Ways to the documents of a database, by name."""

_TABLES: Final = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
    """,
    # Counters are kept with each batch: clients ask for them at every connection.
    """
    CREATE TABLE database (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, update_seq INTEGER NOT NULL,
        doc_count INTEGER NOT NULL, deleted_count INTEGER NOT NULL, used_bytes INTEGER NOT NULL
    )
    """,
    # The winner's content. The body stands last: SQLite leaves its pages alone when it isn't selected.
    """
    CREATE TABLE document (
        number INTEGER PRIMARY KEY, database INTEGER NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,
        deleted INTEGER NOT NULL, losers INTEGER NOT NULL, folder TEXT, created INTEGER, unread INTEGER,
        tree BLOB NOT NULL, attachments BLOB, body BLOB NOT NULL
    )
    """,
    *INDEXES.values(),
    # Content of the leaves that did not win.
    """
    CREATE TABLE loser (
        document INTEGER NOT NULL, rev TEXT NOT NULL, deleted INTEGER NOT NULL, attachments BLOB,
        body BLOB NOT NULL, PRIMARY KEY (document, rev)
    )
    """,
    # Not part of the view: replication checkpoints of clients. `touched` says which were forgotten longest.
    """
    CREATE TABLE local_document (
        touched INTEGER PRIMARY KEY, database TEXT NOT NULL, id TEXT NOT NULL, generation INTEGER NOT NULL,
        body BLOB NOT NULL, UNIQUE (database, id)
    )
    """,
    "CREATE TABLE parked (position INTEGER PRIMARY KEY, reason TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


def rebuild_advice(path: Path, what: str) -> Misconfigured:
    """An error that tells the operator to make the derived file again."""
    return Misconfigured(f"{what}: run `mailio-node rebuild {path.name.partition('.')[0]}`", str(path))


def translated(error: sqlite3.Error, path: Path) -> MailioError:
    """Say what an SQLite error means: a file to rebuild, or a disk to look after."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return rebuild_advice(path, "the view store is damaged")
    if code == sqlite3.SQLITE_FULL:
        return StorageUnavailable("no space left for the view store", f"{path}: {error}")
    return StorageUnavailable("the view store can't be used", f"{path}: {error}")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Translate the errors of SQLite and of the disk in a block."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
    except OSError as error:
        raise StorageUnavailable("the view store can't be used", f"{path}: {error}") from error


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open a connection with this store's settings. Transactions are begun and ended by hand."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={'ro' if readonly else 'rw'}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if not readonly:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A power loss may take the last batches, never consistency: the checkpoint goes with them.
        connection.execute("PRAGMA synchronous = NORMAL")
        # COMMIT runs on the loop and must never sync: the store moves the log itself, in its thread. The file
        # is cut when the log begins anew, so that its length tells how much waits.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA journal_size_limit = 0")
    return connection


def log_path(path: Path) -> str:
    """The write-ahead log beside a store's file, which `path` may be a link to."""
    return f"{path.resolve()}-wal"


def touch(path: Path) -> None:
    """Create an empty file that only its owner may read: views hold personal data."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def prepare(path: Path, *, readonly: bool) -> None:
    """Check that the file is a store this program understands; fill an empty one with tables.

    Raises Misconfigured for a newer or foreign format and for a damaged file; such a file stays as it is.
    """
    with errors_of(path):
        if not readonly:
            undo_half_change(path.resolve())
        with closing(connect(path, readonly=True)) as connection:
            empty = _is_empty(connection)
            if not empty:
                _check(connection, path)
        if empty and readonly:
            raise Misconfigured("the view store is still empty: start the node first", str(path))
        if empty:
            with closing(connect(path)) as connection:
                _create(connection)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Tell a file without tables, as a machine that stopped while it was made may leave it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables and application == 0


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == BUILDING_ID:
        raise rebuild_advice(path, "the view was not built to its end")
    if application != APPLICATION_ID:
        raise Misconfigured("this file is not a view store of mailio-node: choose another path", str(path))
    if version > FORMAT:
        raise Misconfigured(
            "the view store was written by a newer mailio-node: install that version, or move the file "
            "away and run `mailio-node rebuild`",
            f"{path}: format {version}, this program knows {FORMAT}",
        )
    if version < FORMAT:
        raise rebuild_advice(path, "the view store has an old format")
