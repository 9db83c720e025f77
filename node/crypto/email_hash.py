"""The e-mail hash under which accounts are looked up between nodes (wire spec section 1.8).

It is an identifier, not a secret: the salt is the address itself, so that anybody can compute it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from events.errors import InvalidInput
from events.identity import MAX_EMAIL_LENGTH
from node.crypto.base64_text import to_base64
from node.crypto.scrypt_pool import Cost, ScryptPool

SCHEME: Final = "SC_N32768_R8_P1_L32_B64"
COST: Final = Cost(15, 8, 1)

DEFAULT_CACHE: Final = 10_000
"""Remembered hashes: about 3 MB, and it spares 70 ms of a core each."""


class EmailHasher:
    """Computes e-mail hashes off the loop, remembers the latest, and never computes one twice at once."""

    def __init__(self, pool: ScryptPool, cache: int = DEFAULT_CACHE) -> None:
        """Use `pool` and remember up to `cache` hashes."""
        self._pool = pool
        self._size = cache
        self._known: OrderedDict[str, str] = OrderedDict()
        self._running: dict[str, asyncio.Task[str]] = {}

    async def hash(self, email: str) -> str:
        """Return the hash of the lower-cased bare address, base64 of 32 bytes.

        Raises InvalidInput for something that can't be an address, Busy when too many are waiting.
        """
        key = email.lower()
        if "@" not in key or len(key) > MAX_EMAIL_LENGTH:
            raise InvalidInput("invalid email")
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._compute(key))
            self._running[key].add_done_callback(lambda task: self._finished(key, task))
        # Shielded: the work serves every waiter, so one that gives up must not take it along.
        return await asyncio.shield(self._running[key])

    async def _compute(self, email: str) -> str:
        text = email.encode()
        return to_base64(await self._pool.derive(text, text, COST))

    def _finished(self, email: str, task: asyncio.Task[str]) -> None:
        del self._running[email]
        # Reading the exception marks it as seen: its waiters raise it, and there may be none left.
        if task.cancelled() or task.exception() is not None:
            return
        self._known[email] = task.result()
        if len(self._known) > self._size:
            self._known.popitem(last=False)
