"""What opening a folder of segments does: complete the index, cut off the torn tail, report damage."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from node.storage.index import BlobIndex, Entry
from node.storage.segments import HEADER_SIZE, Kind, Place, Span, segment_numbers, segment_path, walk

_BATCH = 10_000
# Entries per index transaction while walking.


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `segment` and `end` say where the next record goes.

    `indexed` blobs were not in the index, `torn_bytes` were cut off (nobody was told that they are
    stored), `damaged` names blobs whose bytes are bad, `garbage_bytes` lie between records, the files of
    `lost_segments` are missing.
    """

    segment: int
    end: int
    indexed: int = 0
    torn_bytes: int = 0
    garbage_bytes: int = 0
    damaged: tuple[str, ...] = ()
    lost_segments: tuple[int, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing had to be repaired."""
        return not (
            self.indexed or self.torn_bytes or self.garbage_bytes or self.damaged or self.lost_segments
        )


def recover(folder: Path, index: BlobIndex) -> Recovery:
    """Bring the index up to the end of the segments, and the last segment to its last whole record.

    Raises OSError and StorageUnavailable.
    """
    numbers = segment_numbers(folder)
    lost_segments = _mark_segments(index, numbers)
    lost = _mark_lost(folder, index)
    walker = _Walker(folder, index, lost)
    for number in numbers:
        if number >= index.segment:
            walker.segment(number, last=number == numbers[-1])
    walker.flush()
    return Recovery(
        segment=walker.number,
        end=walker.end,
        indexed=walker.indexed,
        torn_bytes=walker.torn_bytes,
        garbage_bytes=walker.garbage_bytes,
        damaged=tuple(walker.damaged),
        lost_segments=lost_segments,
    )


def _mark_segments(index: BlobIndex, numbers: list[int]) -> tuple[int, ...]:
    """Mark the blobs of segments that are missing in between as damaged; return the segments' numbers.

    Numbers are given out one after the other, so that a gap is a file that somebody or something took away.
    """
    # A segment that is begun by the next write needs no file yet.
    last = max([index.segment if index.offset else index.segment - 1, *numbers])
    lost = tuple(number for number in range(1, last + 1) if number not in numbers)
    for number in lost:
        index.mark_segment_lost(number)
    return lost


def _mark_lost(folder: Path, index: BlobIndex) -> list[str] | None:
    """Mark blobs as damaged that were indexed, hence acknowledged, and are beyond the end of their segment.

    None when the segment is as long as the index says.
    """
    path = segment_path(folder, index.segment)
    size = path.stat().st_size if path.exists() else 0
    if size >= index.offset:
        return None
    lost = [entry.name for entry in index.beyond(index.segment, size)]
    for name in lost:
        index.mark_damaged(name)
    return [name.hex() for name in lost]


class _Walker:
    def __init__(self, folder: Path, index: BlobIndex, lost: list[str] | None) -> None:
        self._folder = folder
        self._index = index
        self._entries: list[Entry] = []
        # A segment that lost its end is walked from its beginning to find the last whole record.
        self._start = (index.segment, index.offset if lost is None else 0)
        # An empty folder begins with segment 1.
        self.number, self.end = max(index.segment, 1), self._start[1]
        self.indexed = self.torn_bytes = self.garbage_bytes = 0
        self.damaged = lost or []

    def segment(self, number: int, *, last: bool) -> None:
        start = self._start[1] if number == self._start[0] else 0
        self.number, self.end = number, start
        fd = os.open(segment_path(self._folder, number), os.O_RDWR | os.O_CLOEXEC)
        try:
            # Earlier segments were synced before the next was begun; reading checks them anyway.
            for span in walk(fd, start, check=last):
                self._take(span)
            if last:
                self._cut(fd)
        finally:
            os.close(fd)

    def flush(self) -> None:
        if self._entries or (self.number, self.end) != (self._index.segment, self._index.offset):
            self._index.add(self._entries, self.number, self.end)
        self._entries = []

    def _take(self, span: Span) -> None:
        if span.kind is Kind.GARBAGE:
            self.garbage_bytes += span.end - span.offset
            return
        self.end = span.end
        damaged = span.kind is Kind.DAMAGED
        if damaged:
            self.damaged.append(span.digest.hex())
            known = self._index.find(span.digest)
            if known is not None and not known.damaged:
                return
        place = Place(self.number, span.offset, span.end - span.offset - HEADER_SIZE)
        self._entries.append(Entry(span.digest, place, damaged, span.kind is Kind.ERASED))
        self.indexed += 1
        if len(self._entries) >= _BATCH:
            self.flush()

    def _cut(self, fd: int) -> None:
        """Cut off what follows the last record: it was never acknowledged, for it was never whole."""
        torn = os.fstat(fd).st_size - self.end
        if torn > 0:
            os.ftruncate(fd, self.end)
            self.torn_bytes = torn
            self.garbage_bytes -= torn
        # Recovered records may be in memory only: an acknowledgement of the same content relies on them.
        os.fdatasync(fd)
