"""From the log to the actors: order, checkpoints, crashes, retries, parking."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.loop_actor import LoopActor
from actors.runtime.parking import Parking
from actors.runtime.reaction import Dispatcher, DispatchLimits, LowWater, React
from events.errors import AlreadyAnswered, Busy, CorruptRecord, InvalidInput, NotFound, StorageUnavailable
from events.event import Recorded
from events.log.clock import VirtualClock
from events.log.log import Log, Origin, Write
from events.parking import ReactionDropped, ReactionParked, ReactionRetried
from tests.fakes.memory_log import MemoryCheckpoints, MemoryLog, MemorySnapshots
from tests.fakes.till import ROUTES, TestCoinSent, TestCoinTaken, Till

OPERATOR = Origin(actor="operator")
SOON = DispatchLimits(backoff_seconds=0.0001, backoff_most_seconds=0.001, checkpoint_seconds=0.001)


class Setup:
    """A log with tills behind a dispatcher; `restart` makes everything but log and checkpoints anew."""

    def __init__(self, log: Log, limits: DispatchLimits = SOON) -> None:
        self.log = log
        self.checkpoints = MemoryCheckpoints()
        self.limits = limits
        self.restart()

    def restart(self) -> None:
        self.system = ActorSystem(ActorLimits(inbox=8), VirtualClock())
        self.system.register("till", lambda key: Till(key, self.log, MemorySnapshots()))
        self.parking = Parking(self.log)
        self.dispatcher = Dispatcher(
            "tills", self.log, self.system, ROUTES, self.checkpoints, self.parking, self.limits
        )

    async def send(self, *events: TestCoinSent) -> int:
        await self.log.append(Write("coins", events), origin=OPERATOR)
        return self.log.head

    async def taken(self, till: str) -> list[int]:
        return [r.event.number for r in await self.log.stream(f"till-{till}")]  # type: ignore[attr-defined]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.dispatcher.run())
        try:
            async with asyncio.timeout(30):
                yield
                await self.dispatcher.stop()
                await task
        finally:
            await crash(task)


async def crash(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110 - any step of the loop may bring it about
        await asyncio.sleep(0)


class Scripted(LoopActor):
    """Does what the test says: raises the next faults, waits for its gate, notes the order."""

    def __init__(self, key: str, script: Script) -> None:
        super().__init__()
        self.key = key
        self.script = script

    async def on_receive(self, message: React) -> None:
        self.script.tried[self.key].append(message.record.position)
        if self.script.faults[self.key]:
            raise self.script.faults[self.key].pop(0)
        await self.script.gates[self.key].wait()
        self.script.done[self.key].append(message.record.position)


class Gate(asyncio.Event):
    def __init__(self) -> None:
        super().__init__()
        self.set()


class Script:
    def __init__(self) -> None:
        self.faults: dict[str, list[Exception]] = defaultdict(list)
        self.gates: dict[str, Gate] = defaultdict(Gate)
        self.tried: dict[str, list[int]] = defaultdict(list)
        self.done: dict[str, list[int]] = defaultdict(list)


def scripted(setup: Setup) -> Script:
    """Replace the tills by actors that do as they are told."""
    script = Script()
    setup.system.register("till", lambda key: Scripted(key, script))
    return script


def coin(number: int, *tills: str) -> TestCoinSent:
    return TestCoinSent(number=number, tills=tills)


@given(st.lists(st.integers(0, 3), max_size=30), st.randoms(use_true_random=False))
def test_the_low_water_mark_is_the_last_position_before_the_first_open_one(
    targets: list[int], rng: random.Random
) -> None:
    water = LowWater(10)
    entries = [water.begin(11 + n, count) for n, count in enumerate(targets)]
    work = [entry for entry in entries for _ in range(entry.open)]
    rng.shuffle(work)
    while True:
        still_open = [entry.position for entry in entries if entry.open]
        assert water.mark == (min(still_open) - 1 if still_open else 10 + len(targets))
        if not work:
            break
        water.finish(work.pop())


async def test_who_asks_after_the_end_is_not_left_waiting(log: Log) -> None:
    setup = Setup(log)
    async with setup.running():
        pass
    async with asyncio.timeout(5):
        with pytest.raises(Busy):
            await setup.dispatcher.reached(log.head + 1)


async def test_each_actor_reacts_in_log_order_and_the_checkpoint_follows(log: Log) -> None:
    setup = Setup(log)
    rng = random.Random(1)
    expected: dict[str, list[int]] = defaultdict(list)
    coins = [coin(n, *rng.sample("abcde", rng.randrange(4))) for n in range(60)]
    for sent in coins:
        for till in sent.tills:
            expected[till].append(sent.number)
    async with setup.running():
        for start in range(0, 60, 7):
            await setup.send(*coins[start : start + 7])
        await setup.dispatcher.reached(log.head)
    assert {till: await setup.taken(till) for till in expected} == expected
    assert setup.dispatcher.reactions == sum(map(len, expected.values()))
    assert setup.checkpoints.positions["tills"] >= 60


async def test_the_checkpoint_stays_below_the_first_unfinished_event() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.gates["slow"].clear()
    async with setup.running():
        await setup.send(coin(1, "a"), coin(2, "slow", "b"), coin(3, "c"), coin(4, "a"))
        await until(
            lambda: script.done["a"] == [1, 4] and bool(script.done["c"] and setup.checkpoints.positions)
        )
        assert setup.dispatcher.low_water == 1
        assert setup.dispatcher.backlog == 3
        assert setup.checkpoints.positions == {"tills": 1}
        reached = asyncio.create_task(setup.dispatcher.reached(4))
        await asyncio.sleep(0)
        assert not reached.done()
        script.gates["slow"].set()
        await reached
        assert setup.dispatcher.backlog == 0
    assert setup.checkpoints.positions == {"tills": 4}


async def test_no_more_than_the_named_number_is_in_flight() -> None:
    setup = Setup(MemoryLog(), DispatchLimits(in_flight=5))
    script = scripted(setup)
    for till in "abcdefgh":
        script.gates[till].clear()
    async with setup.running():
        await setup.send(*(coin(n, till) for n, till in enumerate("abcdefgh" * 3)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert setup.dispatcher.in_flight == 5
        assert sum(map(len, script.tried.values())) == 5
        for till in "abcdefgh":
            script.gates[till].set()
        await setup.dispatcher.reached(24)
    assert {till: len(done) for till, done in script.done.items()} == dict.fromkeys("abcdefgh", 3)


@pytest.mark.parametrize("seed", range(8))
async def test_every_reaction_happens_exactly_once_however_often_the_dispatcher_crashes(
    log: Log, seed: int
) -> None:
    rng = random.Random(seed)
    setup = Setup(log, DispatchLimits(in_flight=7, batch=5, checkpoint_events=3, checkpoint_seconds=0.001))
    coins = [coin(n, *rng.sample("abcd", rng.randrange(1, 4))) for n in range(50)]
    await setup.send(*coins)
    for _ in range(12):
        task = asyncio.create_task(setup.dispatcher.run())
        for _ in range(rng.randrange(60)):
            await asyncio.sleep(0)
        await crash(task)
        await setup.system.close()
        setup.restart()
    async with setup.running():
        await setup.dispatcher.reached(50)
    for till in "abcd":
        assert await setup.taken(till) == [c.number for c in coins if till in c.tills]


async def test_a_temporary_failure_is_retried_and_later_events_of_the_actor_wait() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.faults["a"] = [StorageUnavailable("later"), OSError("later")]
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a"), coin(2, "a"), coin(3, "b")))
    assert script.tried["a"] == [1, 1, 1, 2]
    assert (script.done["a"], setup.dispatcher.retries, setup.dispatcher.parked) == ([1, 2], 2, 0)


@pytest.mark.parametrize(
    ("faults", "attempts"),
    [([InvalidInput("broken", "line\r\n1")], 1), ([ValueError("bug")], 1), ([OSError("disk")] * 5, 5)],
)
async def test_poison_is_parked_with_its_reason_and_the_others_go_on(
    faults: list[Exception], attempts: int
) -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.faults["a"] = list(faults)
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a"), coin(2, "a", "b")))
    assert (script.done["a"], script.done["b"]) == ([2], [2])
    [parked] = await setup.parking.list()
    assert (parked.consumer, parked.kind, parked.key, parked.position) == ("tills", "till", "a", 1)
    assert parked.event_id == setup.log.records[0].metadata.id  # type: ignore[attr-defined]
    assert parked.attempts == attempts
    assert type(faults[0]).__name__ in parked.reason
    assert parked.reason.isprintable()
    assert setup.checkpoints.positions["tills"] >= 2


async def test_a_busy_actor_is_waited_for_and_never_gets_its_reactions_parked() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.faults["a"] = [Busy("suspended") for _ in range(50)]
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a")))
    assert (script.done["a"], setup.dispatcher.parked) == ([1], 0)


async def test_an_already_answered_reaction_counts_as_done() -> None:
    setup = Setup(MemoryLog())
    scripted(setup).faults["a"] = [AlreadyAnswered("till/a", "cause")]
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a")))
    assert await setup.parking.list() == ()


async def test_a_failing_route_parks_the_event_and_a_retry_routes_it_again(log: Log) -> None:
    setup = Setup(log)
    broken = True

    def route(record: Recorded) -> list[tuple[str, str]]:
        if broken:
            raise ValueError("no way")
        return [("till", "a"), ("till", "b")]

    setup.dispatcher = Dispatcher(
        "routed",
        log,
        setup.system,
        {"TestCoinSent": route},
        setup.checkpoints,
        setup.parking,
        SOON,
    )
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1)))
        broken = False
        [parked] = await setup.parking.list()
        await setup.parking.retry(parked.id)
    assert (await setup.taken("a"), await setup.taken("b")) == ([1], [1])


async def test_while_nothing_can_be_written_nothing_is_parked_or_skipped() -> None:
    log = MemoryLog()
    setup = Setup(log)
    await setup.send(coin(1, "a"), coin(2, "a"))
    log.faults = [StorageUnavailable("disk full") for _ in range(39)]
    async with setup.running():
        await setup.dispatcher.reached(2)
    assert await setup.taken("a") == [1, 2]
    assert await setup.parking.list() == ()


async def test_a_crash_after_parking_does_not_park_twice(log: Log) -> None:
    setup = Setup(log)
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(-1, "a")))
    setup.checkpoints.positions.clear()
    setup.restart()
    async with setup.running():
        await setup.dispatcher.reached(1)
    assert len(await log.stream("parked")) == 1


async def test_a_parked_reaction_can_be_shown_retried_and_dropped() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.faults["a"] = [ValueError("one"), ValueError("two"), ValueError("three")]
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a"), coin(2, "a")))
        first, second = await setup.parking.list()
        assert await setup.parking.show(first.id) == first
        with pytest.raises(ValueError, match="three"):
            await setup.parking.retry(first.id)
        again = await setup.parking.show(first.id)
        assert (again.attempts, again.reason) == (2, "ValueError: three")
        await setup.parking.retry(first.id)
        await setup.parking.drop(second.id, "not wanted")
    assert script.done["a"] == [1]
    assert await setup.parking.list() == ()
    for gone in (first.id, second.id, "never"):
        with pytest.raises(NotFound):
            await setup.parking.show(gone)
        with pytest.raises(NotFound):
            await setup.parking.drop(gone, "twice")
    kinds = [type(record.event) for record in await setup.log.stream("parked")]
    assert kinds == [ReactionParked, ReactionParked, ReactionParked, ReactionRetried, ReactionDropped]


async def test_parking_is_found_again_by_another_process(log: Log) -> None:
    setup = Setup(log)
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(-1, "a")))
    elsewhere = Parking(log)
    [parked] = await elsewhere.list()
    with pytest.raises(NotFound):
        await elsewhere.retry(parked.id)  # no dispatcher runs there
    await elsewhere.drop(parked.id, "negative")
    assert await setup.parking.list() == ()


async def test_reading_goes_on_after_a_temporary_failure_of_the_log() -> None:
    class Flaky(MemoryLog):
        interruptions = 3

        async def subscribe(self, after: int, batch: int = 500) -> AsyncIterator[Any]:
            async for page in super().subscribe(after, batch=2):
                yield page
                if self.interruptions:
                    self.interruptions -= 1
                    raise StorageUnavailable("cable")

    setup = Setup(Flaky())
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(*(coin(n, "a") for n in range(10))))
    assert await setup.taken("a") == list(range(10))


async def test_a_log_that_can_not_be_read_ends_the_dispatcher_with_the_reason() -> None:
    class Broken(MemoryLog):
        async def subscribe(self, after: int, batch: int = 500) -> AsyncIterator[Any]:
            async for _ in super().subscribe(after, batch):
                raise CorruptRecord("bad hash")
                yield  # type: ignore[unreachable]  # makes it a generator

    setup = Setup(Broken())
    await setup.send(coin(1, "a"))
    with pytest.raises(CorruptRecord):
        await setup.dispatcher.run()


async def test_a_checkpoint_that_can_not_be_saved_is_counted_and_saved_later() -> None:
    setup = Setup(MemoryLog())
    setup.checkpoints.faults = [OSError("full")]
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a")))
        await until(lambda: bool(setup.checkpoints.positions))
    assert setup.dispatcher.checkpoint_failures == 1


async def test_stop_does_not_wait_for_what_can_not_succeed_now() -> None:
    setup = Setup(MemoryLog(), DispatchLimits(backoff_seconds=60, backoff_most_seconds=60))
    script = scripted(setup)
    script.faults["a"] = [StorageUnavailable("disk full")]
    async with setup.running():
        await setup.send(coin(1, "b"), coin(2, "a"), coin(3, "a"))
        await until(lambda: bool(script.tried["a"] and script.done["b"]))
    assert setup.checkpoints.positions == {"tills": 1}
    setup.restart()
    script = scripted(setup)
    async with setup.running():
        await setup.dispatcher.reached(3)
    assert script.done == {"a": [2, 3]}


async def test_a_dispatcher_that_never_ran_or_failed_can_be_stopped() -> None:
    await Setup(MemoryLog()).dispatcher.stop()
    setup = Setup(MemoryLog())
    setup.log.subscribe = None  # type: ignore[method-assign, assignment]  # any bug will do
    with pytest.raises(TypeError):
        await setup.dispatcher.run()
    await setup.dispatcher.stop()


async def test_who_waits_for_a_position_learns_that_the_dispatcher_has_ended() -> None:
    setup = Setup(MemoryLog())
    waiting = asyncio.create_task(setup.dispatcher.reached(1))
    async with setup.running():
        await asyncio.sleep(0)
    with pytest.raises(Busy):
        await waiting


async def test_an_event_behind_the_end_is_passed_over_only_when_all_before_it_is_finished() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    async with setup.running():
        await setup.send(coin(1, "a"))
        await setup.dispatcher.reached(1)
    await setup.dispatcher.pass_over(3)
    assert setup.checkpoints.positions == {"tills": 1}
    await setup.dispatcher.pass_over(2)
    assert setup.checkpoints.positions == {"tills": 2}
    assert script.done["a"] == [1]


async def test_stop_finishes_what_is_under_way() -> None:
    setup = Setup(MemoryLog())
    script = scripted(setup)
    script.gates["a"].clear()
    running = asyncio.create_task(setup.dispatcher.run())
    await setup.send(coin(1, "a"), coin(2, "a"))
    await until(lambda: bool(script.tried["a"]))
    stopping = asyncio.create_task(setup.dispatcher.stop())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    assert not stopping.done()
    script.gates["a"].set()
    await stopping
    await running
    assert script.done["a"] == [1, 2]
    assert setup.checkpoints.positions == {"tills": 2}


async def test_the_actors_answers_are_events_that_name_their_cause(log: Log) -> None:
    setup = Setup(log)
    async with setup.running():
        await setup.dispatcher.reached(await setup.send(coin(1, "a")))
    sent, taken = await log.read(0)
    assert taken.event == TestCoinTaken(number=1)
    assert taken.metadata.causation == sent.metadata.id
    assert taken.metadata.actor == "till/a"
