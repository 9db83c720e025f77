"""Are two embedded stores the same? Fingerprints of all documents in canonical order."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

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


def steps(left: Iterator[Fingerprint], right: Iterator[Fingerprint]) -> Iterator[tuple[str, str] | None]:
    """Walk two sorted stores side by side: (database, id) where they differ, None for an equal pair."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[:2] < other[:2]):
            assert one is not None
            yield one[:2]
            one = next(left, None)
        elif one is None or other[:2] < one[:2]:
            yield other[:2]
            other = next(right, None)
        else:
            yield None if one.hash == other.hash else one[:2]
            one, other = next(left, None), next(right, None)
