"""Virtual actors: activation, bounds, back-pressure, passivation, restarts, draining."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import threading
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.runtime.activation import ActorLimits, ActorSystem, FailedTell
from actors.runtime.loop_actor import LATER, LoopActor
from events.errors import Busy, InvalidInput, NotFound, StorageUnavailable
from events.log.clock import VirtualClock

SECOND = 1000


class Journal:
    """What outlives actor objects: messages handled per key, objects made, faults and gates to come."""

    def __init__(self) -> None:
        self.handled: dict[str, list[Any]] = defaultdict(list)
        self.objects: dict[str, int] = defaultdict(int)
        self.activation_faults: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failed: list[FailedTell] = []


class Worker(LoopActor):
    """Loads, handles and leaves asynchronously; exceptions sent to it are raised."""

    def __init__(self, key: str, journal: Journal) -> None:
        super().__init__()
        self.key = key
        self.journal = journal
        journal.objects[key] += 1

    async def on_activate(self) -> None:
        await asyncio.sleep(0)
        if self.journal.activation_faults:
            raise self.journal.activation_faults.pop(0)

    async def on_receive(self, message: Any) -> Any:
        await self.journal.gate.wait()
        if isinstance(message, Exception):
            raise message
        self.journal.handled[self.key].append(message)
        return message


class Leaver(Worker):
    """Also takes its time to leave."""

    async def on_passivate(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)


class Plain(LoopActor):
    """The smallest actor."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.count = 0

    def on_receive(self, message: Any) -> int:
        self.count += message
        return self.count


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def build(journal: Journal, clock: VirtualClock) -> Callable[..., ActorSystem]:
    def build(kind: type[Worker] = Worker, **limits: Any) -> ActorSystem:
        system = ActorSystem(ActorLimits(**limits), clock, journal.failed.append)
        system.register("worker", lambda key: kind(key, journal))
        system.register("plain", Plain)
        return system

    return build


def resident_bytes() -> int:
    """Memory of this process in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def turns(count: int = 20) -> None:
    """Let everything that is ready run, `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_100_000_actors_live_in_one_process(build: Callable[..., ActorSystem]) -> None:
    actors, threads = 100_000, threading.active_count()
    system = build(active=actors)
    before = resident_bytes()
    for number in range(actors):
        await system.tell("plain", str(number), 1)
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await system.drain()
    assert (resident_bytes() - before) / actors < 6 * 1024
    assert system.active == system.activations == actors
    assert threading.active_count() == threads
    await system.close()
    assert system.active == 0


@pytest.mark.parametrize("kind", ["plain", "worker"])
async def test_an_idle_actor_costs_less_than_six_kilobytes(
    build: Callable[..., ActorSystem], kind: str
) -> None:
    actors = 2_000
    system = build()
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(actors):
            await system.ask(kind, str(number), 1)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] / actors < 6 * 1024
    finally:
        tracemalloc.stop()


async def test_100_000_actors_leave_without_quadratic_cost(
    build: Callable[..., ActorSystem], clock: VirtualClock
) -> None:
    actors = 100_000
    system = build(active=actors, sweep_batch=actors)
    for number in range(actors):
        await system.tell("plain", str(number), 1)
    await turns(2)
    clock.advance(901 * SECOND)
    async with asyncio.timeout(20):  # pykka's registry would need minutes
        assert system.sweep() == actors
        await asyncio.sleep(0)
    assert system.active == 0


async def test_concurrent_first_messages_activate_once(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build()
    answers = await asyncio.gather(*(system.ask("worker", "a", n) for n in range(50)))
    assert answers == journal.handled["a"] == list(range(50))
    assert journal.objects["a"] == system.activations == 1


async def test_a_failed_activation_goes_to_all_who_asked_and_the_next_message_tries_again(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build()
    journal.activation_faults.append(StorageUnavailable("no disk"))
    answers = await asyncio.gather(*(system.ask("worker", "a", n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageUnavailable] * 3
    assert system.active == 0
    assert await system.ask("worker", "a", "again") == "again"


async def test_a_failed_activation_keeps_what_was_told(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build()
    journal.activation_faults.append(StorageUnavailable("no disk"))
    await system.tell("worker", "a", "told")
    await system.drain()
    assert journal.handled["a"] == ["told"]


async def test_an_unknown_kind_and_a_failing_factory_go_to_the_asker(
    build: Callable[..., ActorSystem],
) -> None:
    system = build()
    with pytest.raises(NotFound):
        await system.ask("unheard", "a", 1)

    def broken(key: str) -> LoopActor:
        raise InvalidInput(f"no actor for {key}")

    system.register("broken", broken)
    with pytest.raises(InvalidInput):
        await system.ask("broken", "a", 1)
    assert system.active == 0


async def test_a_full_inbox_blocks_the_teller_until_there_is_room(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(inbox=4)
    journal.gate.clear()
    told: list[int] = []

    async def teller() -> None:
        for number in range(20):
            await system.tell("worker", "a", number)
            told.append(number)

    task = asyncio.create_task(teller())
    await turns()
    assert len(told) == 5  # one in hand, four in the inbox
    assert system.inbox_high_water == 4
    journal.gate.set()
    await task
    await system.drain()
    assert journal.handled["a"] == list(range(20))
    assert system.inbox_high_water == 4


async def test_an_ask_of_a_full_actor_is_refused_after_the_named_time_or_at_once(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(inbox=1, full_seconds=0.01)
    journal.gate.clear()
    await system.tell("worker", "a", 1)
    await turns()
    await system.tell("worker", "a", 2)
    with pytest.raises(Busy):
        await system.try_ask("worker", "a", 3)
    with pytest.raises(Busy):
        await system.ask("worker", "a", 4)
    journal.gate.set()
    assert await system.ask("worker", "a", 5) == 5
    assert journal.handled["a"] == [1, 2, 5]


async def test_an_idle_actor_is_passivated_and_comes_back(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(idle_seconds=900)
    await system.ask("worker", "a", 1)
    clock.advance(600 * SECOND)
    await system.ask("worker", "b", 1)
    await turns()
    clock.advance(301 * SECOND)
    assert system.sweep() == 1
    assert system.active == system.passivations == 1
    await system.ask("worker", "a", 2)
    assert journal.objects == {"a": 2, "b": 1}


async def test_a_sweep_takes_a_bounded_number_and_never_a_busy_actor(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(sweep_batch=3)
    for key in "abcdefg":
        await system.ask("worker", key, 1)
    journal.gate.clear()
    await system.tell("worker", "a", "long")
    await turns()
    clock.advance(901 * SECOND)
    assert [system.sweep() for _ in range(3)] == [3, 3, 0]
    assert system.active == 1
    journal.gate.set()
    await system.drain()
    assert journal.handled["a"] == [1, "long"]


async def test_the_least_recently_used_idle_actor_makes_room_for_a_newcomer(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(active=3)
    for key in ("a", "b", "c", "a"):
        await system.ask("worker", key, 1)
    await turns()
    await system.ask("worker", "d", 1)
    assert system.active == 3
    await system.ask("worker", "a", 2)
    assert journal.objects["a"] == 1
    await system.ask("worker", "b", 2)
    assert journal.objects["b"] == 2


@pytest.mark.parametrize("kind", [Worker, Leaver])
async def test_newcomers_wait_when_every_active_actor_is_busy(
    build: Callable[..., ActorSystem], journal: Journal, kind: type[Worker]
) -> None:
    system = build(kind, active=2)
    journal.gate.clear()
    busy = [asyncio.create_task(system.ask("worker", key, 1)) for key in "ab"]
    await turns()
    late = [asyncio.create_task(system.ask("worker", key, 1)) for key in "cdef"]
    await turns()
    assert system.active == 2
    journal.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*busy, *late), 10) == [1] * 6
    assert system.active <= 2


@pytest.mark.parametrize("kind", [Worker, Leaver])
@pytest.mark.parametrize("seed", range(12))
async def test_no_message_is_lost_or_swapped_at_passivation(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock, seed: int, kind: type[Worker]
) -> None:
    """Random tellers and askers of few keys, against a system that passivates at every opportunity."""
    rng = random.Random(seed)
    system = build(kind, active=3, inbox=2, idle_seconds=0, full_seconds=60)
    sent: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    done = asyncio.Event()

    async def sender(number: int) -> None:
        for count in range(60):
            key = rng.choice("abcde")
            message = (number, count)
            sent[key, number].append(message)
            if rng.random() < 0.5:
                assert await system.ask("worker", key, message) == message
            else:
                await system.tell("worker", key, message)
            await turns(rng.randrange(6))

    async def sweeper() -> None:
        while not done.is_set():
            clock.advance(1)
            system.sweep()
            await turns(rng.randrange(1, 4))

    sweeping = asyncio.create_task(sweeper())
    async with asyncio.timeout(30):
        await asyncio.gather(*map(sender, range(6)))
        await system.drain()
    done.set()
    await sweeping
    for (key, number), messages in sent.items():
        assert [m for m in journal.handled[key] if m[0] == number] == messages
    assert system.passivations > 10
    assert system.active <= 3


async def test_a_failed_tell_is_reported_and_a_fresh_object_goes_on_with_the_rest(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build()
    poison = ValueError("poison")
    await system.tell("worker", "a", 1)
    await system.tell("worker", "a", poison)
    await system.tell("worker", "a", 2)
    assert await system.ask("worker", "a", 3) == 3
    assert journal.handled["a"] == [1, 2, 3]
    assert journal.failed == [FailedTell("worker", "a", poison, poison)]
    assert system.restarts == 1
    assert journal.objects["a"] == 2


async def test_tellers_who_wait_for_room_survive_a_restart(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(inbox=1)
    journal.gate.clear()
    await system.tell("worker", "a", ValueError("poison"))
    await turns()
    tellers = [asyncio.create_task(system.tell("worker", "a", number)) for number in range(5)]
    await turns()
    journal.gate.set()
    await asyncio.wait_for(asyncio.gather(*tellers), 10)
    await system.drain()
    assert (journal.handled["a"], system.restarts) == (list(range(5)), 1)


async def test_an_actor_whose_room_was_just_given_away_is_not_idle(
    build: Callable[..., ActorSystem], clock: VirtualClock
) -> None:
    system = build(inbox=1)
    await system.ask("plain", "a", 1)
    await turns()
    actor = system._cells["plain", "a"].actor
    actor.pause()
    await system.tell("plain", "a", 1)
    teller = asyncio.create_task(system.tell("plain", "a", 1))
    await turns()
    clock.advance(901 * SECOND)
    passivated: list[int] = []
    actor.resume()
    asyncio.get_running_loop().call_soon(lambda: passivated.append(system.sweep()))
    await teller
    assert await system.ask("plain", "a", 1) == 4
    assert passivated == [0]


async def fail_too_often(system: ActorSystem) -> None:
    """Tell the worker `a` what it fails of, once more than it may be restarted (twice)."""
    for _ in range(3):
        await system.tell("worker", "a", ValueError("poison"))


async def test_restarts_are_bounded_and_the_suspended_actor_comes_back_with_what_it_was_told(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(restarts=2, suspension_seconds=30)
    await fail_too_often(system)
    await system.tell("worker", "a", "behind")
    await turns(50)
    assert system.suspensions == 1
    assert journal.objects["a"] == 4
    with pytest.raises(Busy):
        await system.tell("worker", "a", "refused")
    with pytest.raises(Busy):
        await system.ask("worker", "a", "refused")
    assert await system.ask("worker", "b", "unharmed") == "unharmed"
    clock.advance(31 * SECOND)
    assert await system.ask("worker", "a", "welcome") == "welcome"
    assert journal.handled["a"] == ["behind", "welcome"]
    await system.close()


async def test_a_suspension_ends_in_time_where_the_clock_was_set_back(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(restarts=2, suspension_seconds=30)
    await fail_too_often(system)
    await turns(50)
    assert system.suspensions == 1
    clock.advance(-3600 * SECOND)
    assert await system.ask("worker", "a", "welcome") == "welcome"
    await system.close()


async def test_failures_far_apart_do_not_suspend_where_the_clock_was_set_back(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(restarts=2, restart_window_seconds=60)
    for _ in range(10):
        await system.tell("worker", "a", ValueError("now and then"))
        await turns()
        clock.advance(-61 * SECOND)
    assert (system.restarts, system.suspensions) == (10, 0)


async def test_idle_actors_leave_memory_where_the_clock_was_set_back(
    build: Callable[..., ActorSystem], clock: VirtualClock
) -> None:
    system = build(idle_seconds=900)
    for key in "abc":
        await system.ask("plain", key, 1)
    clock.advance(-3600 * SECOND)
    await system.ask("plain", "c", 1)
    assert system.sweep() == 2
    assert system.active == 1


async def test_failures_far_apart_do_not_suspend(
    build: Callable[..., ActorSystem], journal: Journal, clock: VirtualClock
) -> None:
    system = build(restarts=2, restart_window_seconds=60)
    for _ in range(10):
        await system.tell("worker", "a", ValueError("now and then"))
        await turns()
        clock.advance(31 * SECOND)
    assert (system.restarts, system.suspensions) == (10, 0)


async def test_an_actor_that_never_activates_is_suspended_instead_of_tried_for_ever(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(restarts=3)
    journal.activation_faults += [StorageUnavailable("no disk")] * 100
    await system.tell("worker", "a", 1)
    await turns(100)
    assert system.suspensions == 1
    assert len(journal.activation_faults) == 96
    await system.close()
    assert [failed.message for failed in journal.failed] == [1]


async def test_drain_finishes_queued_work_and_the_messages_it_causes_but_accepts_no_more(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build()

    class Forwarder(LoopActor):
        async def on_receive(self, message: Any) -> None:
            await system.tell("worker", "end", message)
            await system.ask("worker", "asked", message)

    system.register("forwarder", lambda _: Forwarder())
    journal.gate.clear()
    for number in range(10):
        await system.tell("worker", "a", number)
        await system.tell("forwarder", "f", number)
    draining = asyncio.create_task(system.drain())
    await turns()
    with pytest.raises(Busy):
        await system.tell("worker", "a", "late")
    with pytest.raises(Busy):
        await system.ask("worker", "new", "late")
    assert not draining.done()
    journal.gate.set()
    await asyncio.wait_for(draining, 10)
    assert journal.handled == {key: list(range(10)) for key in ("a", "end", "asked")}


async def test_drain_does_not_wait_for_an_actor_that_is_suspended(
    build: Callable[..., ActorSystem], journal: Journal
) -> None:
    system = build(restarts=2, suspension_seconds=30)
    journal.gate.clear()
    await fail_too_often(system)
    await system.tell("worker", "a", "behind")
    draining = asyncio.create_task(system.drain())
    await turns()
    assert not draining.done()
    journal.gate.set()
    await asyncio.wait_for(draining, 10)
    assert system.suspensions == 1
    await system.close()
    assert [failed.message for failed in journal.failed][-1] == "behind"


async def test_close_loses_nothing_in_silence(build: Callable[..., ActorSystem], journal: Journal) -> None:
    system = build()
    journal.gate.clear()
    await system.tell("worker", "a", 1)
    await turns()
    await system.tell("worker", "a", 2)
    asked = asyncio.create_task(system.ask("worker", "a", 3))
    await turns()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await system.close()
    with pytest.raises(Busy):
        await asked
    assert [failed.message for failed in journal.failed] == [2]
    assert system.active == 0


class Oracle(LoopActor):
    """Answers "now" at once, everything else in its turn; a "wait" keeps it busy until it is let go."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.turns: list[str] = []
        self.let_go = asyncio.Event()

    def answer_now(self, message: Any) -> Any:
        return len(self.turns) if message == "now" else LATER

    async def on_receive(self, message: Any) -> int:
        self.turns.append(message)
        if message == "wait":
            await self.let_go.wait()
        return len(self.turns)


async def test_an_idle_actor_answers_a_question_without_a_turn() -> None:
    system = ActorSystem(ActorLimits(), VirtualClock())
    oracles: list[Oracle] = []

    def make(key: str) -> Oracle:
        oracles.append(Oracle(key))
        return oracles[-1]

    system.register("oracle", make)
    assert await system.ask("oracle", "a", "first") == 1
    assert await system.ask("oracle", "a", "now") == 1
    assert oracles[0].turns == ["first"]


async def test_a_question_to_a_busy_actor_waits_behind_what_came_before() -> None:
    system = ActorSystem(ActorLimits(), VirtualClock())
    oracles: list[Oracle] = []

    def make(key: str) -> Oracle:
        oracles.append(Oracle(key))
        return oracles[-1]

    system.register("oracle", make)
    busy = asyncio.create_task(system.ask("oracle", "a", "wait"))
    await asyncio.sleep(0)
    asked = asyncio.create_task(system.ask("oracle", "a", "now"))
    await asyncio.sleep(0)
    assert not asked.done()
    oracles[0].let_go.set()
    assert (await busy, await asked) == (1, 2)
    assert oracles[0].turns == ["wait", "now"]
