"""Durable blob writes per second: segment store beside one synced file per blob, in one run.

    python -m benchmarks.blobs [folder]

Every writer waits for its blob before it writes the next. The variants take turns within each round, so
that a slow moment of the disk hits all of them; the table shows the median round and p50/p99 of all writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from node.storage.local import LocalBlobs

ROUNDS = 5
SECONDS = 1.0
Write = Callable[[bytes], Awaitable[object]]


async def load(write: Write, size: int, writers: int, times: list[float]) -> float:
    end = time.perf_counter() + SECONDS
    filler = os.urandom(size)

    async def writer() -> None:
        while (begin := time.perf_counter()) < end:
            await write(os.urandom(16) + filler[16:])
            times.append(time.perf_counter() - begin)

    begin, before = time.perf_counter(), len(times)
    await asyncio.gather(*(writer() for _ in range(writers)))
    return (len(times) - before) / (time.perf_counter() - begin)


def write_file(folder: Path, body: bytes) -> None:
    """Write one file per blob, the careful way: content synced, renamed, folder synced."""
    path = folder / hashlib.sha256(body).hexdigest()
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


async def main(parent: str | None) -> None:
    print(
        f"{'size':>6} {'writers':>7}  {'segments/s':>10} {'p50 ms':>7} {'p99 ms':>7}  "
        f"{'files/s':>8} {'p50 ms':>7} {'p99 ms':>7}  ratio"
    )
    for size in (2_000, 50_000):
        for writers in (1, 10, 50):
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                await compare(Path(folder), size, writers)


async def compare(folder: Path, size: int, writers: int) -> None:
    store = LocalBlobs.open(folder / "segments")
    files = folder / "files"
    files.mkdir()
    pool = ThreadPoolExecutor(writers)
    loop = asyncio.get_running_loop()
    variants: list[Write] = [store.write, lambda body: loop.run_in_executor(pool, write_file, files, body)]
    rates: list[list[float]] = [[], []]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for number, write in enumerate(variants):
            rates[number].append(await load(write, size, writers, times[number]))
    await store.close()
    pool.shutdown()
    report(size, writers, rates, times)


def report(size: int, writers: int, rates: list[list[float]], times: list[list[float]]) -> None:
    medians = [statistics.median(rate) for rate in rates]
    cells = [f"{size:>6} {writers:>7}"]
    for number, width in ((0, 10), (1, 8)):
        p50, p99 = (statistics.quantiles(times[number], n=100)[k - 1] * 1000 for k in (50, 99))
        cells.append(f"{medians[number]:>{width}.0f} {p50:>7.2f} {p99:>7.2f}")
    print("  ".join(cells), f" {medians[0] / medians[1]:.1f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
