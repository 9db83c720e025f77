"""Checking the whole chain: each record that is not what was written is named, and the check goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from events.errors import CorruptRecord
from events.log.chain import GENESIS, Row, expected_hash
from events.log.sqlite import SELECT

_SELECT_UPTO: Final = f"{SELECT} WHERE position > ? AND position <= ? ORDER BY position"
_SELECT_ONE: Final = f"{SELECT} WHERE position = ?"
_SELECT_NAME: Final = "SELECT originator_id, hash FROM events WHERE position = ?"

INCONSISTENCIES: Final = 20
"""Findings of SQLite's own check that are told: the first ones say what there is to know."""

Rows = Callable[..., list[Row]]
"""Reads records: a statement and its parameters. Raises CorruptRecord where the file is damaged."""

Raw = Callable[..., list[Any]]
"""The same for rows of any columns."""


class Fault(msgspec.Struct, frozen=True):
    """Something wrong: at which position (0: none in particular), in which stream ("": unknown)."""

    position: int
    stream: str
    problem: str


class Verified(msgspec.Struct, frozen=True):
    """How far a verification is: records up to `position` were looked at, of `head` in all.

    `bad` is the first position that is not well, so far; `faults` are those found since the last value.
    """

    position: int
    head: int
    bad: int | None = None
    faults: tuple[Fault, ...] = ()


class ChainCheck:
    """Follows the chain over batches of rows, behind a sound record. `position` is the last one looked at."""

    def __init__(self, position: int = 0, digest: bytes = GENESIS) -> None:
        """Begin behind the record at `position`, whose hash this is."""
        self.position = position
        # A record with a fault has two hashes: the one that it has, and the one that it should have.
        self._previous: set[bytes] = {digest}

    def check(self, rows: Sequence[Row]) -> Iterator[Fault]:
        """Look at the next rows; one after a gap can't be checked, as it names a hash that is gone."""
        for row in rows:
            yield from self.missing(row.position - 1)
            self.position = row.position
            expected = {expected_hash(previous, row) for previous in self._previous}
            if not self._previous or row.hash in expected:
                self._previous = {row.hash}
            else:
                self._previous = {known for known in (row.hash, *expected) if isinstance(known, bytes)}
                yield Fault(row.position, str(row.stream), "the record is not what was written")

    def missing(self, last: int) -> Iterator[Fault]:
        """Note that no record follows up to position `last`."""
        if self.position < last:
            self._previous = set()
            yield from (Fault(p, "", "the record is missing") for p in range(self.position + 1, last + 1))
            self.position = last

    def unreadable(self, stream: str, digest: bytes | None, problem: str) -> Fault:
        """Note that the next record can't be read; of its fields, perhaps its stream and hash can."""
        self.position += 1
        self._previous = {digest} if digest else set()
        return Fault(self.position, stream, f"the record can't be read: {problem}")


def checked(check: ChainCheck, rows: Rows, raw: Raw, last: int) -> Iterator[Fault]:
    """Look at the next records, up to position `last`: together, or one by one where that fails."""
    try:
        yield from check.check(rows(_SELECT_UPTO, check.position, last))
        yield from check.missing(last)
    except CorruptRecord:
        yield from _checked_singly(check, rows, raw, last)


def _checked_singly(check: ChainCheck, rows: Rows, raw: Raw, last: int) -> Iterator[Fault]:
    while check.position < last:
        try:
            found = rows(_SELECT_ONE, check.position + 1)
            yield from check.check(found) if found else check.missing(check.position + 1)
        except CorruptRecord as error:
            yield check.unreadable(*_name(raw, check.position + 1), error.private)


def _name(raw: Raw, position: int) -> tuple[str, bytes | None]:
    """Return stream and hash of a record whose state can't be read, as far as they can."""
    try:
        found = raw(_SELECT_NAME, position)
    except CorruptRecord:
        return "", None
    return (str(found[0][0]), bytes(found[0][1])) if found else ("", None)


def inconsistencies(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the file as a whole, its indexes above all; reads all of it."""
    try:
        told = connection.execute(f"PRAGMA integrity_check({INCONSISTENCIES})").fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [text for (text,) in told if text != "ok"]
