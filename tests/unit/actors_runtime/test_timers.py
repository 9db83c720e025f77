"""Timers: actors are woken when their time has come on the injected clock, and once."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.runtime.timers import STALE, Timers, Wake
from events.errors import Busy
from events.log.clock import SystemClock, VirtualClock


class Post:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.refuses = 0
        self.came = asyncio.Event()

    async def tell(self, kind: str, key: str, message: Any) -> None:
        assert message == Wake()
        if self.refuses:
            self.refuses -= 1
            raise Busy("later")
        self.told.append((kind, key))
        self.came.set()


async def test_those_whose_time_has_come_are_woken_in_order_and_once() -> None:
    clock, post = VirtualClock(0), Post()
    timers = Timers(clock, post)
    timers.set("federation", "b", 20)
    timers.set("federation", "a", 10)
    timers.set("federation", "c", 30)
    assert await timers.fire() == 0
    clock.set(20)
    assert await timers.fire() == 2
    assert post.told == [("federation", "a"), ("federation", "b")]
    assert await timers.fire() == 0
    assert timers.next() == 30


async def test_a_timer_that_is_set_again_or_cleared_is_another_or_none() -> None:
    clock, post = VirtualClock(0), Post()
    timers = Timers(clock, post)
    timers.set("federation", "a", 10)
    timers.set("federation", "a", 50)
    timers.set("federation", "b", 10)
    timers.clear("federation", "b")
    clock.set(49)
    assert await timers.fire() == 0
    clock.set(50)
    assert await timers.fire() == 1


async def test_an_actor_that_is_suspended_is_woken_a_second_later() -> None:
    clock, post = VirtualClock(0), Post()
    timers = Timers(clock, post)
    post.refuses = 1
    timers.set("federation", "a", 0)
    await timers.fire()
    assert (post.told, timers.next()) == ([], 1_000)
    clock.set(1_000)
    await timers.fire()
    assert post.told == [("federation", "a")]


async def test_setting_one_timer_again_and_again_takes_no_memory() -> None:
    timers = Timers(VirtualClock(0), Post())
    for at in range(10_000, 0, -1):
        timers.set("federation", "a", at)
    assert len(timers._heap) <= STALE + 3
    assert timers.next() == 1


async def test_the_loop_wakes_as_soon_as_an_earlier_timer_is_set() -> None:
    clock, post = SystemClock(), Post()
    timers = Timers(clock, post)
    running = asyncio.create_task(timers.run())
    try:
        timers.set("federation", "late", clock.now() + 3_600_000)
        await asyncio.sleep(0)
        timers.set("federation", "now", clock.now())
        await asyncio.wait_for(post.came.wait(), 1)
        assert post.told == [("federation", "now")]
    finally:
        running.cancel()
