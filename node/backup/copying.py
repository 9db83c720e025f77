"""Copying files that may be in use: SQLite files as of one moment, segments as far as they are new.

Everything written here is readable by its owner only and synced before the call returns.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from events.errors import MailioError, StorageUnavailable
from events.log.sqlite import Head, connect, read_head
from node.backup.manifest import StoredFile

CHUNK: Final = 1 << 20
"""Bytes read and written at once."""

PAGES: Final = 256
"""Pages of an SQLite file copied in one step: 1 MiB."""

SQLITE_MAGIC: Final = b"SQLite format 3\0"

Moved = Callable[[int], None]
"""Told how many bytes were copied or checked just now."""


def copy_log(source: Path, target: Path, moved: Moved) -> Head:
    """Copy a log as it stands at one moment; return its head."""
    copy_sqlite(source, target, moved)
    with closing(connect(str(target), readonly=True)) as copy:
        return read_head(copy)


def copy_sqlite(source: Path, target: Path, moved: Moved) -> None:
    """Copy an SQLite file in use to a file that stands alone, without a write-ahead log beside it.

    One reading transaction spans all steps: in WAL mode writers go on beside it, and what they write does not
    make the copy begin anew. Meanwhile the write-ahead log grows by what they write.
    """
    _create(target)
    with closing(connect(str(source), readonly=True)) as reading, closing(_alone(target)) as writing:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (page,) = reading.execute("PRAGMA page_size").fetchone()
        before = 0

        def tell(_: int, left: int, total: int) -> None:
            nonlocal before
            moved((total - left - before) * page)
            before = total - left

        reading.backup(writing, pages=PAGES, progress=tell)
        writing.execute("PRAGMA journal_mode = DELETE").fetchone()
    _sync(target)


def _alone(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    # Synced once, at the end: a copy that was interrupted is thrown away.
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def is_sqlite(path: Path) -> bool:
    """Tell whether a file is SQLite's by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def copy_file(source: Path, target: Path, size: int | None = None, moved: Moved = lambda _: None) -> None:
    """Copy a file, or its first `size` bytes, to a new file."""
    _create(target)
    with source.open("rb") as reading, target.open("r+b") as writing:
        for chunk in _chunks(reading.fileno(), 0, _length(reading.fileno()) if size is None else size):
            writing.write(chunk)
            moved(len(chunk))
        writing.flush()
        os.fsync(writing.fileno())


def write_file(target: Path, content: bytes) -> None:
    """Write a new file."""
    _create(target)
    with target.open("r+b") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def extend(source: Path, target: Path, known: StoredFile | None, moved: Moved) -> tuple[int, str] | None:
    """Append to `target` what an append-only `source` has beyond the `known` bytes; return size and SHA-256.

    None when the source's first bytes are not the known ones (a batch that failed was taken back there): the
    target then stays as it is.
    """
    digest = hashlib.sha256()
    begin = known.size if known else 0
    with source.open("rb") as reading:
        end = _length(reading.fileno())
        for chunk in _chunks(reading.fileno(), 0, min(begin, end)):
            digest.update(chunk)
        if known and (end < begin or digest.hexdigest() != known.sha256):
            return None
        if not known:
            _create(target)
        with target.open("r+b") as writing:
            # What an interrupted run left behind the known bytes goes.
            writing.truncate(begin)
            writing.seek(begin)
            for chunk in _chunks(reading.fileno(), begin, end):
                digest.update(chunk)
                writing.write(chunk)
                moved(len(chunk))
            writing.flush()
            os.fsync(writing.fileno())
    return end, digest.hexdigest()


def digest_of(path: Path, size: int, moved: Moved = lambda _: None) -> str:
    """SHA-256 (hex) of the first `size` bytes of a file; of all there are when it is shorter."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file.fileno(), 0, size):
            digest.update(chunk)
            moved(len(chunk))
    return digest.hexdigest()


def _length(fd: int) -> int:
    return os.fstat(fd).st_size


def _chunks(fd: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end and (chunk := os.pread(fd, min(CHUNK, end - begin), begin)):
        yield chunk
        begin += len(chunk)


def _create(path: Path) -> None:
    """Make an empty file for its owner's eyes; a leftover of an interrupted run is emptied."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, its parents too; one that is there is fine."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into one line. Raises StorageUnavailable."""
    try:
        yield
    except MailioError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"{what}: {error}") from error
