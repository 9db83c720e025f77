"""The way from the log to the actors and back: each event is told to the actors that react to it.

Reactions of one actor happen in log order, those of different actors side by side. The checkpoint is the
low-water mark of finished work: every event at or below it is answered or parked. After a crash the events
above it are told again; actors answer with `Origin(answers=True)`, so the log refuses a second answer.

A reaction that fails is tried again if the failure may pass (`MailioError.temporary`, OSError), a bounded
number of times, and otherwise parked. `Busy` (a full inbox, a suspended actor) is no failure of the reaction
and only makes it wait. While a reaction is retried, later ones of the same actor wait; when it
is parked they go on. If parking itself fails (the disk is full), the reaction gets all its tries again until
one of the two succeeds: nothing is skipped.

What waits for one actor is handed to it together (`ReactAll`), so that its answers share a sync. Whatever
goes wrong with a batch says nothing: its events are then told one by one, as if it had never been.

Shutdown order: `Dispatcher.stop`, then `ActorSystem.drain`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Protocol

import msgspec
import pykka

from actors.runtime.activation import ActorSystem, Name
from actors.runtime.parking import Parking, describe
from events.errors import AlreadyAnswered, Busy, Gone, MailioError
from events.event import Recorded
from events.log import failpoints
from events.log.log import Log, Origin
from events.parking import Park

Reaction = Callable[[Recorded], Iterable[Name]]
"""Which actors react to an event; pure."""

Routes = Mapping[str, Reaction]
"""The reaction table: event type name → which actors react."""

Batch = Sequence[Recorded]

GIVE_WAY_LOOK = 0.05
"""Seconds between two looks whether the doors are still busy."""

NOBODY: Name = ("", "")
"""Target of the parked work when the route itself failed."""


class React(msgspec.Struct, frozen=True):
    """Message to an actor: answer this event, or raise."""

    record: Recorded


class ReactAll(msgspec.Struct, frozen=True):
    """Message to an actor: answer these events, in their order, or raise.

    Who raises may have answered some of them: each is told again with `React`.
    """

    records: tuple[Recorded, ...]


class CheckpointStore(Protocol):
    """Where consumers keep how far they have come."""

    async def load(self, name: str) -> int:
        """Return the position last saved under this name, 0 for a new one."""

    async def save(self, name: str, position: int) -> None:
        """Keep the position. Losing the latest saves is harmless: the work is recognised as done."""


class DispatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one dispatcher."""

    in_flight: int = 1000
    """Reactions under way or waiting for their turn; some MB of events."""
    batch: int = 500
    """Events read from the log at once."""
    together: int = 64
    """Events handed to one actor at once: one sync for all, and some 20 ms until others can ask it again."""
    linger_seconds: float = 0.02
    """Pause after events were handed out, so that a stream of mail is filed in batches and the doors have the
    disk meanwhile. An event after a quiet moment waits for nothing."""
    give_way_seconds: float = 0.004
    """Pause for each reaction while the doors are busy: taking responsibility goes before filing, which then
    keeps to 250 a second and catches up afterwards."""
    attempts: int = 5
    """Tries of a reaction that fails temporarily before it is parked."""
    backoff_seconds: float = 0.1
    """Pause after the first failed try; doubled after each further one …"""
    backoff_most_seconds: float = 5.0
    """… up to this."""
    checkpoint_events: int = 1000
    """The checkpoint is saved when it has moved this far …"""
    checkpoint_seconds: float = 1.0
    """… or this long after it has moved at all."""


class _Entry:
    """An event under way: how many of its reactions are open."""

    __slots__ = ("open", "position")

    def __init__(self, position: int, targets: int) -> None:
        self.position = position
        self.open = targets


class LowWater:
    """The mark at and below which all work is finished, however out of order it finishes."""

    def __init__(self, position: int) -> None:
        self.mark = position
        self._seen = position
        self._entries: deque[_Entry] = deque()

    def begin(self, position: int, targets: int) -> _Entry:
        """Note an event, in log order, with the number of reactions to it."""
        self._seen = position
        entry = _Entry(position, targets)
        if targets:
            self._entries.append(entry)
        self._advance()
        return entry

    def finish(self, entry: _Entry) -> None:
        """Note that one reaction to the event is answered or parked."""
        entry.open -= 1
        self._advance()

    def _advance(self) -> None:
        entries = self._entries
        while entries and not entries[0].open:
            entries.popleft()
        self.mark = entries[0].position - 1 if entries else self._seen


class Dispatcher:
    """One consumer of the log. `run` it in a task; `stop` it gracefully, or cancel the task as a crash would.

    Counters: `reactions` (finished), `retries`, `parked`, `split` (batches told one by one),
    `checkpoint_failures`; `in_flight` now.
    """

    def __init__(  # noqa: PLR0917 - the wiring of a consumer, named once in the daemon
        self,
        name: str,
        log: Log,
        system: ActorSystem,
        routes: Routes,
        checkpoint_store: CheckpointStore,
        parking: Parking,
        limits: DispatchLimits | None = None,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        """`gives_way` tells whether something else should have the processor now."""
        self.name = name
        self._gives_way = gives_way
        self.reactions = 0
        self.retries = 0
        self.parked = 0
        self.split = 0
        self.checkpoint_failures = 0
        self.in_flight = 0
        self._log = log
        self._system = system
        self._routes = routes
        self._checkpoints = checkpoint_store
        self._parking = parking
        self._limits = limits or DispatchLimits()
        self._water = LowWater(0)
        self._saved = 0
        self._lanes: dict[Name, deque[tuple[_Entry, Recorded]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._finished = asyncio.Event()
        self._save_now = asyncio.Event()
        self._awaiting: list[tuple[int, int, asyncio.Future[None]]] = []
        parking.attach(name, self.redispatch)

    @property
    def low_water(self) -> int:
        """Position at and below which every reaction is answered or parked."""
        return self._water.mark

    @property
    def backlog(self) -> int:
        """Events of the log that are not finished yet."""
        return max(0, self._log.head - self._water.mark)

    async def reached(self, position: int) -> None:
        """Return when all at or below `position` is finished. Raises Busy if the dispatcher ends before."""
        if self._water.mark >= position:
            return
        if self._ended.is_set():
            raise self._over()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._awaiting, (position, id(waiter), waiter))
        await waiter

    async def resume(self) -> None:
        """Take up the saved checkpoint, so that `low_water` and `backlog` are true before `run`."""
        self._saved = await self._checkpoints.load(self.name)
        self._water = LowWater(self._saved)
        self._wake_reached()

    async def run(self) -> None:
        """Consume the log until `stop`. Raises what makes going on impossible (such as CorruptRecord)."""
        await self.resume()
        self._failure = asyncio.get_running_loop().create_future()
        reader = asyncio.create_task(self._read())
        saver = asyncio.create_task(self._keep_checkpoint())
        stopping = asyncio.create_task(self._stopping.wait())
        tasks = (reader, saver, stopping)
        try:
            await asyncio.wait((*tasks, self._failure), return_when=asyncio.FIRST_COMPLETED)
            _raise_failure(reader, saver, self._failure)
            await _cancel(reader, stopping)
            await self._finish_lanes()
            await _cancel(saver)
            await self._save_checkpoint()
        finally:
            await _cancel(*tasks, *self._tasks)
            self._dismiss()
            self._ended.set()

    async def stop(self) -> None:
        """Read no more, finish what is under way; return when the checkpoint is saved and `run` over.

        What fails meanwhile is not tried again: the checkpoint stays below it.
        """
        self._stopping.set()
        if self._failure is not None:
            await self._ended.wait()

    async def pass_over(self, position: int) -> None:
        """After `stop`: count an event that concerns no actor as finished, where all before it is."""
        if self._water.mark == position - 1:
            self._water = LowWater(position)
            await self._save_checkpoint()

    @failpoints.after("reaction-appended")
    async def redispatch(self, record: Recorded, kind: str, key: str) -> None:
        """Let one actor react once, for an operator who retries what was parked. Raises the actor's error."""
        targets = self._route(record) if (kind, key) == NOBODY else [(kind, key)]
        for target in targets:
            # Nothing is filed any more for somebody who was erased.
            with suppress(AlreadyAnswered, Gone):
                await self._system.ask(*target, React(record))

    async def _read(self) -> None:
        """Follow the log; after a temporary failure go on behind the last event seen."""
        failures = 0
        position = self._saved
        while True:
            try:
                async with _closing(self._log.subscribe(position, self._limits.batch)) as batches:
                    async for batch in batches:
                        routed = 0
                        for record in batch:
                            routed += await self._dispatch(record)
                            position = record.position
                        failures = 0
                        await self._linger(routed, caught_up=len(batch) < self._limits.batch)
            except Exception as error:
                if not passes(error):
                    raise
                failures += 1
            await asyncio.sleep(self._backoff(failures))

    async def _linger(self, routed: int, *, caught_up: bool) -> None:
        """Pause behind the events that were handed out; the longer the more, while others go first."""
        if routed and self._gives_way():
            await self._give_way(routed * self._limits.give_way_seconds)
        elif routed and caught_up:
            await asyncio.sleep(self._limits.linger_seconds)

    async def _give_way(self, seconds: float) -> None:
        """Pause, but no longer than others go first: behind a full batch it may be two seconds."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0 and self._gives_way():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(min(left, GIVE_WAY_LOOK))

    async def _dispatch(self, record: Recorded) -> int:
        """Queue an event for its actors, waiting while too much is under way; return how many they are."""
        while self.in_flight >= self._limits.in_flight:
            self._finished.clear()
            await self._finished.wait()
        targets: list[Name]
        try:
            targets = self._route(record)
        except Exception:  # noqa: BLE001 - raised again by _attempt, which parks it
            targets = [NOBODY]
        entry = self._water.begin(record.position, len(targets))
        for target in targets:
            self._enqueue(target, entry, record)
        if not targets:
            self._moved()
        return len(targets)

    def _route(self, record: Recorded) -> list[Name]:
        route = self._routes.get(type(record.event).__name__)
        return list(dict.fromkeys(route(record))) if route else []

    def _enqueue(self, target: Name, entry: _Entry, record: Recorded) -> None:
        self.in_flight += 1
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = deque()
            task = asyncio.create_task(self._work(target, lane))
            self._tasks.add(task)
            task.add_done_callback(self._lane_ended)
        lane.append((entry, record))

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception())
            and self._failure
            and not self._failure.done()
        ):
            self._failure.set_exception(error)

    async def _work(self, target: Name, lane: deque[tuple[_Entry, Recorded]]) -> None:
        """Do one actor's reactions in their order until none is left, or one fails while stopping."""
        while lane:
            records = tuple(record for _, record in islice(lane, self._limits.together))
            answered = len(records) > 1 and await self._react_together(target, records)
            for record in records:
                if not answered and not await self._react(target, record):
                    return
                self._finish_first(lane)
        del self._lanes[target]

    def _finish_first(self, lane: deque[tuple[_Entry, Recorded]]) -> None:
        """Note that the oldest reaction of a lane is answered or parked."""
        entry, _ = lane.popleft()
        self.in_flight -= 1
        self.reactions += 1
        self._finished.set()
        self._water.finish(entry)
        self._moved()

    @failpoints.after("reactions-appended")
    async def _react_together(self, target: Name, records: tuple[Recorded, ...]) -> bool:
        """Tell one actor several events at once; False when they have to be told one by one."""
        try:
            await self._system.ask(*target, ReactAll(records))
        except Exception:  # noqa: BLE001 - told again one by one, where the culprit shows and is dealt with
            self.split += 1
            return False
        return True

    async def _react(self, target: Name, record: Recorded) -> bool:
        """Return True when the reaction is answered or parked, False when it is left to the next start."""
        attempts = total = 0
        while True:
            attempts, total = attempts + 1, total + 1
            try:
                await self.redispatch(record, *target)
            except Exception as error:  # noqa: BLE001 - retried or parked
                if isinstance(error, Busy):
                    attempts -= 1  # capacity says nothing about the reaction: it waits for its turn
                    self.retries += 1
                elif passes(error) and attempts < self._limits.attempts:
                    self.retries += 1
                elif await self._park(target, record, error, total):
                    return True
                else:
                    attempts = 0  # the log was down, so the tries said nothing about the reaction
            else:
                return True
            if await self._stopping_within(self._backoff(total)):
                return False

    async def _stopping_within(self, seconds: float) -> bool:
        """Wait, and tell whether `stop` was called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _park(self, target: Name, record: Recorded, error: Exception, attempts: int) -> bool:
        """Park, at most once however often the event is told again; False when the log refuses for now."""
        kind, key = target
        command = Park(
            consumer=self.name,
            kind=kind,
            key=key,
            position=record.position,
            event_id=record.metadata.id,
            reason=describe(error),
            attempts=attempts,
        )
        origin = Origin(actor=f"dispatcher/{self.name}/{kind}/{key}", cause=record.metadata, answers=True)
        try:
            await self._parking.park(command, origin)
        except AlreadyAnswered:
            return True
        except Exception as refused:
            if not passes(refused):
                raise
            return False
        self.parked += 1
        return True

    def _backoff(self, failures: int) -> float:
        limits = self._limits
        return min(limits.backoff_seconds * 2.0 ** min(failures - 1, 30), limits.backoff_most_seconds)

    def _moved(self) -> None:
        self._wake_reached()
        if self._water.mark - self._saved >= self._limits.checkpoint_events:
            self._save_now.set()

    def _wake_reached(self) -> None:
        while self._awaiting and self._awaiting[0][0] <= self._water.mark:
            waiter = heapq.heappop(self._awaiting)[2]
            if not waiter.done():
                waiter.set_result(None)

    def _dismiss(self) -> None:
        for _, _, waiter in self._awaiting:
            if not waiter.done():
                waiter.set_exception(self._over())
        self._awaiting.clear()

    def _over(self) -> Busy:
        return Busy("the node is shutting down", f"dispatcher {self.name} has ended")

    async def _keep_checkpoint(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.checkpoint_seconds):
                    await self._save_now.wait()
            self._save_now.clear()
            try:
                await self._save_checkpoint()
            except Exception as error:
                if not passes(error):
                    raise
                self.checkpoint_failures += 1

    async def _save_checkpoint(self) -> None:
        mark = self._water.mark
        if mark > self._saved:
            await self._checkpoints.save(self.name, mark)
            self._saved = mark

    async def _finish_lanes(self) -> None:
        while self._tasks:
            assert self._failure is not None
            await asyncio.wait((*self._tasks, self._failure), return_when=asyncio.FIRST_COMPLETED)
            _raise_failure(self._failure)


def passes(error: BaseException) -> bool:
    """Tell whether the same attempt may succeed later."""
    if isinstance(error, MailioError):
        return error.temporary
    return isinstance(error, OSError | pykka.ActorDeadError)


@asynccontextmanager
async def _closing(batches: AsyncIterator[Batch]) -> AsyncIterator[AsyncIterator[Batch]]:
    """End a subscription at once when its reader ends, instead of when it is collected."""
    try:
        yield batches
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


def _raise_failure(*futures: asyncio.Future[None]) -> None:
    for future in futures:
        if future.done() and not future.cancelled() and (error := future.exception()):
            raise error


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
