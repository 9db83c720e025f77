"""A second place that knows how far the log came: who lost its end can tell.

The log itself can't miss what SQLite's recovery cuts off: a write-ahead file that is gone or cut short reads
like one that was never written. So after each commit, before anybody hears of it, position and hash of the
newest record are put down in a small file beside the log. It is not synced: a process that is killed leaves
it exact, a power loss may leave an older one, but none that is ahead of a log whose every commit was synced.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from events.log.sqlite import Head


class Witness:
    """Holds `<log>.head` open for writing. `note` may run in another thread than the rest."""

    def __init__(self, log: Path) -> None:
        """Open the file, or make it. Raises OSError."""
        self._file = os.open(_path(log), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, head: Head) -> None:
        """Put down the newest record. Where that fails an older note stays, which only tells less."""
        with suppress(OSError):
            os.pwrite(self._file, _line(head), 0)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)


def last_seen(log: Path) -> Head | None:
    """Return the newest record that was ever noted beside a log; None when there is no sound note."""
    try:
        line = _path(log).read_bytes()
        position, digest, _ = line.split(b" ")
        head = Head(int(position), bytes.fromhex(digest.decode("ascii")))
    except (OSError, ValueError):
        return None
    return head if line == _line(head) else None


def _path(log: Path) -> Path:
    return log.with_name(f"{log.name}.head")


def _line(head: Head) -> bytes:
    said = f"{head.position:020} {head.hash.hex()} ".encode()
    return said + f"{crc32(said):08x}\n".encode()
