"""Aggregates: restore, execute, conflicts, snapshots that are only a cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.messages import Execute
from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.aggregate import fold
from actors.runtime.reaction import React
from events.errors import AlreadyAnswered, InvalidInput, StorageUnavailable, VersionConflict
from events.log.clock import VirtualClock
from events.log.log import Log, Origin, Write
from tests.fakes.memory_log import MemoryLog, MemorySnapshots
from tests.fakes.till import Take, TestCoinSent, TestCoinTaken, Till, TillState

OPERATOR = Origin(actor="operator")


def build(log: Log, snapshots: MemorySnapshots) -> ActorSystem:
    system = ActorSystem(ActorLimits(), VirtualClock())
    system.register("till", lambda key: Till(key, log, snapshots))
    return system


async def take(system: ActorSystem, number: int, *also: Write) -> Any:
    return await system.ask("till", "a", Execute(Take(number), OPERATOR, also))


async def numbers(system: ActorSystem) -> tuple[int, ...]:
    answer: tuple[int, ...] = await system.ask("till", "a", "numbers")
    return answer


async def test_a_command_is_recorded_and_seen_by_the_next_question(log: Log) -> None:
    system = build(log, MemorySnapshots())
    recorded = await take(system, 7)
    assert [(r.stream, r.version, r.event) for r in recorded] == [("till-a", 1, TestCoinTaken(number=7))]
    assert await numbers(system) == (7,)


async def test_a_refused_command_leaves_log_and_state_alone(log: Log) -> None:
    system = build(log, MemorySnapshots())
    with pytest.raises(InvalidInput):
        await take(system, -1)
    assert (log.head, await numbers(system)) == (0, ())


async def test_writes_to_other_streams_stand_or_fall_with_the_command(log: Log) -> None:
    system = build(log, MemorySnapshots())
    await log.append(Write("other", (TestCoinTaken(number=0),)), origin=OPERATOR)
    stale = Write("other", (TestCoinTaken(number=1),), 0)
    with pytest.raises(VersionConflict):
        await take(system, 7, stale)
    assert (log.head, await numbers(system)) == (1, ())
    fresh = Write("other", (TestCoinTaken(number=1),), 1)
    assert [r.stream for r in await take(system, 7, fresh)] == ["till-a", "other"]
    assert await numbers(system) == (7,)


async def test_a_command_is_decided_again_when_another_worker_was_faster(log: Log) -> None:
    mine, theirs = build(log, MemorySnapshots()), build(log, MemorySnapshots())
    await numbers(mine)
    await asyncio.gather(*(take(system, n) for n in range(20) for system in (mine, theirs)))
    await take(mine, 98)
    await take(theirs, 99)
    records = await log.stream("till-a")
    assert [r.version for r in records] == list(range(1, 43))
    assert await numbers(theirs) == fold(Till.evolve, TillState(), records).numbers


async def test_a_failed_append_changes_no_state() -> None:
    log = MemoryLog()
    system = build(log, MemorySnapshots())
    log.faults.append(StorageUnavailable("disk full"))
    with pytest.raises(StorageUnavailable):
        await take(system, 1)
    await take(system, 2)
    assert await numbers(system) == (2,)


async def test_conflicts_without_end_are_given_up(log: Log) -> None:
    class Contested(MemoryLog):
        async def append(self, *writes: Write, origin: Origin) -> Any:
            raise VersionConflict("till-a", 0, 1)

    with pytest.raises(VersionConflict):
        await take(build(Contested(), MemorySnapshots()), 1)


async def test_a_second_answer_to_the_same_cause_is_refused(log: Log) -> None:
    system = build(log, MemorySnapshots())
    [sent] = await log.append(Write("coins", (TestCoinSent(tills=("a",), number=3),)), origin=OPERATOR)
    await system.ask("till", "a", React(sent))
    with pytest.raises(AlreadyAnswered):
        await build(log, MemorySnapshots()).ask("till", "a", React(sent))
    assert await numbers(system) == (3,)


@pytest.mark.parametrize("damage", ["none", "deleted", "garbage", "wrong shape", "newer than the log"])
async def test_the_state_is_the_same_whatever_happens_to_snapshots(log: Log, damage: str) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    snapshots = MemorySnapshots()
    system = build(log, snapshots)
    for number in range(25):
        await take(system, number)
    assert snapshots.taken.keys() == {("till-a", 1)}
    version, state = snapshots.taken["till-a", 1]
    assert version == 20
    if damage == "deleted":
        snapshots.taken.clear()
    elif damage == "garbage":
        snapshots.taken["till-a", 1] = (version, b"\xc1" + state)
    elif damage == "wrong shape":
        snapshots.taken["till-a", 1] = (version, b"\x81\xa7numbers\xa1x")
    elif damage == "newer than the log":
        snapshots.taken["till-a", 1] = (1000, state)
    assert await numbers(build(log, snapshots)) == tuple(range(25))


async def test_a_snapshot_saves_reading_the_events_before_it() -> None:
    log, snapshots = MemoryLog(), MemorySnapshots()
    for number in range(25):
        await log.append(Write("till-a", (TestCoinTaken(number=number),)), origin=OPERATOR)
    snapshots.taken["till-a", 1] = (20, b"\x81\xa7numbers\x91\x63")
    assert await numbers(build(log, snapshots)) == (99, 20, 21, 22, 23, 24)


async def test_a_snapshot_of_another_schema_is_not_used(log: Log) -> None:
    snapshots = MemorySnapshots()
    system = build(log, snapshots)
    for number in range(12):
        await take(system, number)
    await asyncio.sleep(0)
    snapshots.taken["till-a", 2] = snapshots.taken.pop(("till-a", 1))
    assert await numbers(build(log, snapshots)) == tuple(range(12))


async def test_a_snapshot_that_is_not_saved_troubles_nobody_and_is_reported(log: Log) -> None:
    class Full(MemorySnapshots):
        async def save(self, *_: Any) -> None:
            raise OSError("disk full")

    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    system = build(log, Full())
    for number in range(25):
        await take(system, number)
    assert await numbers(system) == tuple(range(25))
    assert [type(error) for error in reported] == [OSError, OSError]


async def test_a_long_stream_is_read_in_pages(log: Log) -> None:
    events = tuple(TestCoinTaken(number=number) for number in range(1201))
    await log.append(Write("till-a", events), origin=OPERATOR)
    assert await numbers(build(log, MemorySnapshots())) == tuple(range(1201))
