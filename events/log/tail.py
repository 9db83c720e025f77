"""The newest records in memory, and the bell that wakes those who follow the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from events.event import Recorded

TAIL_RECORDS: Final = 4_096
"""Records kept for subscribers that keep up, and up to twice as many: older ones are let go in one stroke."""


class Tail:
    """Knows the last durable position and the records that led to it. For one event loop."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.closed = False
        self._records: list[Recorded] = []
        self._bell: asyncio.Future[None] | None = None

    def publish(self, records: Sequence[Recorded]) -> None:
        """Add records that have become durable, in order, and wake everybody who waits."""
        if records:
            if records[0].position != self.head + 1:
                # Some became durable of which nobody could tell: whoever is behind them reads the store.
                self._records = []
            self._records += records
            if len(self._records) > 2 * TAIL_RECORDS:
                del self._records[:-TAIL_RECORDS]
            self.head = records[-1].position
            self._ring()

    def after(self, position: int, limit: int) -> list[Recorded] | None:
        """Return up to `limit` records above `position`, or None when memory does not reach back so far."""
        records = self._records
        if not records or position < records[0].position - 1:
            return None
        start = position - records[0].position + 1
        return records[start : start + limit]

    def forget(self) -> None:
        """Let go of all records."""
        self._records = []

    async def wait_beyond(self, position: int) -> None:
        """Return once there is a record above `position`, or the log is closed."""
        while self.head <= position and not self.closed:
            if self._bell is None:
                self._bell = asyncio.get_running_loop().create_future()
            # A waiter that is cancelled must not silence the bell for the others.
            await asyncio.shield(self._bell)

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        self._ring()

    def _ring(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.set_result(None)
