"""Erasing blobs in place: the header says so, zeros stand where the body was.

The header comes first. What an interruption leaves is then a record that says it was erased, never one
that looks damaged; done again, the zeros come too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from events.errors import StorageUnavailable
from node.storage.blobs import Doomed
from node.storage.index import INDEX_FILE, BlobIndex, Entry
from node.storage.segments import CHUNK, HEADER_SIZE, header, parse_header, segment_path


def find_doomed(folder: Path, doomed: Doomed) -> list[Entry]:
    """Look at the beginning of every blob that is indexed and return those to erase, in disk order.

    Has a connection of its own to the index, so any thread may call it. Raises StorageUnavailable.
    """
    index = BlobIndex.open_read_only(folder / INDEX_FILE)
    if index is None:
        raise StorageUnavailable("storage is not available now", f"{folder}: the index can't be read")
    found: list[Entry] = []
    try:
        for number, entries in groupby(index.entries(), lambda entry: entry.place.segment):
            if not segment_path(folder, number).exists():
                continue  # Lost: nothing of it is left to erase.
            with _segment(folder, number, os.O_RDONLY) as fd:
                found += (entry for entry in entries if not entry.erased and _is_doomed(fd, entry, doomed))
    finally:
        index.close()
    return found


def _is_doomed(fd: int, entry: Entry, doomed: Doomed) -> bool:
    parsed = parse_header(os.pread(fd, HEADER_SIZE, entry.place.offset))
    if parsed is None or parsed.digest != entry.name:
        return False
    # Erased already, and interrupted before the index knew.
    body = entry.place.offset + HEADER_SIZE
    return parsed.erased or doomed(lambda count: os.pread(fd, min(count, entry.place.length), body))


def overwrite(folder: Path, entries: Sequence[Entry]) -> None:
    """Erase the bodies of blobs (in disk order) for good: on return that is synced.

    Raises StorageUnavailable; then some may be erased, and the same call may be repeated.
    """
    for number, some in groupby(entries, lambda entry: entry.place.segment):
        with _segment(folder, number, os.O_RDWR) as fd:
            for entry in some:
                place = entry.place
                os.pwrite(fd, header(entry.name, place.length, erased=True), place.offset)
                _zero(fd, place.offset + HEADER_SIZE, place.end)
            os.fdatasync(fd)


def _zero(fd: int, offset: int, end: int) -> None:
    while offset < end:
        offset += os.pwrite(fd, bytes(min(CHUNK, end - offset)), offset)


@contextmanager
def _segment(folder: Path, number: int, mode: int) -> Iterator[int]:
    try:
        fd = os.open(segment_path(folder, number), mode | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageUnavailable("storage is not available now", f"{folder}: {error}") from error
