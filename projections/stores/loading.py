"""Filling a new store: rows first, the indexes when all rows are there.

A row goes to the end of its table; put into three indexes at once, whose keys come in no order, it costs
three times as much. Until the indexes are made, memory knows where each document is (`places`) and what each
database counts. Whatever needs an index raises `IndexesNeeded`: then all are made, and the store goes on as
any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import groupby

from events.errors import InvalidInput
from projections.stores.batch import COUNT, INSERTS, STORED, Batch, Counters, Row, Stored
from projections.stores.places import Places
from projections.stores.rows import DOCUMENT, document
from projections.stores.schema import INDEXES
from projections.view_store import Change, Document, Forget


class IndexesNeeded(Exception):
    """Something can't be done, or not in reasonable time, before the indexes are made."""


class Load:
    """What is known of a store's committed rows while it has no indexes. `documents` counts them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Drop the indexes of an empty store."""
        self._connection = connection
        self._places = Places()
        self.documents = 0
        self.databases: dict[str, Counters] = {}
        with _transaction(connection):
            for name in INDEXES:
                connection.execute(f"DROP INDEX {name}")

    def find(self, columns: str, database: int, id: str) -> Row | None:  # noqa: A002 - CouchDB's word
        """Return columns of a document's row, None if there is none. Raises sqlite3.Error."""
        for number in self._places.find(_key(database, id)):
            row: Row | None = self._connection.execute(
                f"SELECT {columns} FROM document d WHERE d.number = ? AND d.database = ? AND d.id = ?",  # noqa: S608 - constants
                (number, database, id),
            ).fetchone()
            if row is not None:
                return row
        return None

    def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return a document, None if it never was. Raises sqlite3.Error."""
        counters = self.databases.get(database)
        row = self.find(DOCUMENT, counters.number, id) if counters else None
        return document(row) if row else None

    def keep(self, batch: LoadingBatch) -> None:
        """Take in what a batch did that was committed."""
        self.documents += len(batch.numbers)
        self.databases.update(batch.databases)
        self._places.put([(_key(*place), number) for place, number in batch.numbers.items()])

    def end(self) -> None:
        """Write the counters and make the indexes. Raises sqlite3.Error, and nothing has changed then."""
        with _transaction(self._connection):
            self._connection.executemany(COUNT, map(Counters.row, self.databases.values()))
            for statement in INDEXES.values():
                self._connection.execute(statement)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _key(database: int, id: str) -> int:  # noqa: A002 - CouchDB's word
    """Hash what names a document."""
    return hash((database, id))


class LoadingBatch(Batch):
    """Adds changes to a store without indexes. What it learns is the load's once it is committed.

    Sequence numbers of a database must ascend, as they do where events are taken in their order: no index
    could refuse a second one.
    """

    def __init__(self, connection: sqlite3.Connection, revs_limit: int, load: Load) -> None:
        """Begin a transaction's work."""
        super().__init__(connection, revs_limit)
        self._insert_all = connection.executemany
        self._load = load
        self._rows: list[Row] = []
        self._committed = load.documents
        self.numbers: dict[tuple[int, str], int] = {}

    @property
    def databases(self) -> dict[str, Counters]:
        """The counters of all databases that were looked at."""
        return self._databases

    def add(self, change: Change) -> None:
        """See `Batch.add`. Raises IndexesNeeded."""
        if change.seq <= self._database(change.database).update_seq:
            raise IndexesNeeded
        super().add(change)

    def forget(self, forget: Forget) -> None:
        """Raises IndexesNeeded, unless there is nothing to forget."""
        if forget.database in self._databases or forget.database in self._load.databases:
            raise IndexesNeeded

    def _database(self, name: str) -> Counters:
        known = self._databases.get(name)
        if known is None:
            kept = self._load.databases.get(name)
            known = self._databases[name] = copy(kept) if kept else Counters(self._new_database(name))
        return known

    def _stored(self, database: int, id: str) -> Stored | None:  # noqa: A002 - CouchDB's word
        number = self.numbers.get((database, id))
        if number is None:
            row = self._load.find(STORED, database, id)
        else:
            self._write_rows()
            row = self._sql(f"SELECT {STORED} FROM document d WHERE number = ?", (number,)).fetchone()  # noqa: S608
        return self._read(row) if row else None

    def _add(self, row: Row) -> None:
        _, database, id_, *_ = row
        number = self._committed + len(self.numbers) + 1
        self.numbers[database, id_] = number
        self._rows.append((number, *row[1:]))

    def _settle(self) -> None:
        """Write the rows; the counters are written when all is there."""
        self._write_rows()

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, []
        try:
            for length, alike in groupby(rows, len):
                self._insert_all(INSERTS[length], alike)
        except UnicodeEncodeError as error:
            raise InvalidInput("a document id is not Unicode text", ascii(error.object)) from error
