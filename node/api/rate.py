"""How often somebody may ask: a bounded book of generic cell rates (wire spec section 3.8).

Keys are what an asker can't choose: the address of the socket or of a trusted proxy's client, or the
account of a verified token; never headers and cookies as in the reference server (section 10.3, S20).
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Final

import msgspec

from events.errors import Fault, MailioError, Misconfigured
from events.log.log import Clock
from node.settings import HttpSettings

CAPACITY: Final = 50_000
"""Askers remembered at once, some 10 MB. When more come, the ones heard least recently are forgotten."""


class Cost(StrEnum):
    """What a route costs the node or gives away, hence which rate it has."""

    ORDINARY = "ordinary"
    NONCE = "nonce"
    COSTLY = "costly"
    PEER = "peer"


class Rate(msgspec.Struct, frozen=True):
    """Requests per second in the long run, and at once after a pause."""

    per_second: float
    burst: int


NONCE_RATE: Final = Rate(1.0, 10)
"""One a second (wire spec section 3.8); a page that opens several tabs may ask for them at once."""

COSTLY_RATE: Final = Rate(1.0, 10)
"""Routes that compute scrypt or tell whether an email is known (section 10.3, S13): slower to abuse."""

PEER_RATE: Final = Rate(200.0, 1_000)
"""What one address may ask for other nodes, unless settings say otherwise."""

FAILURE_RATE: Final = Rate(0.2, 10)
"""Wrong passwords of one account from one address: guessing gets 17,000 tries a day, a typo ten at once."""


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
        wait = self._whole_at.get(key, 0.0) - self._clock.now() - self._tolerance
        if wait > 0:
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


class Limits:
    """All rates of the HTTP door."""

    def __init__(self, settings: HttpSettings, clock: Clock, peers: Rate = PEER_RATE) -> None:
        """`peers` is the rate of one address on the routes for other nodes.

        Raise Misconfigured for rates that let nobody in.
        """
        if settings.requests_per_second <= 0 or settings.request_burst < 1:
            raise Misconfigured("http.requests_per_second and http.request_burst: numbers above 0")
        ordinary = Rate(settings.requests_per_second, settings.request_burst)
        self.by_client = {
            Cost.ORDINARY: Limiter(clock, ordinary),
            Cost.NONCE: Limiter(clock, NONCE_RATE),
            Cost.COSTLY: Limiter(clock, COSTLY_RATE),
            Cost.PEER: Limiter(clock, peers),
        }
        self.by_account = Limiter(clock, ordinary)
        self.failures = Limiter(clock, FAILURE_RATE)
