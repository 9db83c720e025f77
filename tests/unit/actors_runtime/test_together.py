"""Reactions of one actor in batches: the same outcome as one by one, whatever fails in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.parking import Parking
from actors.runtime.reaction import Dispatcher, DispatchLimits, React, ReactAll
from events.errors import AlreadyAnswered, Conflict, InvalidInput, StorageUnavailable, VersionConflict
from events.event import Recorded
from events.log.clock import VirtualClock
from events.log.log import Log, Origin, Write
from events.parking import ReactionParked
from tests.fakes.memory_log import MemoryCheckpoints, MemoryLog, MemorySnapshots
from tests.fakes.till import ROUTES, Take, TestCoinSent, TestCoinTaken, Till

OPERATOR = Origin(actor="operator")
SOON = DispatchLimits(backoff_seconds=0.0001, backoff_most_seconds=0.001, checkpoint_seconds=0.001)


class Batching(Till):
    """A till that takes many coins at once."""

    async def react_all(self, records: Sequence[Recorded]) -> None:
        await self.execute_all([(Take(_number(record)), self._origin(record)) for record in records])

    def _origin(self, record: Recorded) -> Origin:
        return Origin(actor=f"till/{self.key}", cause=record.metadata, answers=True)


def _number(record: Recorded) -> int:
    assert isinstance(record.event, TestCoinSent)
    return record.event.number


class Setup:
    """Batching tills behind a dispatcher; `restart` makes everything but log, checkpoints and snapshots anew."""

    def __init__(self, log: Log, limits: DispatchLimits = SOON) -> None:
        self.log = log
        self.limits = limits
        self.checkpoints = MemoryCheckpoints()
        self.snapshots = MemorySnapshots()
        self.restart()

    def restart(self) -> None:
        self.system = ActorSystem(ActorLimits(), VirtualClock())
        self.system.register("till", lambda key: Batching(key, self.log, self.snapshots))
        self.dispatcher = Dispatcher(
            "tills", self.log, self.system, ROUTES, self.checkpoints, Parking(self.log), self.limits
        )

    async def send(self, *numbers: int, till: str = "a") -> list[Recorded]:
        coins = tuple(TestCoinSent(number=number, tills=(till,)) for number in numbers)
        return await self.log.append(Write("coins", coins), origin=OPERATOR)

    async def taken(self, till: str = "a") -> list[int]:
        return [r.event.number for r in await self.log.stream(f"till-{till}")]  # type: ignore[attr-defined]

    async def numbers(self, till: str = "a") -> list[int]:
        return list(await self.system.ask("till", till, "numbers"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.dispatcher.run())
        try:
            async with asyncio.timeout(30):
                yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Troubled(MemoryLog):
    """Notes how many writes came together; fails single appends, and the next so many readings."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.failing: set[int] = set()
        self.unreadable = 0

    async def append(self, *writes: Write, origin: Origin) -> list[Recorded]:
        self._count(len(writes))
        return await super().append(*writes, origin=origin)

    async def append_all(self, orders: Sequence[tuple[Write, Origin]]) -> list[Recorded]:
        self._count(len(orders))
        return await super().append_all(orders)

    def _count(self, writes: int) -> None:
        self.sizes.append(writes)
        if len(self.sizes) in self.failing:
            raise StorageUnavailable("the disk hiccups")

    async def stream(self, name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        if self.unreadable:
            self.unreadable -= 1
            raise StorageUnavailable("the disk can't be read")
        return await super().stream(name, after, limit)


def fail_next(log: Troubled, number: int = 1) -> None:
    """Let the append after `number - 1` more fail."""
    log.failing = {len(log.sizes) + number}


async def test_what_waits_for_one_actor_is_appended_at_once_and_in_order() -> None:
    log = Troubled()
    setup = Setup(log)
    await setup.send(*range(50))
    async with setup.running():
        await setup.dispatcher.reached(50)
    assert await setup.taken() == await setup.numbers() == list(range(50))
    assert log.sizes[1:] == [50]
    assert (setup.dispatcher.reactions, setup.dispatcher.split) == (50, 0)


async def test_a_batch_has_no_more_than_the_named_number() -> None:
    log = Troubled()
    setup = Setup(log, DispatchLimits(together=7))
    await setup.send(*range(50))
    async with setup.running():
        await setup.dispatcher.reached(50)
    assert log.sizes[1:] == [7] * 7 + [1]
    assert await setup.taken() == list(range(50))


@pytest.mark.parametrize("seed", range(8))
async def test_every_batch_is_answered_exactly_once_however_often_the_dispatcher_crashes(
    log: Log, seed: int
) -> None:
    rng = random.Random(seed)
    limits = DispatchLimits(in_flight=23, batch=11, together=5, checkpoint_events=3, checkpoint_seconds=0.001)
    setup = Setup(log, limits)
    for number in range(60):
        await setup.send(number, till=rng.choice("ab"))
    for _ in range(12):
        async with setup.running():
            for _ in range(rng.randrange(60)):
                await asyncio.sleep(0)
        await setup.system.close()
        setup.restart()
    async with setup.running():
        await setup.dispatcher.reached(60)
    taken = {till: await setup.taken(till) for till in "ab"}
    assert sorted(taken["a"] + taken["b"]) == list(range(60))
    for till, numbers in taken.items():
        assert numbers == sorted(numbers) == await setup.numbers(till)


async def test_one_poison_among_many_is_parked_alone(log: Log) -> None:
    setup = Setup(log)
    sent = await setup.send(1, 2, -3, 4, 5)
    async with setup.running():
        await setup.dispatcher.reached(sent[-1].position)
    assert await setup.taken() == await setup.numbers() == [1, 2, 4, 5]
    parked = [r.event for r in await log.read(0, types={"ReactionParked"})]
    assert [one.position for one in parked if isinstance(one, ReactionParked)] == [sent[2].position]
    assert (setup.dispatcher.parked, setup.dispatcher.split) == (1, 1)


@pytest.mark.parametrize("failing", range(1, 6))
async def test_a_failure_in_the_middle_is_tried_again_and_the_order_kept(failing: int) -> None:
    log = Troubled()
    setup = Setup(log)
    await setup.send(*range(5))
    fail_next(log, failing)
    async with setup.running():
        await setup.dispatcher.reached(5)
    assert await setup.taken() == await setup.numbers() == list(range(5))
    assert setup.dispatcher.parked == 0


async def test_another_writer_in_the_middle_costs_a_second_try_and_nothing_else(log: Log) -> None:
    setup = Setup(log)
    await setup.numbers()  # awake, so that it does not know of what comes
    await log.append(Write("till-a", (TestCoinTaken(number=99),)), origin=OPERATOR)
    sent = await setup.send(1, 2, 3)
    async with setup.running():
        await setup.dispatcher.reached(sent[-1].position)
    assert await setup.taken() == await setup.numbers() == [99, 1, 2, 3]
    assert setup.dispatcher.split == 1


async def test_after_a_failed_batch_the_state_is_what_the_log_says() -> None:
    log = Troubled()
    setup = Setup(log)
    await setup.numbers()
    sent = await setup.send(1, 2, 3)
    fail_next(log)
    with pytest.raises(StorageUnavailable):
        await setup.system.ask("till", "a", ReactAll(tuple(sent)))
    assert await setup.numbers() == await setup.taken() == []
    await setup.system.ask("till", "a", ReactAll(tuple(sent)))
    with pytest.raises(AlreadyAnswered):
        await setup.system.ask("till", "a", React(sent[1]))
    assert await setup.numbers() == await setup.taken() == [1, 2, 3]


async def test_a_refused_command_leaves_nothing_of_the_batch_in_the_state() -> None:
    log = MemoryLog()
    setup = Setup(log)
    sent = await setup.send(1, -2, 3)
    with pytest.raises(InvalidInput):
        await setup.system.ask("till", "a", ReactAll(tuple(sent)))
    assert await setup.numbers() == await setup.taken() == []


async def test_a_state_that_can_not_be_made_again_now_is_made_before_the_next_answer() -> None:
    log = Troubled()
    setup = Setup(log)
    await setup.numbers()
    sent = await setup.send(1, 2, 3)
    fail_next(log)
    log.unreadable = 2
    with pytest.raises(StorageUnavailable):
        await setup.system.ask("till", "a", ReactAll(tuple(sent)))
    with pytest.raises(StorageUnavailable):
        await setup.numbers()
    assert await setup.numbers() == []


async def test_snapshots_are_taken_of_durable_states_only() -> None:
    log = Troubled()
    setup = Setup(log)
    sent = await setup.send(*range(30))
    fail_next(log)
    with pytest.raises(StorageUnavailable):
        await setup.system.ask("till", "a", ReactAll(tuple(sent)))
    await asyncio.sleep(0)
    assert not setup.snapshots.taken
    async with setup.running():
        await setup.dispatcher.reached(30)
    fresh = ActorSystem(ActorLimits(), VirtualClock())
    fresh.register("till", lambda key: Batching(key, log, setup.snapshots))
    assert list(await fresh.ask("till", "a", "numbers")) == await setup.taken() == list(range(30))


@pytest.mark.parametrize("answered", range(3))
async def test_what_was_answered_before_a_crash_is_recognised_within_a_batch(log: Log, answered: int) -> None:
    setup = Setup(log)
    sent = await setup.send(1, 2, 3)
    await setup.system.ask("till", "a", React(sent[answered]))
    setup.restart()
    async with setup.running():
        await setup.dispatcher.reached(sent[-1].position)
    assert sorted(await setup.taken()) == [1, 2, 3]
    assert await setup.taken() == await setup.numbers()


async def test_writes_of_different_origins_are_appended_all_or_none(log: Log) -> None:
    setup = Setup(log)
    causes = [Origin(actor="x", cause=r.metadata, answers=True) for r in await setup.send(1, 2, 3)]

    def orders(*versions: int) -> list[tuple[Write, Origin]]:
        events = (TestCoinTaken(number=version) for version in versions)
        return [
            (Write("till-b", (event,), version), cause)
            for event, version, cause in zip(events, versions, causes, strict=False)
        ]

    with pytest.raises(VersionConflict):
        await log.append_all(orders(0, 1, 3))
    recorded = await log.append_all(orders(0, 1))
    assert [(r.version, r.metadata.causation) for r in recorded] == [
        (version, cause.cause.id) for version, cause in enumerate(causes[:2], 1) if cause.cause
    ]
    with pytest.raises(Conflict):
        await log.append_all(list(zip([w for w, _ in orders(2, 3)], reversed(causes[1:]), strict=True)))
    assert await log.append_all([]) == []
    assert await log.append_all([(Write("till-b", ()), OPERATOR)]) == []
    assert [r.version for r in await log.stream("till-b")] == [1, 2]
    assert log.head == 5


async def test_events_that_follow_each_other_closely_come_together() -> None:
    log = Troubled()
    setup = Setup(log, DispatchLimits(linger_seconds=0.05))
    async with setup.running():
        await setup.send(0)
        await setup.dispatcher.reached(1)
        for number in range(1, 10):
            await setup.send(number)
        await setup.dispatcher.reached(log.head)
    assert await setup.taken() == list(range(10))
    assert setup.dispatcher.split == 0
    assert log.sizes[-1] == 9


async def test_an_actor_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    class OneByOne(Till):
        tried: list[int] = []

        async def react(self, record: Recorded) -> Any:
            self.tried.append(_number(record))
            return await super().react(record)

    setup = Setup(MemoryLog())
    setup.system.register("till", lambda key: OneByOne(key, setup.log, setup.snapshots))
    await setup.send(*range(5))
    async with setup.running():
        await setup.dispatcher.reached(5)
    assert OneByOne.tried == await setup.taken() == list(range(5))
