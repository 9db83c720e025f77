"""How often somebody may ask: a bounded book of generic cell rates, for every door and for asking others.

Keys are what an asker can't choose: the address of the socket or of a trusted proxy's client, the account of
a verified token, the domain of a verified signature.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from events.errors import Fault, MailioError
from events.log.log import Clock

CAPACITY: Final = 50_000
"""Askers remembered at once, some 10 MB. When more come, the ones heard least recently are forgotten."""


class Rate(msgspec.Struct, frozen=True):
    """Requests per second in the long run, and at once after a pause."""

    per_second: float
    burst: int


class TooManyRequests(MailioError):
    """The asker is over its rate; `retry_after` is in whole seconds."""

    fault = Fault.CLIENT
    temporary = True
    smtp = "451 4.7.0"
    http = 429
    mtp = "4.4.5"

    def __init__(self, wait_ms: float) -> None:
        super().__init__("too many requests")
        self.retry_after = max(1, -int(-wait_ms // 1000))


class Limiter:
    """One rate for many keys. Each key holds one number: the time at which its allowance is whole again."""

    def __init__(self, clock: Clock, rate: Rate, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._interval = 1000 / rate.per_second
        self._tolerance = self._interval * (rate.burst - 1)
        self._capacity = capacity
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def check(self, key: str) -> None:
        """Raise TooManyRequests when `take` would, and count nothing."""
        now = self._clock.now()
        wait = self._whole_at.get(key, 0.0) - now - self._tolerance
        if wait > self._interval + 1:
            # Nobody waits so long for having asked: the clock was set back, and all would wait for it.
            self._whole_at[key] = now
        elif wait > 0:
            raise TooManyRequests(wait)

    def take(self, key: str) -> None:
        """Count one request. Raises TooManyRequests; a refused request is not counted."""
        self.check(key)
        now = self._clock.now()
        self._whole_at[key] = max(self._whole_at.get(key, 0.0), now) + self._interval
        self._whole_at.move_to_end(key)
        self._forget(now)

    def _forget(self, now: int) -> None:
        """Drop the oldest keys that are whole again, two at most each time, and whatever is too many."""
        for _ in range(2):
            key, whole_at = next(iter(self._whole_at.items()))
            if whole_at > now and len(self._whole_at) <= self._capacity:
                return
            del self._whole_at[key]
            if not self._whole_at:
                return
