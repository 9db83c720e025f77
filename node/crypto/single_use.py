"""Things that may be taken once, within a fixed time: nonces and passkey sessions.

Kept in memory: after a restart a client asks for a new nonce, which costs it one request.

When the book is full the oldest entry goes. The other choice, refusing new entries, lets one flood
lock everybody out for the whole lifetime; this way an attacker has to issue `capacity` entries
between a victim's two requests (about a second apart), which the doors' rate limits forbid, and
the victim's next try works. Memory is constant either way.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, Generic, TypeVar

from events.log.log import Clock

LIFETIME_MS: Final = 5 * 60_000
"""Wire spec sections 1.9 and 1.12: five minutes."""

DEFAULT_CAPACITY: Final = 100_000
"""Open entries: about 30 MB at worst, and 333 new logins a second for five minutes."""

T = TypeVar("T")


class Missing(Enum):
    """Why there is nothing to take."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"


class SingleUse(Generic[T]):
    """A bounded book of entries that expire after `lifetime_ms` and can be taken once."""

    def __init__(
        self, clock: Clock, lifetime_ms: int = LIFETIME_MS, capacity: int = DEFAULT_CAPACITY
    ) -> None:
        """Open an empty book."""
        self._clock = clock
        self._lifetime = lifetime_ms
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[int, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, entry: T) -> int:
        """Enter it, replacing an entry of the same key; return the time of entry (ms)."""
        now = self._clock.now()
        self._drop_expired(now)
        self._entries.pop(key, None)
        if len(self._entries) >= self._capacity:
            self._entries.popitem(last=False)
        self._entries[key] = (now, entry)
        return now

    def take(self, key: str) -> T | Missing:
        """Take the entry out for good, or say why there is none."""
        now = self._clock.now()
        found = self._entries.pop(key, None)
        self._drop_expired(now)
        if found is None:
            return Missing.UNKNOWN
        entered, entry = found
        return Missing.EXPIRED if now - entered > self._lifetime else entry

    def _drop_expired(self, now: int) -> None:
        """Entries stand in order of time, so the expired ones are at the front."""
        while self._entries:
            key, (entered, _) = next(iter(self._entries.items()))
            if now - entered <= self._lifetime:
                return
            del self._entries[key]
