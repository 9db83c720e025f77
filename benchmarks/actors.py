"""Cost of an actor: activations, asks, bytes: `python -m benchmarks.actors [--size quick]`.

Actors without state of their own, on uvloop; a mailbox's state comes on top. One kind answers in its
turn, the other awaits in activation and in each turn, as actors that append do.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from typing import Any

import msgspec
import uvloop

from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.loop_actor import LoopActor
from benchmarks.results import Size, run
from events.log.clock import SystemClock

ACTORS = 100_000
ASKS = 200_000
IN_FLIGHT = 100


class Counter(LoopActor):
    """Answers in its turn."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.count = 0

    def on_receive(self, message: Any) -> int:  # noqa: D102
        self.count += 1
        return self.count


class AwaitingCounter(Counter):
    """Awaits in activation and in each turn, as actors that append do."""

    async def on_activate(self) -> None:  # noqa: D102
        await asyncio.sleep(0)

    async def on_receive(self, message: Any) -> int:  # type: ignore[override]  # noqa: D102
        self.count += 1
        return self.count


class Cost(msgspec.Struct, frozen=True):
    """Actors activated, closed, asks answered a second (100 in flight); bytes of an idle one."""

    activated: float
    closed: float
    asks: float
    bytes: float


def new_system() -> ActorSystem:
    system = ActorSystem(ActorLimits(active=ACTORS), SystemClock())
    system.register("plain", Counter)
    system.register("awaiting", AwaitingCounter)
    return system


async def tell_all(system: ActorSystem, kind: str, count: int) -> None:
    for number in range(count):
        await system.tell(kind, str(number), "count")
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await system.drain()


async def activate(kind: str, count: int) -> tuple[float, float]:
    system = new_system()
    began = time.perf_counter()
    await tell_all(system, kind, count)
    told = time.perf_counter()
    await system.close()
    return count / (told - began), count / (time.perf_counter() - told)


async def ask(kind: str, asks: int) -> float:
    system = new_system()

    async def asker(number: int) -> None:
        for _ in range(asks // IN_FLIGHT):
            await system.ask(kind, str(number), "count")

    began = time.perf_counter()
    await asyncio.gather(*map(asker, range(IN_FLIGHT)))
    rate = asks / (time.perf_counter() - began)
    await system.close()
    return rate


async def weigh(kind: str, count: int) -> float:
    system = new_system()
    gc.collect()
    tracemalloc.start()
    await tell_all(system, kind, count)
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    await system.close()
    return each


async def take(share: float) -> dict[str, Cost]:
    costs = {}
    for kind in ("plain", "awaiting"):
        count, asks = int(ACTORS * share), int(ASKS * share)
        activated, closed = await activate(kind, count)
        costs[kind] = Cost(activated, closed, await ask(kind, asks), await weigh(kind, max(10, count // 10)))
    return costs


def measure(size: Size) -> dict[str, Cost]:
    """Measure both kinds."""
    return uvloop.run(take({Size.FULL: 1.0, Size.QUICK: 0.1, Size.TINY: 0.001}[size]))


def show(costs: dict[str, Cost]) -> None:
    """Print a table."""
    print(f"{'actor':<10}{'activated/s':>12}{'closed/s':>10}{'asks/s':>10}{'bytes':>8}")
    for kind, cost in costs.items():
        print(f"{kind:<10}{cost.activated:12,.0f}{cost.closed:10,.0f}{cost.asks:10,.0f}{cost.bytes:8,.0f}")


if __name__ == "__main__":
    run("actors", measure, show)
