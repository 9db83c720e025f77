"""The clock of one life of a node: the loop's time, and ids from a seed."""

from __future__ import annotations

import asyncio
import random

from events.log.clock import VirtualClock

EPOCH = 1_760_000_000_000
"""Milliseconds since the Unix epoch when a simulation begins."""


class LoopClock(VirtualClock):
    """Shows the virtual time of a loop; `skew` (ms) is how far this node's clock goes wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random, skew: int = 0) -> None:
        super().__init__(seed=chance.getrandbits(32))
        self._loop = loop
        self._skew = skew

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        self.set(EPOCH + int(self._loop.time() * 1000) + self._skew)
        return super().now()

    def event_id(self) -> str:
        """Return the next id of this seed."""
        self.now()
        return super().event_id()
