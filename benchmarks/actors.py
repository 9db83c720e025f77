"""Cost of an actor: activations/s, asks/s, bytes. `python -m benchmarks.actors [--uvloop]`."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from typing import Any

from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.loop_actor import LoopActor
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


def new_system() -> ActorSystem:
    system = ActorSystem(ActorLimits(active=ACTORS), SystemClock())
    system.register("plain", Counter)
    system.register("awaiting", AwaitingCounter)
    return system


async def activate(kind: str) -> None:
    system = new_system()
    began = time.perf_counter()
    for number in range(ACTORS):
        await system.tell(kind, str(number), "count")
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await system.drain()
    print(f"{kind}: activate and tell {ACTORS / (time.perf_counter() - began):,.0f}/s", end="; ")
    began = time.perf_counter()
    await system.close()
    print(f"close {ACTORS / (time.perf_counter() - began):,.0f}/s")


async def ask(kind: str) -> None:
    system = new_system()

    async def asker(number: int) -> None:
        for _ in range(ASKS // IN_FLIGHT):
            await system.ask(kind, str(number), "count")

    began = time.perf_counter()
    await asyncio.gather(*map(asker, range(IN_FLIGHT)))
    print(f"{kind}: {ASKS / (time.perf_counter() - began):,.0f} asks/s, {IN_FLIGHT} in flight")
    await system.close()


async def weigh(kind: str) -> None:
    system = new_system()
    gc.collect()
    tracemalloc.start()
    for number in range(ACTORS // 10):
        await system.tell(kind, str(number), "count")
    await system.drain()
    gc.collect()
    print(f"{kind}: {tracemalloc.get_traced_memory()[0] / (ACTORS // 10):,.0f} bytes per idle actor")
    tracemalloc.stop()
    await system.close()


async def main() -> None:
    for kind in ("plain", "awaiting"):
        await activate(kind)
        await ask(kind)
        await weigh(kind)


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
