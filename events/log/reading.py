"""The log as those read it who stand beside the node: raw records, page by page, damaged ones too.

`SqliteLog` serves a running node and refuses a log that is not sound. This reader is for looking into one
that may not be: it checks nothing and decodes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from events.errors import Misconfigured
from events.log.chain import GENESIS, Row
from events.log.damage import translated, unopenable
from events.log.sqlite import SELECT, SELECT_HEAD, Head, check_format, connect

PAGE_ROWS: Final = 500
"""Records of one page …"""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""… unless their states are longer than this: then it ends with the record that is."""

WINDOW: Final = 5_000
"""Positions that one page of a read by type looks at, however few of them match."""

_SEQUENCE: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"


class LogReader:
    """Reads one log file, also while a node writes to it. Blocks; a page takes some milliseconds.

    All methods raise StorageUnavailable when the file can't be read now, CorruptRecord when it is damaged.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `open` instead."""
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a log file.

        Raises Misconfigured when there is none, or it is none or of a newer format, CorruptRecord when
        it is damaged.
        """
        if not path.exists():
            raise Misconfigured(f"{path}: there is no log here: has a node run with this configuration?")
        try:
            connection = connect(str(path), readonly=True)
            try:
                check_format(connection, str(path))
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise unopenable(error, path) from error
        connection.text_factory = _text
        return cls(path, connection)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def head(self) -> Head:
        """Position and hash of the newest record, as they are stored."""
        found = self._one(SELECT_HEAD)
        return Head(*found) if found else Head()

    @property
    def given(self) -> int:
        """Highest position that was ever given: above the head when records behind it were removed."""
        found = self._one(_SEQUENCE)
        return int(found[0]) if found else 0

    def at(self, position: int) -> Row | None:
        """Return the record at a position."""
        found = self._one(f"{SELECT} WHERE position = ?", position)
        return Row(*found) if found else None

    def by_id(self, event_id: str) -> Row | None:
        """Return the record with an event id (32 hex digits)."""
        found = self._one(f"{SELECT} WHERE event_id = ?", bytes.fromhex(event_id))
        return Row(*found) if found else None

    def hash_at(self, position: int) -> bytes | None:
        """Return the stored hash of the record at a position: that of no record for 0."""
        if position == 0:
            return GENESIS
        found = self._one("SELECT hash FROM events WHERE position = ?", position)
        return bytes(found[0]) if found else None

    def last(self, count: int) -> int:
        """Return the position before the newest `count` records."""
        found = self._one("SELECT position FROM events ORDER BY position DESC LIMIT 1 OFFSET ?", count)
        return int(found[0]) if found else 0

    def pages(
        self, after: int = 0, upto: int | None = None, types: Collection[str] = ()
    ) -> Iterator[list[Row]]:
        """Read records above `after`, those of some types only, up to `upto` or the head of now.

        Between two pages nothing is held: a node goes on writing, and its write-ahead file can be reused.
        A page of a read by type may be empty.
        """
        head = self.head.position if upto is None else upto
        wanted = f" AND topic IN ({','.join('?' * len(types))})" if types else ""
        statement = f"{SELECT} WHERE position > ? AND position <= ?{wanted} ORDER BY position LIMIT ?"
        while after < head:
            end = min(head, after + WINDOW) if types else head
            page, more = self._page(statement, after, end, *types)
            yield page
            if not page and not types:
                return
            after = page[-1].position if page and (more or not types) else end

    def stream(self, name: str, after: int = 0, upto: int | None = None) -> Iterator[Row]:
        """Read the records of one stream with a version above `after`, at positions up to `upto`."""
        statement = (
            f"{SELECT} WHERE originator_id = ? AND originator_version > ? AND position <= ?"
            " ORDER BY originator_version LIMIT ?"
        )
        end = 2**63 - 1 if upto is None else upto
        more = True
        while more:
            page, more = self._page(statement, name, after, end)
            yield from page
            if page:
                after = page[-1].version

    def version_at(self, stream: str, position: int) -> int:
        """Return how many records a stream had at a position."""
        found = self._one(
            "SELECT originator_version FROM events WHERE originator_id = ? AND position <= ?"
            " ORDER BY originator_version DESC LIMIT 1",
            stream,
            position,
        )
        return int(found[0]) if found else 0

    def _page(self, statement: str, *params: str | int) -> tuple[list[Row], bool]:
        """Read a page to its end at once; tell also whether there may be more of it."""
        rows: list[Row] = []
        size = 0
        with self._reading():
            cursor = self._connection.execute(statement, (*params, PAGE_ROWS))
            for found in cursor:
                row = Row(*found)
                rows.append(row)
                # In a damaged file a column may hold anything.
                size += len(row.state) if isinstance(row.state, bytes) else 0
                if size > PAGE_BYTES:
                    cursor.close()
                    return rows, True
        return rows, len(rows) == PAGE_ROWS

    def _one(self, statement: str, *params: str | int | bytes) -> tuple[Any, ...] | None:
        with self._reading():
            found: tuple[Any, ...] | None = self._connection.execute(statement, params).fetchone()
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, "read") from error


def _text(stored: bytes) -> str:
    """Read a name; where bytes of it were changed it does not hash to what it was, but can be shown."""
    return stored.decode("utf-8", "replace")
