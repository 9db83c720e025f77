"""The vault: one secret key for each user, in a file of its own. Who destroys a key erases all it sealed.

A key is durable before anything is sealed with it. Of a destroyed one the row stays, so that "erased" is
told apart from "the vault is not the right one". States of a key:

    alive --condemn--> condemned --destroy--> destroyed --finish--> erased
                           |-- spare --> alive
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from events.errors import Busy, Gone, Misconfigured, StorageUnavailable
from events.log.sealing import SealBroken
from node.crypto.owner_key import OwnerKey

APPLICATION_ID: Final = 0x4D4C564B
"""`MLVK`: marks the file as a vault (SQLite file format, header offset 68)."""

FORMAT: Final = 1
"""Format of the tables (`PRAGMA user_version`)."""

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32

CACHED: Final = 10_000
"""Keys kept in memory with their ciphers, 2.8 KB each: 28 MB when full.

One that is not there costs about 25 us, with 100,000 mailboxes that get mail in turns: a few percent of a
mail's work, whatever their number. So this is no setting: ten times the memory would buy little.
"""

CACHED_BESIDE_COPY: Final = 5_000
"""The same where all keys were copied (`COPIED_AFTER`): then one that is not there costs half as much."""

LOOK_AGAIN_SECONDS: Final = 0.1
"""How long a reader beside a daemon may go on with a key that was destroyed meanwhile."""

COPIED_AFTER: Final = 1_000
"""Keys that a reader beside a daemon looks up in the file before it takes all into memory, 180 bytes each.

Who asks for so many reads the whole log: locking the file for each of them is most of what a look-up costs.
"""

BUSY_SECONDS: Final = 10.0

_TABLES: Final = (
    "CREATE TABLE vault (id TEXT NOT NULL)",
    # The secret is overwritten in place: a row of the same length stays where it is.
    """
    CREATE TABLE key (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, owner TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL, state TEXT NOT NULL, secret BLOB NOT NULL CHECK (length(secret) = 32)
    )
    """,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


def vault_path(data: Path) -> Path:
    """File of the vault of a data folder."""
    return data / "keys" / "vault.sqlite"


_BY_ID: Final = "SELECT id, owner, state, secret FROM key WHERE id = ?"

_Row = tuple[bytes, str, str, bytes]


class KeyState(StrEnum):
    """Where a key stands on its way out."""

    ALIVE = "alive"
    CONDEMNED = "condemned"
    """Its owner is about to be erased: whether they were, the log knows."""
    DESTROYED = "destroyed"
    """The secret is gone; not everything else may be yet."""
    ERASED = "erased"


_GONE: Final = (KeyState.DESTROYED, KeyState.ERASED)


class Vault:
    """The keys of one node. May be used from several threads.

    Every method raises StorageUnavailable when SQLite fails.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, readonly: bool) -> None:
        """Use `open` or `open_read_only` instead."""
        self._path = path
        self._connection = connection
        self._readonly = readonly
        self._lock = threading.Lock()
        self._by_owner: dict[str, OwnerKey] = {}
        self._by_id: dict[bytes, OwnerKey | None] = {}
        self._secrets: dict[bytes, bytes] = {}
        self._looked_up = 0
        self._looked_at = time.monotonic()
        (self._data_version,) = connection.execute("PRAGMA data_version").fetchone()
        self.id: str = connection.execute("SELECT id FROM vault").fetchone()[0]

    @classmethod
    def open(cls, path: Path, expected: str = "") -> Vault:
        """Open the vault for writing, or make it.

        `expected` is the identity of the vault that the log is sealed with, if it is. Raises Misconfigured
        when that vault is missing, or the file is another or no vault.
        """
        if not path.exists():
            _require_unsealed(path, expected)
            _make_private(path)
        with _opening(path):
            connection = _connect(path)
            _prepare(connection, path)
            return _checked(cls(path, connection, readonly=False), expected)

    @classmethod
    def open_read_only(cls, path: Path, expected: str = "") -> Vault | None:
        """Open the vault beside a running daemon; None when there is none and none is `expected`.

        Raises Misconfigured.
        """
        if not path.exists():
            _require_unsealed(path, expected)
            return None
        with _opening(path):
            connection = _connect(path, readonly=True)
            _check(connection, path)
            return _checked(cls(path, connection, readonly=True), expected)

    def close(self) -> None:
        """Release the file and forget the keys, once whoever is at work with them in a thread is done."""
        with self._lock:
            self._by_owner.clear()
            self._by_id.clear()
            self._drop_copy()
            self._connection.close()

    # Keys

    def key_of(self, owner: str) -> OwnerKey:
        """Return the owner's key to seal with, made durable first if they have none.

        Raises Gone when it was destroyed, Busy while its owner is about to be erased: what is sealed has to
        stand in the log before the event that says so.
        """
        key = self._by_owner.get(owner)
        if key is None:
            with self._storage():
                key = self._found(owner) or self._made(owner)
                self._remember(key)
        return key

    def key(self, key_id: bytes) -> OwnerKey | None:
        """Return a key by its id, None when it was destroyed. Raises SealBroken when it never was here.

        A reader's key may lack its owner.
        """
        if self._readonly:
            self._look_again()
        try:
            return self._by_id[key_id]
        except KeyError:
            pass
        if (secret := self._secrets.get(key_id)) is not None:
            key = OwnerKey(key_id, "", secret)
            with self._storage():
                self._remember(key)
            return key
        with self._storage():
            if self._readonly:
                self._copy_when_busy()
            row = self._row(_BY_ID, key_id)
            if row is None:
                # The log is bound to this vault, so either the id is damaged or the vault is an old copy.
                raise SealBroken(f"{self._path} has no key {key_id.hex()}")
            found = None if row[2] in _GONE else OwnerKey(row[0], row[1], row[3])
            if found is not None and row[2] == KeyState.ALIVE:
                self._remember(found)
            else:
                self._by_id[key_id] = found
        return found

    def _found(self, owner: str) -> OwnerKey | None:
        row = self._row("SELECT id, owner, state, secret FROM key WHERE owner = ?", owner)
        if row is None:
            return None
        if row[2] in _GONE:
            raise Gone("this account was erased", owner)
        if row[2] == KeyState.CONDEMNED:
            raise Busy("this account is being erased", owner)
        return OwnerKey(row[0], row[1], row[3])

    def _made(self, owner: str) -> OwnerKey:
        key_id, secret = secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES)
        now = time.time_ns() // 1_000_000
        self._connection.execute(
            "INSERT INTO key (id, owner, created, state, secret) VALUES (?, ?, ?, ?, ?)",
            (key_id, owner, now, KeyState.ALIVE, secret),
        )
        return OwnerKey(key_id, owner, secret)

    def _remember(self, key: OwnerKey) -> None:
        # One makes room for one: who gets mail often is soon back, the others stay.
        most = CACHED_BESIDE_COPY if self._secrets else CACHED
        while len(self._by_id) >= most:
            oldest = self._by_id.pop(next(iter(self._by_id)))
            if oldest is not None:
                self._by_owner.pop(oldest.owner, None)
        self._by_owner[key.owner] = self._by_id[key.id] = key

    def _look_again(self) -> None:
        """Forget what is remembered when another process has changed the file."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_AGAIN_SECONDS:
            return
        with self._storage():
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            self._looked_at = now
            if version != self._data_version:
                self._data_version = version
                self._by_owner.clear()
                self._by_id.clear()
                self._drop_copy()

    def _copy_when_busy(self) -> None:
        """Take a copy of the keys into memory where a reader asks for many."""
        self._looked_up += 1
        if self._looked_up == COPIED_AFTER:
            alive = "SELECT id, secret FROM key WHERE state = ?"
            self._secrets = dict(self._connection.execute(alive, (KeyState.ALIVE,)))

    def _drop_copy(self) -> None:
        self._secrets, self._looked_up = {}, 0

    # Erasing

    def condemn(self, owner: str) -> None:
        """Note that the owner is about to be erased: from now on their key only opens. Raises Gone."""
        with suppress(Busy):
            self.key_of(owner)
        self._move(owner, KeyState.ALIVE, KeyState.CONDEMNED)
        self._by_owner.pop(owner, None)

    def spare(self, owner: str) -> None:
        """Take a condemnation back."""
        self._move(owner, KeyState.CONDEMNED, KeyState.ALIVE)

    def destroy(self, owner: str) -> None:
        """Overwrite the key of a condemned owner; the file is written anew, so that no copy is left in it."""
        with self._storage():
            # Both: what only one of them has is never pushed out.
            self._by_owner.clear()
            self._by_id.clear()
            self._connection.execute(
                "UPDATE key SET state = ?, secret = zeroblob(32) WHERE owner = ? AND state = ?",
                (KeyState.DESTROYED, owner, KeyState.CONDEMNED),
            )
            self._connection.execute("VACUUM")

    def finish(self, owner: str) -> None:
        """Note that nothing of the owner is left."""
        self._move(owner, KeyState.DESTROYED, KeyState.ERASED)

    def unfinished(self) -> list[tuple[str, KeyState]]:
        """Return the owners whose erasure was begun and is not finished, each with how far it is."""
        with self._storage():
            rows = self._connection.execute(
                "SELECT owner, state FROM key WHERE state IN (?, ?) ORDER BY number",
                (KeyState.CONDEMNED, KeyState.DESTROYED),
            ).fetchall()
        return [(owner, KeyState(state)) for owner, state in rows]

    def destroyed(self) -> frozenset[bytes]:
        """Return the ids of all keys that were destroyed."""
        with self._storage():
            rows = self._connection.execute("SELECT id FROM key WHERE state IN (?, ?)", _GONE).fetchall()
        return frozenset(key_id for (key_id,) in rows)

    def _move(self, owner: str, before: KeyState, after: KeyState) -> None:
        with self._storage():
            self._connection.execute(
                "UPDATE key SET state = ? WHERE owner = ? AND state = ?", (after, owner, before)
            )

    def _row(self, statement: str, value: str | bytes) -> _Row | None:
        row: _Row | None = self._connection.execute(statement, (value,)).fetchone()
        return row

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise StorageUnavailable(
                "the vault of keys is not available now", f"{self._path}: {error}"
            ) from error


def _require_unsealed(path: Path, expected: str) -> None:
    if expected:
        raise Misconfigured(
            f"{path} is missing, but the log is sealed with its keys: restore it from a backup; "
            "without it nobody's mail can be read"
        )


def _checked(vault: Vault, expected: str) -> Vault:
    if expected and vault.id != expected:
        vault.close()
        raise Misconfigured(
            f"the log is sealed with the keys of vault {expected}, found is vault {vault.id}: "
            "restore the right keys/vault.sqlite"
        )
    return vault


def _make_private(path: Path) -> None:
    """Create the file readable by its owner only, its name durable."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    connection = sqlite3.connect(
        name, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    if not readonly:
        # No write-ahead log: what is deleted would live on in it. A rolled-back page may not either.
        connection.execute("PRAGMA journal_mode = DELETE")
        # Not FULL: a journal whose removal is not synced comes back with a power loss, and takes the key with
        # it that events were sealed with by then.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of an empty file; check any other."""
    connection.execute("BEGIN IMMEDIATE")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if not tables and not application:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO vault VALUES (?)", (secrets.token_hex(8),))
    connection.execute("COMMIT")
    _check(connection, path)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise Misconfigured(f"{path} is not a vault of keys: restore it from a backup")
    if version > FORMAT:
        raise Misconfigured(f"{path} was written by a newer mailio-node: run that version")


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Misconfigured(f"cannot open the vault of keys {path}: {error}") from error
