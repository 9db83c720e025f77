"""What may happen to a database file: damage, a chain rewritten so that it fits, a power loss in its first change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from events.log.chain import GENESIS, Row, record_hash
from events.log.sqlite import INSERT, SELECT


def rows_of(path: Path) -> list[Row]:
    """All records of a log file."""
    with closing(sqlite3.connect(path)) as connection:
        return [Row(*found) for found in connection.execute(f"{SELECT} ORDER BY position")]


def tamper(path: Path, *statements: str) -> None:
    """Execute SQL on a log file whose guards were taken away."""
    with closing(sqlite3.connect(path)) as connection, connection:
        _unguard(connection)
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def rewrite(path: Path, change: Callable[[Row], Row | None], *, keep_sequence: bool = False) -> None:
    """Write the whole log anew: each record as `change` gives it (None: left out), hashes and all recomputed."""
    changed = [row for row in map(change, rows_of(path)) if row is not None]
    with closing(sqlite3.connect(path)) as connection, connection:
        _unguard(connection)
        connection.execute("DELETE FROM events")
        connection.executemany(INSERT, _chained(changed))
        if not keep_sequence:
            connection.execute("UPDATE sqlite_sequence SET seq = (SELECT max(position) FROM events)")
    # Who may write the log may also take away the note of its end.
    path.with_name(f"{path.name}.head").unlink(missing_ok=True)


def leave_half_made(path: Path) -> None:
    """Leave what a power loss leaves of a new database in the middle of its first change: the journal is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE half (content BLOB)")
        for _ in range(20):
            connection.execute("INSERT INTO half VALUES (zeroblob(4096))")
        left = {one: one.read_bytes() for one in (path, path.with_name(f"{path.name}-journal"))}
    for one, content in left.items():
        one.write_bytes(content)
        one.chmod(0o600)


def _chained(rows: Iterable[Row]) -> list[Row]:
    chained: list[Row] = []
    previous = GENESIS
    versions: dict[str, int] = {}
    for position, row in enumerate(rows, 1):
        version = versions[row.stream] = versions.get(row.stream, 0) + 1
        moved = row._replace(position=position, version=version)
        previous = record_hash(previous, *moved[:6])
        chained.append(moved._replace(hash=previous))
    return chained


def _unguard(connection: sqlite3.Connection) -> None:
    for name in ("events_are_never_changed", "events_are_never_deleted"):
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
