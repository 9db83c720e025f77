"""Adding changes to the embedded store: one open transaction on its connection."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

import msgspec

from events.errors import InvalidInput
from events.log import failpoints
from projections.revision import Outcome, RevisionTree, encoded_first
from projections.stores.rows import content_bytes, indexed, packed, unpacked
from projections.view_store import Change, Forget, Revision


class Counters(msgspec.Struct):
    """The row of one database, as it will be at the end of the batch."""

    number: int
    update_seq: int = 0
    doc_count: int = 0
    deleted_count: int = 0
    used_bytes: int = 0

    def row(self) -> tuple[int, ...]:
        """Return the values of `COUNT`."""
        return self.update_seq, self.doc_count, self.deleted_count, self.used_bytes, self.number


COUNT: Final = (
    "UPDATE database SET update_seq = ?, doc_count = ?, deleted_count = ?, used_bytes = ? WHERE number = ?"
)


class Stored(NamedTuple):
    """What must be known of a stored document to add a revision."""

    number: int
    seq: int
    tree: RevisionTree
    deleted: bool
    losers: int
    used: int


Row = tuple[Any, ...]
"""A document's columns as `INSERTS` want them; its number first, None for the next one."""

_COLUMNS: Final = "number, database, id, seq, deleted, tree, body"
_INDEXED: Final = f"{_COLUMNS}, folder, created, unread"


def _statement(columns: str) -> tuple[int, str]:
    count = columns.count(",") + 1
    values = ", ".join("?" * count)
    return count, f"INSERT INTO document ({columns}, losers) VALUES ({values}, 0)"  # noqa: S608 - constants


INSERTS: Final = dict(map(_statement, (_COLUMNS, _INDEXED, f"{_INDEXED}, attachments")))
"""How to write a row, by its length: a NULL that is bound costs as much as a text of a hundred bytes."""

STORED: Final = "d.number, d.seq, d.tree, d.deleted, d.losers, length(d.body), d.attachments"
"""Columns for `Batch._read`."""


class Batch:
    """Adds changes one by one; each leaves the rows as it would alone, whatever the batch's size."""

    def __init__(self, connection: sqlite3.Connection, revs_limit: int) -> None:
        self._sql = connection.execute
        self._revs_limit = revs_limit
        self._databases: dict[str, Counters] = {}
        self._changed: set[str] = set()

    def add(self, change: Change) -> None:
        """Merge one change; a known revision changes nothing but links that were not known.

        Raises InvalidInput for a malformed revision path and for a second document with the same
        sequence number in one database.
        """
        try:
            database = self._database(change.database)
            stored = self._stored(database.number, change.id)
            if stored is None:
                self._insert(database, change)
            else:
                self._update(database, stored, change)
        except UnicodeEncodeError as error:
            raise InvalidInput("a document id is not Unicode text", ascii(change.id)) from error
        except sqlite3.IntegrityError as error:
            raise InvalidInput(
                "two documents of a database have the same sequence number",
                f"{change.database}/{change.id} at {change.seq}: {error}",
            ) from error

    def forget(self, forget: Forget) -> None:
        """Delete documents with all their revisions, so that nothing shows that they ever were."""
        row = self._sql("SELECT number FROM database WHERE name = ?", (forget.database,)).fetchone()
        if row is None:
            return
        database = self._database(forget.database)
        for id_ in self._concerned(database.number, forget):
            self._delete(database, id_)
        self._changed.add(forget.database)
        if forget.whole or not database.update_seq:
            self._drop(forget.database, database.number)

    def _concerned(self, database: int, forget: Forget) -> list[str]:
        """Return the ids that are to be forgotten: one is looked up, others are looked for."""
        if forget.id:
            found = self._sql("SELECT id FROM document WHERE database = ? AND id = ?", (database, forget.id))
        else:
            found = self._sql("SELECT id FROM document WHERE database = ?", (database,))
        return [id_ for (id_,) in found.fetchall() if forget.whole or forget.concerns(id_)]

    def _delete(self, database: Counters, id: str) -> None:  # noqa: A002 - CouchDB's word
        stored = self._stored(database.number, id)
        assert stored is not None
        database.used_bytes -= sum(map(_used, self._contents(stored).values()))
        self._count(database, stored.deleted, -1)
        self._sql("DELETE FROM loser WHERE document = ?", (stored.number,))
        self._sql("DELETE FROM document WHERE number = ?", (stored.number,))
        last = self._sql("SELECT max(seq) FROM document WHERE database = ?", (database.number,)).fetchone()
        database.update_seq = last[0] or 0

    def _drop(self, name: str, number: int) -> None:
        self._sql("DELETE FROM local_document WHERE database = ?", (name,))
        self._sql("DELETE FROM database WHERE number = ?", (number,))
        del self._databases[name]

    @failpoints.after("view-inserted")
    def finish(self, checkpoint: int, schema: int) -> frozenset[str]:
        """Write counters, checkpoint and schema; return the names of the databases that changed."""
        self._settle()
        # A batch that is repeated must not take the checkpoint back.
        for member, value in (("checkpoint", checkpoint), ("schema", schema)):
            self._sql(
                "INSERT INTO meta (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (member, value),
            )
        return frozenset(self._changed)

    def _settle(self) -> None:
        """Write the counters of the databases that changed."""
        for name in self._changed & self._databases.keys():
            self._sql(COUNT, self._databases[name].row())

    def _database(self, name: str) -> Counters:
        known = self._databases.get(name)
        if known is None:
            row = self._sql(
                "SELECT number, update_seq, doc_count, deleted_count, used_bytes FROM database "
                "WHERE name = ?",
                (name,),
            ).fetchone()
            known = Counters(*row) if row else Counters(self._new_database(name))
            self._databases[name] = known
        return known

    def _new_database(self, name: str) -> int:
        cursor = self._sql(
            "INSERT INTO database (name, update_seq, doc_count, deleted_count, used_bytes) "
            "VALUES (?, 0, 0, 0, 0)",
            (name,),
        )
        return cursor.lastrowid or 0

    def _stored(self, database: int, id: str) -> Stored | None:  # noqa: A002 - CouchDB's word
        row = self._sql(
            f"SELECT {STORED} FROM document d WHERE d.database = ? AND d.id = ?",  # noqa: S608 - constants
            (database, id),
        ).fetchone()
        return self._read(row) if row else None

    @staticmethod
    def _read(row: Row) -> Stored:
        number, seq, tree, deleted, losers, length, attachments = row
        used = content_bytes(length, unpacked(attachments))
        return Stored(number, seq, RevisionTree.decode(tree), bool(deleted), losers, used)

    def _insert(self, database: Counters, change: Change) -> None:
        # Of bytes the module would ask whether they want to be something else, which costs more than a copy.
        tree, body = bytearray(self._first_tree(change)), bytearray(change.body)
        row: Row = (None, database.number, change.id, change.seq, int(change.deleted), tree, body)
        index = indexed(change.body, change.deleted)
        if index.folder is not None or change.attachments:
            row += (index.folder, index.created, index.unread)
        if change.attachments:
            row += (packed(change.attachments),)
        self._add(row)
        self._count(database, change.deleted, 1)
        database.used_bytes += content_bytes(len(change.body), change.attachments)
        self._advance(database, change)

    def _first_tree(self, change: Change) -> bytes:
        if len(change.revisions) == 1:
            return encoded_first(change.revisions[0], change.deleted)
        return RevisionTree().merge(change.revisions, change.deleted, self._revs_limit)[0].encode()

    def _add(self, row: Row) -> None:
        """Write the row of a new document."""
        self._sql(INSERTS[len(row)], row)

    def _update(self, database: Counters, stored: Stored, change: Change) -> None:
        # Delivered again after its revision was forgotten: as a new branch it would be a conflict.
        if change.seq <= stored.seq and stored.tree.may_have_forgotten(change.revisions[0]):
            return
        tree, outcome = stored.tree.merge(change.revisions, change.deleted, self._revs_limit)
        if tree == stored.tree:
            return
        is_new = outcome in {Outcome.NEW_LEAF, Outcome.NEW_BRANCH}
        added = {change.revisions[0]: _content(change)} if is_new else {}
        leaves = tree.leaves()
        contents = self._contents(stored) if stored.losers or len(leaves) > 1 else {}
        used = sum(map(_used, contents.values())) if contents else stored.used
        contents |= added
        seq = max(stored.seq, change.seq) if is_new else stored.seq
        if contents:
            self._store_losers(stored.number, [contents[rev] for rev in leaves[1:]])
            self._store_winner(stored.number, contents[leaves[0]], len(leaves) - 1)
            database.used_bytes += sum(_used(contents[rev]) for rev in leaves) - used
        self._sql(
            "UPDATE document SET seq = ?, tree = ? WHERE number = ?", (seq, tree.encode(), stored.number)
        )
        self._count(database, stored.deleted, -1)
        self._count(database, tree.deleted, 1)
        if is_new:
            self._advance(database, change)
        self._changed.add(change.database)

    def _contents(self, stored: Stored) -> dict[str, Revision]:
        """Content of every leaf that is stored now."""
        rows = self._sql(
            "SELECT ?, deleted, attachments, body FROM document WHERE number = ? "
            "UNION ALL SELECT rev, deleted, attachments, body FROM loser WHERE document = ?",
            (stored.tree.winner, stored.number, stored.number),
        )
        return {
            rev: Revision(rev=rev, deleted=bool(deleted), body=body, attachments=unpacked(attachments))
            for rev, deleted, attachments, body in rows
        }

    def _store_winner(self, number: int, winner: Revision, losers: int) -> None:
        index = indexed(winner.body, winner.deleted)
        self._sql(
            "UPDATE document SET deleted = ?, losers = ?, folder = ?, created = ?, unread = ?, "
            "attachments = ?, body = ? WHERE number = ?",
            (
                winner.deleted, losers, index.folder, index.created, index.unread,
                packed(winner.attachments), winner.body, number,
            ),
        )  # fmt: skip

    def _store_losers(self, number: int, losers: list[Revision]) -> None:
        self._sql("DELETE FROM loser WHERE document = ?", (number,))
        for leaf in losers:
            self._sql(
                "INSERT INTO loser (document, rev, deleted, attachments, body) VALUES (?, ?, ?, ?, ?)",
                (number, leaf.rev, leaf.deleted, packed(leaf.attachments), leaf.body),
            )

    def _count(self, database: Counters, deleted: bool, step: int) -> None:
        if deleted:
            database.deleted_count += step
        else:
            database.doc_count += step

    def _advance(self, database: Counters, change: Change) -> None:
        database.update_seq = max(database.update_seq, change.seq)
        self._changed.add(change.database)


def _content(change: Change) -> Revision:
    return Revision(
        rev=change.revisions[0], deleted=change.deleted, body=change.body, attachments=change.attachments
    )


def _used(leaf: Revision) -> int:
    return content_bytes(len(leaf.body), leaf.attachments)
