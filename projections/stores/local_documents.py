"""`_local` documents: replication checkpoints of clients. Not replicated, not part of the view."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from events.errors import Conflict

LIMIT: Final = 1000
"""`_local` documents kept of one database. A client writes one per replication it has; when the one
unused for longest is forgotten, that client compares revisions again and loses nothing."""


NONE: Final = "0-0"
"""The rev of a document that isn't there: whoever expects it means to make a new one."""


class LocalDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A `_local` document: `rev` is `0-<count of writes>`, `body` is JSON without `_id` and `_rev`."""

    rev: str
    body: bytes


def read(connection: sqlite3.Connection, database: str, id: str) -> LocalDocument | None:  # noqa: A002
    """Return the document, None when there is none."""
    row = connection.execute(
        "SELECT generation, body FROM local_document WHERE database = ? AND id = ?", (database, id)
    ).fetchone()
    return LocalDocument(rev=f"0-{row[0]}", body=row[1]) if row else None


def read_all(connection: sqlite3.Connection, database: str) -> dict[str, LocalDocument]:
    """Return all documents of a database by id, those used last first."""
    rows = connection.execute(
        "SELECT id, generation, body FROM local_document WHERE database = ? ORDER BY touched DESC",
        (database,),
    )
    return {id_: LocalDocument(rev=f"0-{generation}", body=body) for id_, generation, body in rows}


def require(connection: sqlite3.Connection, database: str, id: str, expected: str | None) -> int:  # noqa: A002
    """Return the generation of the document, 0 for none; raise Conflict if its rev isn't the expected one.

    One that isn't there has the rev `NONE`.
    """
    stored = read(connection, database, id)
    rev = stored.rev if stored else NONE
    if expected not in {None, rev}:
        raise Conflict("Document update conflict.", f"_local/{id} of {database}")
    return int(rev.removeprefix("0-"))


def put(connection: sqlite3.Connection, database: str, id: str, generation: int, body: bytes) -> None:  # noqa: A002
    """Write the document as the one used last; forget those above the limit."""
    connection.execute(
        "INSERT OR REPLACE INTO local_document (database, id, generation, body) VALUES (?, ?, ?, ?)",
        (database, id, generation, body),
    )
    connection.execute(
        "DELETE FROM local_document WHERE database = ?1 AND touched <= ("
        "SELECT touched FROM local_document WHERE database = ?1 ORDER BY touched DESC LIMIT 1 OFFSET ?2)",
        (database, LIMIT),
    )


def delete(connection: sqlite3.Connection, database: str, id: str) -> None:  # noqa: A002
    """Remove the document."""
    connection.execute("DELETE FROM local_document WHERE database = ? AND id = ?", (database, id))


def carry_over(connection: sqlite3.Connection, source: str) -> None:
    """Replace all `_local` documents by those of another store's file."""
    connection.execute("ATTACH DATABASE ? AS source", (source,))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM main.local_document")
    connection.execute("INSERT INTO main.local_document SELECT * FROM source.local_document")
    connection.execute("COMMIT")
    connection.execute("DETACH DATABASE source")
