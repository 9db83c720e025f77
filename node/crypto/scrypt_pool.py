"""scrypt in a few threads with a bounded queue: 32 MiB and about 70 ms of one core each time.

Never on the event loop. When the queue is full the caller gets Busy at once: waiting lines in front
of something this slow only turn a flood into a longer outage.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec

from events.errors import Busy

DEFAULT_WORKERS: Final = 2
"""Threads, hence 64 MiB at most; scrypt releases the interpreter lock, so each uses a core."""

DEFAULT_QUEUE: Final = 64
"""Jobs running or waiting: about 2 s of work for two threads."""


class Cost(msgspec.Struct, frozen=True):
    """scrypt parameters (RFC 7914 section 2): N = 2**log2_n, block size r, parallelisation p."""

    log2_n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that OpenSSL must be allowed to use."""
        return 128 * self.r * ((1 << self.log2_n) + self.p + 2) + (1 << 20)


class ScryptPool:
    """Derives keys in `workers` threads, with at most `queue` jobs running or waiting."""

    def __init__(self, workers: int = DEFAULT_WORKERS, queue: int = DEFAULT_QUEUE) -> None:
        """Start no thread yet."""
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="scrypt")
        self._free = queue

    async def derive(self, secret: bytes, salt: bytes, cost: Cost, length: int = 32) -> bytes:
        """Derive `length` bytes. Raises Busy when the queue is full."""
        if self._free <= 0:
            raise Busy("too many requests, try again", "the scrypt queue is full")
        loop = asyncio.get_running_loop()
        self._free -= 1
        try:
            job = self._threads.submit(_derive, secret, salt, cost, length)
        except RuntimeError:
            self._free += 1
            raise Busy("shutting down", "the scrypt pool is closed") from None
        job.add_done_callback(lambda done: self._give_back(loop, done))
        return await asyncio.wrap_future(job)

    def _give_back(self, loop: asyncio.AbstractEventLoop, _: Future[bytes]) -> None:
        """Free the place on the loop's own thread, when the work ends and not when the waiter leaves."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._free += 1

    def close(self) -> None:
        """Drop waiting jobs and end the threads after the job each is at."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _derive(secret: bytes, salt: bytes, cost: Cost, length: int) -> bytes:
    return hashlib.scrypt(
        secret, salt=salt, n=1 << cost.log2_n, r=cost.r, p=cost.p, maxmem=cost.memory, dklen=length
    )
