"""Where time and ids come from: the machine, or a test that rules them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

_COUNTER_BITS = 12
_ENTROPY_BYTES = 10
_IDS_PER_DRAW = 100
_COUNTER_MAX = (1 << _COUNTER_BITS) - 1


class _Ascending:
    """Ids of RFC 9562 version 7 that ascend within a millisecond and when the clock steps back.

    The 12 bits after the time are a counter (RFC 9562 section 6.2, method 1). It starts in the lower
    half; when it is full, the id borrows from the next millisecond.
    """

    __slots__ = ("_counter", "_last")

    def __init__(self) -> None:
        self._last = -1
        self._counter = 0

    def next(self, now: int, entropy: int) -> str:
        """Give the next id for the time `now` (ms), with 73 random bits."""
        if now > self._last:
            self._last = now
            self._counter = entropy & (_COUNTER_MAX >> 1)
        elif self._counter < _COUNTER_MAX:
            self._counter += 1
        else:
            self._last += 1
            self._counter = 0
        low = 0b10 << 62 | (entropy >> 11) & ((1 << 62) - 1)
        return f"{self._last << 80 | 7 << 76 | self._counter << 64 | low:032x}"


class SystemClock:
    """The machine's clock and its random source. Not to be used on both sides of a fork."""

    def __init__(self) -> None:
        self._ids = _Ascending()
        self._entropy: Iterator[bytes] = iter(())

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def event_id(self) -> str:
        """Return a fresh id: 32 hex digits, above every id given before by this clock."""
        entropy = next(self._entropy, None) or self._draw()
        return self._ids.next(self.now(), int.from_bytes(entropy, "big"))

    def _draw(self) -> bytes:
        """Ask the kernel for the entropy of many ids at once: a system call costs more than an id."""
        drawn = os.urandom(_ENTROPY_BYTES * _IDS_PER_DRAW)
        self._entropy = (drawn[i : i + _ENTROPY_BYTES] for i in range(0, len(drawn), _ENTROPY_BYTES))
        return next(self._entropy)


class VirtualClock:
    """A clock that stands still until it is moved; the same seed gives the same ids."""

    def __init__(self, start: int = 1_700_000_000_000, seed: int = 0) -> None:
        self._now = start
        self._ids = _Ascending()
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose, never used outside tests

    def now(self) -> int:
        """Milliseconds since the Unix epoch, as last set."""
        return self._now

    def set(self, now: int) -> None:
        """Set the time, in milliseconds since the Unix epoch; backwards too."""
        self._now = now

    def advance(self, milliseconds: int) -> None:
        """Move the time forward."""
        self._now += milliseconds

    def event_id(self) -> str:
        """Return the next id of this seed."""
        return self._ids.next(self._now, self._random.getrandbits(80))
