"""Keeping a view up to date: what the log says goes to the store as soon as it is durable.

catch up: read only the view's own event types  -->  follow: take what the subscription gives, at once
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from events.errors import Busy, Conflict, Misconfigured, NotFound, StorageUnavailable
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
        *,
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
        self._taking = False
        self._feeding = asyncio.Lock()
        # Of two wishes for one event, a rebuild would follow the later.
        self._retrying = asyncio.Lock()

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

        Raises RebuildNeeded, Misconfigured for a damaged store, UnknownEventType and CorruptRecord for a
        log that can't be read.
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
            await self._feeder.settle()
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
            async with self._feeding:
                records = await self._feeder.read(self.position, batch)
                # Fewer than asked for: nothing more of interest up to `head`, which some may even be above.
                last = max([head, *(record.position for record in records[-1:])])
                await self._feeder.feed(records, records[-1].position if len(records) == batch else last)

    async def _follow(self) -> None:
        tries = 0
        while not self._feeder.stopping.is_set():
            before = self.position
            try:
                await self._subscribed(self._log.subscribe(self.position, self._limits.batch))
            except StorageUnavailable as error:
                tries = 1 if self.position > before else tries + 1
                await self._feeder.pause(error, tries)
            else:
                return

    async def _subscribed(self, batches: AsyncIterator[Sequence[Recorded]]) -> None:
        """Take batches until stopping, or until the log is closed."""
        taking = asyncio.ensure_future(self._take(batches))
        stopping = asyncio.ensure_future(self._feeder.stopping.wait())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._taking:
                taking.cancel()
            await asyncio.wait({taking})
        finally:
            stopping.cancel()
            taking.cancel()
            await asyncio.wait({taking})
        if not taking.cancelled():
            taking.result()

    async def _take(self, batches: AsyncIterator[Sequence[Recorded]]) -> None:
        """Feed batch after batch. Outside of a batch it may be cancelled; a batch under way ends first."""
        async for records in batches:
            async with self._feeding:
                self._taking = True
                try:
                    await self._feeder.feed(records, records[-1].position)
                finally:
                    self._taking = False
            if self._feeder.stopping.is_set():
                return

    def _written(self, position: int) -> None:
        """Note a new checkpoint; let those go on who waited for it."""
        now = self._clock.now()
        self._samples.append((now, position))
        # Those of the future go too: the clock was set back, and would keep all that come until it is there.
        while not now - RATE_WINDOW_MS <= self._samples[0][0] <= now:
            self._samples.popleft()
        while self._waiters and self._waiters[0].position <= position:
            waiter = self._waiters.pop(0)
            if not waiter.done.done():
                waiter.done.set_result(None)

    # What others ask for

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[int]:
        """Keep the runner from writing inside the block, after the batch under way; gives its position.

        A rebuilt store that is brought to exactly this position may be put in the place of the live one.
        """
        async with self._feeding:
            yield self.position

    async def reached(self, position: int, timeout: float | None = None) -> None:  # noqa: ASYNC109 - see below
        """Return when everything up to `position` is in the store (or parked).

        `timeout` is in seconds, by default `reached_seconds` of the limits. Raises Busy when it takes longer,
        StorageUnavailable when the runner stops meanwhile.
        """
        if position <= self.position:
            return
        if self._ended.is_set():
            raise StorageUnavailable("the node is stopping", f"view {self.view.name} does not run")
        waiter = _Waiter(position, asyncio.get_running_loop().create_future())
        insort(self._waiters, waiter, key=_position)
        try:
            # The bound is an answer to the caller (`Busy`), not a cancellation scope of theirs.
            async with asyncio.timeout(self._limits.reached_seconds if timeout is None else timeout):
                await waiter.done
        except TimeoutError:
            raise Busy(
                "not ready yet, try again", f"view {self.view.name} is at {self.position}, not {position}"
            ) from None
        finally:
            # In the turn in which the caller gave up, others may have taken it off the list.
            if waiter.done.cancelled() and waiter in self._waiters:
                self._waiters.remove(waiter)

    async def retry(self, position: int) -> None:
        """Have a parked event tried again, now; return when that has worked.

        The wish becomes an event: what comes of the parked one gets that event's position as its sequence
        number. Raises NotFound when nothing is parked there, Conflict when it failed again (it stays parked,
        with the new reason), Busy.
        """
        async with self._retrying:
            if position not in await self.store.parked():
                raise NotFound(f"view {self.view.name} has nothing parked at {position}")
            wish = ViewEventRetried(view=self.view.name, position=position)
            (recorded,) = await self._log.append(Write(STREAM, (wish,)), origin=OPERATOR)
            await self.reached(recorded.position)
            async with self._feeding:  # the batch is over: what worked is off the list
                reason = (await self.store.parked()).get(position)
        if reason is not None:
            raise Conflict("it failed again and stays parked", reason)

    async def drop(self, position: int) -> None:
        """Take an event off the list of parked ones. A rebuild tries it again. Raises NotFound."""
        if not await self.store.unpark(position):
            raise NotFound(f"view {self.view.name} has nothing parked at {position}")


def _position(waiter: _Waiter) -> int:
    return waiter.position
