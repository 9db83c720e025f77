"""The one writer of segment files: a batch of records, one write, one sync. Runs in a single thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from events.errors import StorageUnavailable
from events.log import failpoints
from node.storage.segments import Place, header, segment_path

SEGMENT_BYTES = 256 << 20
"""A new segment is begun at this size: few enough files to keep open, small enough to copy and check one."""

_BUFFERS = 512
# Buffers in one pwritev call; POSIX systems allow 1,024.

Sync = Callable[[int], None]
"""Makes a file's content durable; `os.fdatasync`, or a slow or failing stand-in in tests."""


def sync_folder(folder: Path) -> None:
    """Make the creation and removal of files in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Appender:
    """Appends to the last segment of a folder, and begins the next one when it is full.

    `segment` and `end` say where the next record goes. Not thread-safe: one thread owns it.
    """

    def __init__(self, folder: Path, segment: int, end: int, *, limit: int, sync: Sync) -> None:
        self._folder = folder
        self._limit = limit
        self._sync = sync
        self._fd = -1
        self._spoilt = False
        self.segment = segment
        self.end = end

    @failpoints.after("blob-synced")
    def append(self, records: Sequence[tuple[bytes, bytes]]) -> list[Place]:
        """Write (digest, body) records and sync them; return their places in the same order.

        Raises StorageUnavailable; then the file ends where it ended before, or is left for ever.
        """
        try:
            self._prepare()
            places, buffers = self._lay_out(records)
            self._write(buffers)
        except OSError as error:
            self._take_back()
            raise StorageUnavailable("storage is not writable now", f"{self._folder}: {error}") from error
        self.end = places[-1].end if places else self.end
        return places

    def close(self) -> None:
        """Close the open segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prepare(self) -> None:
        if self._spoilt or self.end >= self._limit:
            self._open(self.segment + 1, 0, os.O_CREAT | os.O_EXCL)
        elif self._fd < 0:
            self._open(self.segment, self.end, os.O_CREAT)

    @failpoints.after("segment-begun")
    def _open(self, segment: int, end: int, flags: int) -> None:
        fd = self._created(segment, flags)
        self.close()
        self._fd, self.segment, self.end, self._spoilt = fd, segment, end, False
        # The name must be as durable as the content, or a power loss takes the whole segment.
        try:
            sync_folder(self._folder)
        except OSError:
            self._spoilt = True
            raise

    @failpoints.after("segment-created")
    def _created(self, segment: int, flags: int) -> int:
        return os.open(segment_path(self._folder, segment), os.O_RDWR | os.O_CLOEXEC | flags, 0o600)

    def _lay_out(self, records: Sequence[tuple[bytes, bytes]]) -> tuple[list[Place], list[bytes]]:
        places: list[Place] = []
        buffers: list[bytes] = []
        offset = self.end
        for digest, body in records:
            place = Place(self.segment, offset, len(body))
            places.append(place)
            buffers += (header(digest, len(body)), body)
            offset = place.end
        return places, buffers

    def _write(self, buffers: list[bytes]) -> None:
        offset = self.end
        for first in range(0, len(buffers), _BUFFERS):
            offset = self._write_all(buffers[first : first + _BUFFERS], offset)
        try:
            self._sync(self._fd)
        except OSError:
            # After a failed sync the kernel may have dropped the pages and call them clean: what this
            # file returns can't be trusted any more, so nothing is ever appended to it again.
            self._spoilt = True
            raise

    @failpoints.after("blob-written")
    def _write_all(self, buffers: Sequence[bytes], offset: int) -> int:
        left: list[memoryview] = [memoryview(buffer) for buffer in buffers if buffer]
        while left:
            written = os.pwritev(self._fd, left, offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left:
                left[0] = left[0][written:]
        return offset

    def _take_back(self) -> None:
        """Cut off the partial batch. Where even that fails the segment ends here: the next walk skips it."""
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, self.end)
        except OSError:
            self._spoilt = True
