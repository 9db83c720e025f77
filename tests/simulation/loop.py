"""An event loop without time, threads or sockets: the same program does the same, step by step, every time.

When nothing is ready, the clock jumps to the next timer. What is given to an executor runs at once, in place.
Each callback belongs to the world (a node, or the simulation itself) in whose context it was scheduled;
`kill` makes a world stop between two callbacks, as `kill -9` stops a process between two system calls: nothing
of it runs any more, no `finally` either.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

WORLD: ContextVar[str] = ContextVar("WORLD", default="")
"""Whose code is running: the name of one life of a node, "" for the simulation."""


_GRAVEYARD: list[object] = []
# What is thrown away runs its `finally`, as no killed process does; so the dead are kept until this process ends.


class Stuck(Exception):
    """Everybody waits and no timer is set: somebody waits for what will never come."""


class Dead(BaseException):
    """A life ended in the middle of a function that can't wait: nothing of it counts any more."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """`time` is in seconds since the loop was made. `steps` counts the jobs given to executors, by world."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._dead: set[str] = set()
        self._worlds: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.set_task_factory(self._made)  # type: ignore[arg-type]
        self.steps: dict[str, int] = {}
        self.at_step: dict[str, Callable[[str, int], bool]] = {}

    def time(self) -> float:
        """Return the virtual time."""
        return self._seconds

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake this one."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run a job now. One of `at_step` may say that its world died of it, and nobody hears of the result."""
        future: asyncio.Future[T] = self.create_future()
        world = WORLD.get()
        self.steps[world] = step = self.steps.get(world, 0) + 1
        try:
            result = func(*args)
        except Dead:
            return self.create_future()
        except Exception as error:  # noqa: BLE001 - given to whoever awaits the job
            future.set_exception(error)
        else:
            future.set_result(result)
        if any(died(world, step) for died in tuple(self.at_step.values())):
            return self.create_future()
        return future

    def kill(self, world: str) -> None:
        """End a world: its callbacks, timers and tasks are never run again."""
        self._dead.add(world)
        _GRAVEYARD.extend(task for task in asyncio.all_tasks(self) if self._worlds.get(task) == world)

    def _buried(self, handle: asyncio.Handle) -> bool:
        """Whether a callback is of somebody who is dead."""
        context: Context = handle._context  # type: ignore[attr-defined]
        if not self._dead or context.get(WORLD, "") not in self._dead:
            return False
        _GRAVEYARD.append(handle)
        return True

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, go to the next timer. Half of the loop of asyncio, and cheaper."""
        if not self._ready:
            self._go_to_timers()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle._cancelled and not self._buried(handle):
                handle._run()

    def _go_to_timers(self) -> None:
        """Let the time of the first timer come, and make ready what is due then."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        if not timers:
            if self._stopping:
                return
            raise Stuck("nothing is ready and no timer is set")
        self._seconds = max(self._seconds, timers[0].when())
        while timers and timers[0].when() <= self._seconds:
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(timer)

    def _made(
        self, _: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
    ) -> asyncio.Task[T]:
        task = asyncio.Task(work, loop=self, context=context)
        self._worlds[task] = WORLD.get() if context is None else context.get(WORLD, "")
        return task
