"""Reading blobs: one record, all of them, and from a second process beside the writer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from events.errors import CorruptRecord, Gone, MailioError, NotFound, StorageUnavailable
from node.storage.blobs import blob_name, is_blob_name
from node.storage.index import BlobIndex, Entry
from node.storage.segments import HEADER_SIZE, Kind, Place, parse_header, segment_numbers, segment_path, walk


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """One checked blob, and how far the check has come. `problem` is empty when it is sound, or erased."""

    name: str
    length: int
    checked: int
    total: int
    problem: str = ""
    erased: bool = False


def read_record(folder: Path, digest: bytes, place: Place) -> bytes:
    """Read a body and compare it with its name.

    Raises CorruptRecord naming the blob, Gone when it was erased, StorageUnavailable when the segment
    can't be read.
    """
    try:
        fd = os.open(segment_path(folder, place.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            body = os.pread(fd, place.length, place.offset + HEADER_SIZE)
            if hashlib.sha256(body).digest() == digest:
                return body
            found = parse_header(os.pread(fd, HEADER_SIZE, place.offset))
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise _corrupt(digest, place, "the segment is gone") from error
    except OSError as error:
        raise StorageUnavailable("storage is not readable now", f"blob {digest.hex()}: {error}") from error
    if len(body) != place.length:
        raise _corrupt(digest, place, "the segment is too short")
    if found is not None and found.erased and found.digest == digest:
        raise erased(digest)
    raise _corrupt(digest, place, "the content has changed")


def erased(digest: bytes) -> Gone:
    """Say that a blob was erased."""
    return Gone("this content was erased", f"blob {digest.hex()}")


def verify_entries(folder: Path, index: BlobIndex) -> Iterator[Verified]:
    """Read every indexed blob; yields one `Verified` each, in disk order. Blocks between the yields."""
    total = index.count()[1]
    checked = 0
    for entry in index.entries():
        problem, gone = "", False
        try:
            read_record(folder, entry.name, entry.place)
            problem = _header_problem(folder, entry)
        except Gone:
            gone = True
        except MailioError as error:
            problem = error.private
        checked += entry.place.length
        yield Verified(
            name=entry.name.hex(),
            length=entry.place.length,
            checked=checked,
            total=total,
            problem=problem,
            erased=gone,
        )


AHEAD_BYTES = 1 << 20
"""Read at once where blobs are asked for in the order in which they were written, as a rebuild does."""


class _Ahead:
    """The bodies that lie behind a place, from one read. Who takes one compares it with its name."""

    def __init__(self) -> None:
        self._chunk = b""
        self._bodies: dict[bytes, tuple[int, int]] = {}
        self._last = Place(0, 0, 0)

    def take(self, digest: bytes) -> bytes | None:
        """Return what the last read says is this body."""
        found = self._bodies.get(digest)
        return self._chunk[found[0] : found[1]] if found else None

    def follow(self, folder: Path, place: Place) -> None:
        """Read ahead from a place that lies a little behind the one before it."""
        last, self._last = self._last, place
        if place.segment != last.segment or not 0 <= place.offset - last.end <= AHEAD_BYTES:
            return
        try:
            with segment_path(folder, place.segment).open("rb") as file:
                self._chunk = os.pread(file.fileno(), AHEAD_BYTES, place.offset)
        except OSError:
            return  # the caller reads the one record, and says what is wrong
        self._bodies = dict(self._records(place))

    def _records(self, place: Place) -> Iterator[tuple[bytes, tuple[int, int]]]:
        start = 0
        while (parsed := parse_header(self._chunk[start : start + HEADER_SIZE])) is not None:
            body = start + HEADER_SIZE
            start = body + parsed[1]
            if start > len(self._chunk):
                return
            yield parsed[0], (body, start)
            self._last = Place(place.segment, place.offset + body - HEADER_SIZE, parsed[1])


def _header_problem(folder: Path, entry: Entry) -> str:
    """Say what is wrong with a header: the index can do without it, but could not be made again from it."""
    place = entry.place
    try:
        fd = os.open(segment_path(folder, place.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = parse_header(os.pread(fd, HEADER_SIZE, place.offset))
        finally:
            os.close(fd)
    except OSError as error:
        return _corrupt(entry.name, place, f"the record's header can't be read: {error}").private
    sound = found is not None and (found.digest, found.length) == (entry.name, place.length)
    return "" if sound else _corrupt(entry.name, place, "the record's header has changed").private


class BlobReader:
    """Reads the blobs of a folder that another process may be writing to.

    What the writer has not indexed yet is found by walking the end of the segments. `index` is None when
    there is none to believe: then all segments are walked.
    """

    def __init__(self, folder: Path, index: BlobIndex | None) -> None:
        self._folder = folder
        self.index = index
        self._tail: dict[bytes, Place] = {}
        self._mark = (0, 0)
        self._ahead = _Ahead()

    @classmethod
    def open(cls, folder: Path, index_file: str = "index.sqlite") -> BlobReader:
        """Open a folder for reading. Raises StorageUnavailable when there is none."""
        if not folder.is_dir():
            raise StorageUnavailable("storage is not available now", f"{folder} is not a folder")
        return cls(folder, BlobIndex.open_read_only(folder / index_file))

    async def read(self, name: str) -> bytes:
        """See `BlobStore.read`."""
        body = self._ahead.take(bytes.fromhex(name)) if is_blob_name(name) else None
        if body is not None and blob_name(body) == name:
            return body
        entry = self._find(name)
        if entry is not None:
            self._ahead.follow(self._folder, entry.place)
        if entry is not None and entry.name in self._tail:
            try:
                return read_record(self._folder, entry.name, entry.place)
            except CorruptRecord:
                # The writer may have taken a failed batch back and written another in its place.
                self._tail, self._mark = {}, (0, 0)
                entry = self._find(name)
        if entry is None:
            raise NotFound("no such blob", repr(name))
        return read_record(self._folder, entry.name, entry.place)

    async def size(self, name: str) -> int | None:
        """See `BlobStore.size`."""
        entry = self._find(name)
        return None if entry is None else entry.place.length

    def beyond_index(self) -> int:
        """Read what the writer has not indexed yet; return how many sound blobs are there."""
        self._walk_tail()
        return len(self._tail)

    async def close(self) -> None:
        """Release the index."""
        if self.index is not None:
            self.index.close()

    def _find(self, name: str) -> Entry | None:
        if not is_blob_name(name):
            return None
        digest = bytes.fromhex(name)
        entry = self.index.find(digest) if self.index else None
        if entry is None and digest not in self._tail:
            self._walk_tail()
        place = self._tail.get(digest)
        return entry or (Entry(digest, place) if place else None)

    def _walk_tail(self) -> None:
        """Collect what lies beyond the index, from where the last walk or the index ended."""
        if self.index is not None:
            self.index.refresh()
            self._mark = max(self._mark, (self.index.segment, self.index.offset))
        for number in segment_numbers(self._folder):
            if number >= self._mark[0]:
                self._walk_segment(number, self._mark[1] if number == self._mark[0] else 0)

    def _walk_segment(self, number: int, start: int) -> None:
        fd = os.open(segment_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for span in walk(fd, start, check=True):
                if span.kind is Kind.SOUND:
                    self._tail[span.digest] = Place(number, span.offset, span.end - span.offset - HEADER_SIZE)
                    self._mark = (number, span.end)
        finally:
            os.close(fd)


def _corrupt(digest: bytes, place: Place, what: str) -> CorruptRecord:
    where = f"segment {place.segment}, offset {place.offset}"
    return CorruptRecord("the stored content is damaged", f"blob {digest.hex()} ({where}): {what}")
