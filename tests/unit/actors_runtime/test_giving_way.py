"""Filing gives way to a rush of mail, and does not starve."""

from __future__ import annotations

import asyncio

from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.parking import Parking
from actors.runtime.reaction import Dispatcher, DispatchLimits
from events.log.clock import VirtualClock
from events.log.log import Origin, Write
from tests.fakes.memory_log import MemoryCheckpoints, MemoryLog, MemorySnapshots
from tests.fakes.till import ROUTES, TestCoinSent, Till

PAUSE = 0.02
COINS = 10


async def seconds_for_two_handfuls(*, rush: bool) -> float:
    """How long two appends take to be worked on, the second made when the first is done."""
    log = MemoryLog()
    system = ActorSystem(ActorLimits(), VirtualClock())
    system.register("till", lambda key: Till(key, log, MemorySnapshots()))
    limits = DispatchLimits(linger_seconds=0.0, give_way_seconds=PAUSE)
    dispatcher = Dispatcher(
        "tills", log, system, ROUTES, MemoryCheckpoints(), Parking(log), limits, gives_way=lambda: rush
    )
    task = asyncio.create_task(dispatcher.run())
    began = asyncio.get_running_loop().time()
    for _ in range(2):
        coins = tuple(TestCoinSent(tills=("a",), number=number) for number in range(COINS))
        await log.append(Write("coins", coins), origin=Origin(actor="test"))
        await dispatcher.reached(log.head)
    taken = asyncio.get_running_loop().time() - began
    await dispatcher.stop()
    await task
    return taken


async def test_in_a_rush_a_pause_in_proportion_follows_what_was_handed_out() -> None:
    assert await seconds_for_two_handfuls(rush=True) >= COINS * PAUSE


async def test_a_rush_that_is_over_makes_nothing_wait_any_longer() -> None:
    """The pause behind a full batch is two seconds; the doors may have been quiet for most of it."""
    log, rush = MemoryLog(), True
    system = ActorSystem(ActorLimits(), VirtualClock())
    system.register("till", lambda key: Till(key, log, MemorySnapshots()))
    limits = DispatchLimits(linger_seconds=0.0, give_way_seconds=60.0)
    dispatcher = Dispatcher(
        "tills", log, system, ROUTES, MemoryCheckpoints(), Parking(log), limits, gives_way=lambda: rush
    )
    task = asyncio.create_task(dispatcher.run())
    for _ in range(2):
        await log.append(Write("coins", (TestCoinSent(tills=("a",), number=1),)), origin=Origin(actor="test"))
        async with asyncio.timeout(10):
            await dispatcher.reached(log.head)
        rush = False
    await dispatcher.stop()
    await task


async def test_without_a_rush_nothing_waits() -> None:
    assert await seconds_for_two_handfuls(rush=False) < COINS * PAUSE
