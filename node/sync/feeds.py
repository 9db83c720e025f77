"""Feeds that wait: one waiter per idle client, bounded per user, ended cleanly when the node stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import Enum

import msgspec
from aiohttp import web

from events.errors import StorageUnavailable
from node.sync.changes import Changes, Row
from node.sync.database import Database
from node.sync.limits import SyncLimits
from node.sync.query import Query
from node.sync.refusal import Refusal

LOOK_SECONDS = 10.0
"""How often a waiting feed without heartbeat looks whether its client is still there."""


class Beat(Enum):
    """What a feed yields between rows."""

    HEARTBEAT = "heartbeat"
    """The client wants to know that the connection lives."""


class Pace(msgspec.Struct, frozen=True):
    """How long a feed waits, in seconds. `heartbeat` None: it gives up after `timeout` without a change."""

    timeout: float
    heartbeat: float | None


def pace(query: Query, limits: SyncLimits) -> Pace:
    """Read `timeout` and `heartbeat`; as in CouchDB a heartbeat keeps the feed alive."""
    longest = limits.feed_timeout_ms
    timeout = query.number("timeout")
    timeout = longest if timeout is None else min(timeout, longest)
    if "heartbeat" not in query or query.text("heartbeat") == "false":
        return Pace(timeout / 1000, None)
    beat = longest if query.text("heartbeat") == "true" else query.number("heartbeat") or longest
    return Pace(timeout / 1000, min(max(beat, limits.heartbeat_min_ms), longest) / 1000)


class Feeds:
    """All feeds of the door."""

    def __init__(self, limits: SyncLimits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._waiters: set[asyncio.Task[int]] = set()
        self._closing = False

    def __len__(self) -> int:
        """Number of feeds that wait right now."""
        return len(self._waiters)

    @property
    def places(self) -> int:
        """Number of feeds that are open, those included that are sending."""
        return self._open.total()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Take one of the user's places; raise a refusal (429) when all are taken."""
        if self._open[address] >= self._limits.feeds_per_user:
            raise Refusal(429, "too_many_requests", f"{self._limits.feeds_per_user} feeds are open already")
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def close(self) -> None:
        """End all feeds with what they have: the node stops."""
        self._closing = True
        for waiter in self._waiters:
            waiter.cancel()

    async def follow(
        self, request: web.Request, database: Database, changes: Changes, speed: Pace, *, once: bool
    ) -> AsyncIterator[Row | Beat]:
        """Yield rows as they come, and heartbeats; end at the timeout, the limit or the feed's lifetime.

        With `once` the feed ends after the first round that had rows (longpoll).
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._limits.feed_lifetime_ms / 1000
        quiet_since = loop.time()
        while True:
            found = False
            async for row in changes.rows():
                found = True
                yield row
            if (once and found) or changes.left == 0:
                return
            if found:
                quiet_since = loop.time()
            over = ends if speed.heartbeat else min(ends, quiet_since + speed.timeout)
            beat_at = loop.time() + (speed.heartbeat or over)
            while not await self._change(database, changes.seen, min(over, beat_at)):
                if self._closing or _gone(request) or loop.time() >= over:
                    return
                if speed.heartbeat and loop.time() >= beat_at:
                    yield Beat.HEARTBEAT
                    beat_at = loop.time() + speed.heartbeat

    async def _change(self, database: Database, seen: int, until: float) -> bool:
        """Wait for a change above `seen`; False when the time is over, the node stops, or to look around."""
        if self._closing:
            return False
        seconds = min(max(until - asyncio.get_running_loop().time(), 0), LOOK_SECONDS)
        waiter = asyncio.ensure_future(database.changed(seen))
        self._waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=seconds)
            if not waiter.done() or waiter.cancelled():
                return False
            return _woken(waiter)
        finally:
            self._waiters.discard(waiter)
            waiter.cancel()


def _woken(waiter: asyncio.Task[int]) -> bool:
    error = waiter.exception()
    if error is None:
        return True
    if isinstance(error, StorageUnavailable):
        raise Refusal(503, "service_unavailable", "the node is stopping", str(error))
    raise error


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
