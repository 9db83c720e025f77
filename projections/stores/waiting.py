"""Waking those who wait for the next change of a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from events.errors import StorageUnavailable


class Waiting:
    """A future for each waiter, by database. A waiter costs about one kilobyte and no timer."""

    def __init__(self) -> None:
        self._futures: dict[str, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._futures.values()))

    async def next(self, database: str) -> None:
        """Return after the next commit that changes the database.

        Raises StorageUnavailable when the store is closed meanwhile.
        """
        future = asyncio.get_running_loop().create_future()
        waiters = self._futures.setdefault(database, set())
        waiters.add(future)
        try:
            await future
        finally:
            waiters.discard(future)
            if not waiters and self._futures.get(database) is waiters:
                del self._futures[database]

    def wake(self, databases: Iterable[str]) -> None:
        """Let all who wait for one of these databases go on."""
        for name in databases:
            for future in self._futures.pop(name, ()):
                if not future.done():
                    future.set_result(None)

    def wake_all(self) -> None:
        """Let everybody look again."""
        self.wake(list(self._futures))

    def close(self) -> None:
        """Tell everybody that nothing more will come."""
        for waiters in self._futures.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(StorageUnavailable("the view store was closed"))
        self._futures.clear()
