"""Are two embedded stores the same? A digest of one, and what is different between two."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple

from projections.stores.rows import DOCUMENT


class Fingerprint(NamedTuple):
    """A document's place and a hash over all that is stored of it."""

    database: str
    id: str
    hash: bytes


def fingerprints(connection: sqlite3.Connection, database: str | None = None) -> Iterator[Fingerprint]:
    """Fingerprint every document (of one database), by database name, then id, both in code point order."""
    rows = connection.execute(
        f"SELECT b.name, d.number, d.losers, {DOCUMENT} FROM database b "  # noqa: S608 - constants
        "CROSS JOIN document d ON d.database = b.number "
        "WHERE ?1 IS NULL OR b.name = ?1 ORDER BY b.name, d.id",
        (database,),
    )
    for name, number, losers, id_, *content in rows:
        state = hashlib.blake2b(digest_size=16)
        _feed(state, (name, id_, *content))
        if losers:
            for loser in _losers(connection, number):
                _feed(state, loser)
        yield Fingerprint(name, id_, state.digest())


def _losers(connection: sqlite3.Connection, number: int) -> sqlite3.Cursor:
    return connection.execute(
        "SELECT rev, deleted, attachments, body FROM loser WHERE document = ? ORDER BY rev", (number,)
    )


def _feed(state: hashlib.blake2b, columns: tuple[object, ...]) -> None:
    """Hash columns with their lengths, so that no two rows run into the same bytes."""
    for column in columns:
        data = column if isinstance(column, bytes) else str(column).encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)


def digest(connection: sqlite3.Connection, database: str | None = None) -> str:
    """Hash all documents (of one database): 64 hex digits, equal for equal content."""
    state = hashlib.blake2b(digest_size=32)
    for row in fingerprints(connection, database):
        state.update(row.hash)
    return state.hexdigest()


SLICE: Final = 20_000
"""Documents that one statement compares: some 100 ms."""

# A rebuild mostly numbers documents as they are numbered in the live store: a document of the same number is
# looked at first, as the index costs several times as much.
_DIFFERENT: Final = """
    SELECT b.name, d.id, m.id IS NULL FROM other.document d JOIN other.database b ON b.number = d.database
    LEFT JOIN main.database mb ON mb.name = b.name
    LEFT JOIN main.document m ON m.number = coalesce(
        (SELECT n.number FROM main.document n
            WHERE n.number = d.number AND n.database = mb.number AND n.id = d.id),
        (SELECT i.number FROM main.document i WHERE i.database = mb.number AND i.id = d.id))
    WHERE d.number > ? AND d.number <= ? AND (
        m.id IS NULL OR m.seq <> d.seq OR m.deleted <> d.deleted OR m.losers <> d.losers OR m.tree <> d.tree
        OR m.attachments IS NOT d.attachments OR m.body <> d.body OR d.losers AND EXISTS (
            SELECT rev, deleted, attachments, body FROM other.loser WHERE document = d.number
            EXCEPT SELECT rev, deleted, attachments, body FROM main.loser WHERE document = m.number))
"""

_ONLY_HERE: Final = """
    SELECT b.name, d.id FROM main.document d JOIN main.database b ON b.number = d.database
    LEFT JOIN other.database ob ON ob.name = b.name
    WHERE d.number > ? AND d.number <= ?
    AND NOT EXISTS (SELECT 1 FROM other.document o WHERE o.database = ob.number AND o.id = d.id)
"""


def differences(connection: sqlite3.Connection) -> Generator[list[tuple[str, str]]]:
    """Compare the store `main` of a connection with the attached store `other`, slice by slice.

    Gives (database, id) of every document that one of them lacks, or that is not stored in the same bytes.
    SQLite compares them, so that a million equal documents cost some seconds.
    """
    missing = 0
    for found in _slices(connection, _DIFFERENT, "other"):
        missing += sum(is_missing for *_, is_missing in found)
        yield [(database, id_) for database, id_, _ in found]
    # Whatever is in `other` and not missing here has one document here: are there more, they are only here.
    if _count(connection, "main") != _count(connection, "other") - missing:
        yield from _slices(connection, _ONLY_HERE, "main")


def _slices(connection: sqlite3.Connection, statement: str, schema: str) -> Iterator[list[tuple[Any, ...]]]:
    (last,) = connection.execute(f"SELECT max(number) FROM {schema}.document").fetchone()  # noqa: S608 - above
    for first in range(0, last or 0, SLICE):
        yield connection.execute(statement, (first, first + SLICE)).fetchall()


def _count(connection: sqlite3.Connection, schema: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {schema}.document").fetchone()[0])  # noqa: S608 - above
