"""What SQLite's errors mean for the log: a disk to look after, or damage that only a backup heals."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from events.errors import CorruptRecord, MailioError, Misconfigured, StorageUnavailable

ADVICE: Final = "run `mailio-node verify` to see what is damaged, then restore the log from a backup"
"""What an operator does about a damaged log: nothing else has the events."""

_NOT_TEXT: Final = "Could not decode to UTF-8"
# What Python's driver says of a text that is none; it has no code.


def is_foreign(error: sqlite3.Error) -> bool:
    """Tell a file that is no database at all."""
    return _kind(error) == sqlite3.SQLITE_NOTADB


def is_damage(error: sqlite3.Error) -> bool:
    """Tell a damaged file from a disk that is full, failing or busy."""
    return _kind(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or str(error).startswith(_NOT_TEXT)


def _kind(error: sqlite3.Error) -> int:
    """The low byte of SQLite's code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF


def damaged(what: str) -> CorruptRecord:
    """An error that tells the operator what is damaged and what to do."""
    return CorruptRecord("the log is damaged", f"{what}: {ADVICE}")


def translated(error: sqlite3.Error, doing: str) -> MailioError:
    """Return our error for one of SQLite's, met while `doing` ("read" or "written")."""
    if is_damage(error):
        return damaged(str(error))
    return StorageUnavailable(f"the log cannot be {doing} now", repr(error))


def unopenable(error: sqlite3.Error, path: Path) -> MailioError:
    """Return our error for one of SQLite's, met while opening a log: for the operator to put right."""
    if is_damage(error) and not is_foreign(error):
        return damaged(f"{path}: {error}")
    return Misconfigured(f"cannot open the log {path}: {error}")


def lost_end(head: int, known: int, who: str) -> CorruptRecord:
    """An error for a log that lacks acknowledged events at its end, as somebody beside it can tell."""
    return CorruptRecord(
        "the log has lost its end",
        f"it ends at position {head}, but {who} knows position {known}: events in between were acknowledged. "
        "Put back log.sqlite-wal as it was, or restore a backup; to go on without them, remove "
        "log.sqlite.head, checkpoints.json, snapshots.sqlite* and views/",
    )


def other_log(position: int) -> CorruptRecord:
    """An error for a log whose record is not the one that was acknowledged at its position."""
    return damaged(
        f"the record at position {position} is not the one that was acknowledged: log.sqlite and its -wal "
        "are of different moments, or this is another log"
    )
