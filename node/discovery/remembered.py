"""Answers that are remembered for a time, and asked for once however many wait for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from events.errors import Busy

Value = TypeVar("Value")

MAX_RUNNING: Final = 1_000
"""Different questions that may be under way at once; more means that somebody asks for everything."""


class Remembered(Generic[Value]):
    """A bounded book of values by key; those used least recently go first.

    A value stays after its time, for whoever has nothing better; `get` does not look at times.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._running: dict[Hashable, asyncio.Task[Value]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """Return what is remembered."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[Value]]) -> Value:
        """Ask, or wait for who asks already; remember the answer. Raises Busy, and what the question raises.

        Who stops waiting does not stop the others.
        """
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= MAX_RUNNING:
                raise Busy("too many lookups at once", f"{MAX_RUNNING} are under way")
            task = asyncio.create_task(self._answer(key, question))
            self._running[key] = task
            task.add_done_callback(_look)
        return await asyncio.shield(task)

    async def _answer(self, key: Hashable, question: Callable[[], Awaitable[Value]]) -> Value:
        try:
            value = await question()
        finally:
            del self._running[key]
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)
        return value

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look(task: asyncio.Task[Value]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
