"""Lookups that were answered already: within the window of freshness, none is answered twice.

Messages need no such memory: the log knows each of them for ever. Lookups leave no event, so their
signatures are kept in a file. It is not synced: a crash of the node loses nothing, a power loss the last
moments, and with them no more than that a lookup may be answered a second time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from events.errors import Conflict, StorageUnavailable
from events.log.log import Clock

DIGEST_BYTES: Final = 16
ENTRY_BYTES: Final = 8 + DIGEST_BYTES
"""Time (ms, big-endian) and the first half of a SHA-256."""

COMPACT_ENTRIES: Final = 50_000
"""Entries after which the file is written anew without those that are over: 1.2 MB; later, twice as many as
were left then."""


class SeenLookups:
    """Remembers signatures for as long as their requests are current."""

    def __init__(self, path: Path, clock: Clock, window_seconds: int) -> None:
        """Read what an earlier process has left. Raises StorageUnavailable."""
        self._path = path
        self._clock = clock
        self._window = window_seconds * 1_000
        self._seen: dict[bytes, int] = {}
        self._entries = 0
        self._compact_at = COMPACT_ENTRIES
        self._load()

    def require_new(self, peer: str, signature: bytes, timestamp: int) -> None:
        """Note a request by its peer, signature and time (ms), or raise Conflict for one that was answered.

        Raises StorageUnavailable when it can't be noted.
        """
        if not self._window:
            return
        digest = hashlib.sha256(b"%s\n%s" % (peer.encode(), signature)).digest()[:DIGEST_BYTES]
        if digest in self._seen:
            raise Conflict("the request was answered already: make it anew")
        self._seen[digest] = timestamp
        self._append(_entry(digest, timestamp))
        self._entries += 1
        if self._entries >= self._compact_at:
            self._compact()

    def _load(self) -> None:
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise StorageUnavailable("the memory of lookups can't be read", str(error)) from error
        for start in range(0, len(content) - ENTRY_BYTES + 1, ENTRY_BYTES):
            entry = content[start : start + ENTRY_BYTES]
            self._seen[entry[8:]] = int.from_bytes(entry[:8], "big")
        self._compact()

    def _compact(self) -> None:
        oldest = self._clock.now() - self._window
        self._seen = {digest: at for digest, at in self._seen.items() if at >= oldest}
        aside = self._path.with_name(f".{self._path.name}")
        try:
            aside.write_bytes(b"".join(_entry(digest, at) for digest, at in self._seen.items()))
            aside.replace(self._path)
        except OSError as error:
            raise StorageUnavailable("the memory of lookups can't be written", str(error)) from error
        self._entries = len(self._seen)
        self._compact_at = max(COMPACT_ENTRIES, 2 * self._entries)

    def _append(self, entry: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(entry)
        except OSError as error:
            raise StorageUnavailable("the memory of lookups can't be written", str(error)) from error


def _entry(digest: bytes, at: int) -> bytes:
    return at.to_bytes(8, "big") + digest
