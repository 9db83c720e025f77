"""Durable blob writes per second: segment store beside one synced file per blob, in one run.

`python -m benchmarks.blobs [--size quick]`. Every writer waits for its blob before it writes the next.
The variants take turns within each round, so that a slow moment of the disk hits all of them; median of
the rounds, p50 and p99 of all writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from benchmarks.results import Size, middle, percentile, run
from node.storage.local import LocalBlobs

LOADS = [(size, writers) for size in (2_000, 50_000) for writers in (1, 10, 50)]
"""Bytes and writers."""

Write = Callable[[bytes], Awaitable[object]]


async def load(write: Write, size: int, writers: int, seconds: float, times: list[float]) -> float:
    end = time.perf_counter() + seconds
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


class Written(msgspec.Struct, frozen=True):
    """Blobs a second, and ms of one write."""

    rate: float
    p50: float
    p99: float


class Row(msgspec.Struct, frozen=True):
    """Both ways to keep blobs of this size."""

    bytes: int
    writers: int
    segments: Written
    files: Written


async def compare(folder: Path, size: int, writers: int, rounds: int, seconds: float) -> Row:
    """Let both take turns."""
    store = LocalBlobs.open(folder / "segments")
    files = folder / "files"
    files.mkdir()
    pool = ThreadPoolExecutor(writers)
    loop = asyncio.get_running_loop()
    variants: list[Write] = [store.write, lambda body: loop.run_in_executor(pool, write_file, files, body)]
    rates: list[list[float]] = [[], []]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for number, write in enumerate(variants):
            rates[number].append(await load(write, size, writers, seconds, times[number]))
    await store.close()
    pool.shutdown()
    written = [
        Written(middle(rate), 1e3 * percentile(taken, 50), 1e3 * percentile(taken, 99))
        for rate, taken in zip(rates, times, strict=True)
    ]
    return Row(size, writers, *written)


def measure(size: Size) -> list[Row]:
    """Measure all loads."""
    rows = []
    for each, writers in LOADS[: size.of(len(LOADS), len(LOADS), 1)]:
        with tempfile.TemporaryDirectory(prefix="blobs-") as folder:
            seconds = {Size.FULL: 1.0, Size.QUICK: 0.2, Size.TINY: 0.05}[size]
            rows.append(asyncio.run(compare(Path(folder), each, writers, size.of(5, 1, 1), seconds)))
    return rows


def show(rows: list[Row]) -> None:
    """Print a table."""
    print(
        f"{'bytes':>6}{'writers':>8}{'segments/s':>12}{'p50':>7}{'p99':>7}{'files/s':>9}{'p50':>7}{'p99':>7}{'ratio':>7}"
    )
    for row in rows:
        one, other = row.segments, row.files
        print(
            f"{row.bytes:>6}{row.writers:>8}{one.rate:>12,.0f}{one.p50:>7.2f}{one.p99:>7.2f}"
            f"{other.rate:>9,.0f}{other.p50:>7.2f}{other.p99:>7.2f}{one.rate / other.rate:>7.1f}"
        )


if __name__ == "__main__":
    run("blobs", measure, show)
