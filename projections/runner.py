"""Keeping a view up to date: what the log says goes to the store as soon as it is durable.

    catch up: read only the view's own event types  -->  follow: take what the subscription gives, at once
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from events.errors import Busy, Conflict, MailioError, Misconfigured, NotFound, StorageUnavailable
from events.event import Recorded
from events.log.clock import SystemClock
from events.log.log import Clock, Log, Origin, Write
from events.view import STREAM, ViewEventRetried
from projections.feeder import Feeder, ParkingStore, RunnerLimits, Sleep, Status, Stopped
from projections.view_store import View

__all__ = ["RebuildNeeded", "Runner", "RunnerLimits", "Status"]

OPERATOR = Origin(actor="operator")

RATE_WINDOW_MS = 10_000
"""The rate of events is taken over this long."""


class RebuildNeeded(Misconfigured):
    """The store belongs to another schema of the view, or to another log: it must be made again."""


class _Waiter(msgspec.Struct, frozen=True):
    """Somebody who waits until the view has come to a position."""

    position: int
    done: asyncio.Future[None]


class Runner:
    """Feeds one view from the log. `run` it in a task; `stop` ends it after the batch under way."""

    def __init__(
        self,
        view: View,
        store: ParkingStore,
        log: Log,
        limits: RunnerLimits | None = None,
        clock: Clock | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.view = view
        self.store = store
        self._log = log
        self._limits = limits or RunnerLimits()
        self._clock = clock or SystemClock()
        self._feeder = Feeder(view, store, log, self._limits, sleep=sleep, on_written=self._written)
        self._waiters: list[_Waiter] = []
        self._samples: deque[tuple[int, int]] = deque()
        self._ended = asyncio.Event()
        self._running = False

    # Watching

    @property
    def position(self) -> int:
        """Position of the last event that is in the store; 0 before `run` has looked."""
        return self._feeder.position

    @property
    def lag(self) -> int:
        """Events of the log that are not in the store yet."""
        return max(0, self._log.head - self.position)

    @property
    def status(self) -> Status:
        """Counters, and what the runner waits for when something fails."""
        return self._feeder.status

    @property
    def rate(self) -> float:
        """Positions of the log per second, over the last ten seconds."""
        now = self._clock.now()
        recent = [sample for sample in self._samples if sample[0] >= now - RATE_WINDOW_MS]
        if not recent:
            return 0.0
        return (self.position - recent[0][1]) * 1000 / max(1, now - recent[0][0])

    async def needs_rebuild(self) -> str:
        """Say why the store can't be continued; "" when it can."""
        schema, checkpoint = await self.store.schema(), await self.store.checkpoint()
        if schema not in {0, self.view.schema}:
            return f"it has schema {schema} of the view, this program makes schema {self.view.schema}"
        if checkpoint > self._log.head:
            return f"it knows event {checkpoint}, the log ends at {self._log.head}"
        return ""

    # Running

    async def run(self) -> None:
        """Feed the view until `stop`, or until the log is closed.

        Raises RebuildNeeded, Misconfigured for a damaged store, UnknownEventType and CorruptRecord of the log.
        """
        self._running = True
        try:
            if reason := await self.needs_rebuild():
                raise RebuildNeeded(
                    f"view {self.view.name}: {reason}: run `mailio-node rebuild {self.view.name}`"
                )
            await self._feeder.patiently(self._feeder.start)
            self._written(self._feeder.position)
            await self._catch_up()
            await self._follow()
        except Stopped:
            pass
        finally:
            self._running = False
            self._ended.set()
            for waiter in self._waiters:
                if not waiter.done.done():
                    waiter.done.set_exception(StorageUnavailable("the node is stopping", self.view.name))
            self._waiters.clear()

    async def stop(self) -> None:
        """End `run` after the batch under way; return when it has ended."""
        self._feeder.stopping.set()
        if self._running:
            await self._ended.wait()

    async def _catch_up(self) -> None:
        batch = self._limits.batch
        while not self._feeder.stopping.is_set() and self.position < (head := self._log.head):
            records = await self._feeder.read(self.position, batch)
            if len(records) == batch:
                await self._feeder.feed(records, records[-1].position)
            else:
                # Nothing of interest up to `head`; the last of the records may even stand behind it.
                await self._feeder.feed(records, max([head, *(r.position for r in records[-1:])]))

    async def _follow(self) -> None:
        while not self._feeder.stopping.is_set():
            try:
                if await self._subscribed(self._log.subscribe(self.position, self._limits.batch)):
                    return
            except StorageUnavailable as error:
                await self._feeder.pause(error)

    async def _subscribed(self, batches: AsyncIterator[Sequence[Recorded]]) -> bool:
        """Take batches until stopping or the end of the log; tell that it is over."""
        stopping = asyncio.ensure_future(self._feeder.stopping.wait())
        try:
            while True:
                batch = asyncio.ensure_future(_next(batches))
                try:
                    await asyncio.wait({batch, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not batch.done():
                        batch.cancel()
                records = await batch if batch.done() else ()
                if not records:
                    return True
                await self._feeder.feed(records, records[-1].position)
        finally:
            stopping.cancel()
