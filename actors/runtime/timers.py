"""Waking actors at a time: one heap of times for a process, on the injected clock.

A timer is no fact. What it stands for is (the next attempt of a delivery, the end of a pause), and that is in
the log; whoever sets timers sets them again at a start. Timers are therefore kept in memory alone.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Any, Protocol

import msgspec

from actors.runtime.activation import Name
from events.errors import Busy
from events.log.log import Clock

LOOK_SECONDS = 1.0
"""Longest sleep of `run`: a clock that was set is noticed after a second."""

STALE = 256
"""Replaced times that may lie about in the heap beside as many as there are timers."""

BUSY_MS = 1_000
"""A suspended or full actor is woken again after this."""


class Wake(msgspec.Struct, frozen=True):
    """Message to an actor: the time that it named has come."""


class Post(Protocol):
    """The way to an actor."""

    async def tell(self, kind: str, key: str, message: Any) -> None:
        """Send a message without waiting for it to be handled. Raises Busy."""


class Timers:
    """At most one timer for each actor; setting it again replaces it."""

    def __init__(self, clock: Clock, post: Post) -> None:
        """Tell actors through `post`."""
        self._clock = clock
        self._post = post
        self._times: dict[Name, int] = {}
        self._heap: list[tuple[int, Name]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._times)

    def set(self, kind: str, key: str, at: int) -> None:
        """Wake the actor at `at` (ms), and not at the time that was set before."""
        name = (kind, key)
        if self._times.get(name) == at:
            return
        self._times[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._times) + STALE:
            self._heap = sorted((at, name) for name, at in self._times.items())
        self._changed.set()

    def clear(self, kind: str, key: str) -> None:
        """Don't wake the actor."""
        self._times.pop((kind, key), None)

    def has(self, kind: str, key: str) -> bool:
        """Whether the actor will be woken."""
        return (kind, key) in self._times

    def next(self) -> int | None:
        """Return the time of the first timer (ms), None when there is none."""
        while self._heap:
            at, name = self._heap[0]
            if self._times.get(name) == at:
                return at
            heapq.heappop(self._heap)
        return None

    async def fire(self) -> int:
        """Wake every actor whose time has come; return how many. Tests and simulations call it themselves."""
        fired = 0
        while (at := self.next()) is not None and at <= self._clock.now():
            _, name = heapq.heappop(self._heap)
            del self._times[name]
            try:
                await self._post.tell(*name, Wake())
            except Busy:
                self._times.setdefault(name, self._clock.now() + BUSY_MS)
                heapq.heappush(self._heap, (self._times[name], name))
            fired += 1
        return fired

    async def run(self) -> None:
        """Fire for ever; cancel to end."""
        while True:
            await self.fire()
            self._changed.clear()
            at = self.next()
            pause = LOOK_SECONDS if at is None else (at - self._clock.now()) / 1000
            try:
                async with asyncio.timeout(max(0.0, min(pause, LOOK_SECONDS))):
                    await self._changed.wait()
            except TimeoutError:
                continue
