"""Blobs that were just written, in memory: the oldest leave when there are too many bytes."""

from __future__ import annotations


class Recent:
    """Bodies by name, at most `limit` bytes of them, none longer than `longest`. For one event loop."""

    def __init__(self, limit: int, longest: int) -> None:
        self._limit = limit
        self._longest = longest
        self._bodies: dict[str, bytes] = {}
        self._bytes = 0

    def keep(self, name: str, body: bytes) -> None:
        """Remember a body whose blob is synced."""
        if len(body) > self._longest or name in self._bodies:
            return
        self._bodies[name] = body
        self._bytes += len(body)
        while self._bytes > self._limit:
            oldest = next(iter(self._bodies))
            self._bytes -= len(self._bodies.pop(oldest))

    def get(self, name: str) -> bytes | None:
        """Return a body that is still remembered."""
        return self._bodies.get(name)

    def forget(self, name: str) -> None:
        """Let go of a body that was erased."""
        body = self._bodies.pop(name, None)
        if body is not None:
            self._bytes -= len(body)
