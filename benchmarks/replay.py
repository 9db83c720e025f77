"""Appends and replay of the embedded log, measured: `python -m benchmarks.replay [--folder DIR] [--json]`.

Append: every writer awaits its event's commit (synchronous=FULL) before it appends the next; each has a
stream of its own and expects its version. Replay: the log is opened anew and read from the first record to
the last in batches of 500, decoded to events; once more as one stream, and once to verify the chain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from events.event import Event
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog

IN_FLIGHT = {1: 2_000, 10: 10_000, 100: 60_000}
"""Writers at once, and how many events they append together."""

LONG_STREAM = 10_000


class MailBenched(Event, frozen=True):
    """About the size of a `MailAccepted`: 12 members, 400 bytes."""

    envelope_sender: str
    recipient: str
    blob: str
    size: int
    remote: str
    helo: str
    tls: str
    spf: str
    dkim: str
    dmarc: str
    message_id: str
    subject: str


def mail(number: int) -> MailBenched:
    return MailBenched(
        envelope_sender=f"sender{number}@beta.example",
        recipient="someone@alpha.example",
        blob=f"{number:064x}",
        size=2_048 + number,
        remote="192.0.2.17",
        helo="mx.beta.example",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        spf="pass",
        dkim="pass beta.example",
        dmarc="pass",
        message_id=f"<{number:032x}@beta.example>",
        subject="Minutes of the meeting of the board",
    )


async def append(log: SqliteLog, writers: int, total: int) -> dict[str, float]:
    """Append `total` events by `writers` writers; give the rate and the latencies in ms."""
    latencies: list[float] = []
    base = log.head

    async def write(number: int) -> None:
        stream, origin = f"bench/{base}/{number}", Origin(actor="smtp")
        for version in range(total // writers):
            began = time.perf_counter()
            await log.append(Write(stream, (mail(version),), version), origin=origin)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(write(n) for n in range(writers)))
    rate = len(latencies) / (time.perf_counter() - began)
    cuts = statistics.quantiles(latencies, n=100)
    return {"events_per_s": rate, "p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}


async def rate(work: Callable[[], Awaitable[int]]) -> float:
    """Records per second of a piece of work that returns how many it has seen; the best of three."""
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        rates.append(await work() / (time.perf_counter() - began))
    return max(rates)


async def replay(log: SqliteLog) -> dict[str, float]:
    """Read, rehydrate and verify."""

    async def read_all() -> int:
        after = 0
        while batch := await log.read(after):
            after = batch[-1].position
        return after

    async def read_stream() -> int:
        return len(await log.stream("bench/long"))

    async def verify_all() -> int:
        position = 0
        async for verified in log.verify():
            assert verified.bad is None
            position = verified.position
        return position

    return {
        "read_events_per_s": await rate(read_all),
        "stream_events_per_s": await rate(read_stream),
        "verify_records_per_s": await rate(verify_all),
    }


async def measure(folder: Path) -> dict[str, Any]:
    """Run everything in a fresh log below `folder`."""
    path = folder / "log.db"
    log = SqliteLog.open(path, SystemClock(), "bench")
    appends = {writers: await append(log, writers, total) for writers, total in IN_FLIGHT.items()}
    for start in range(0, LONG_STREAM, 500):
        events = tuple(mail(n) for n in range(start, start + 500))
        await log.append(Write("bench/long", events, start), origin=Origin(actor="smtp"))
    await log.close()
    began = time.perf_counter()
    log = SqliteLog.open(path, SystemClock(), "bench")
    opened = time.perf_counter() - began
    replayed = await replay(log)
    records = log.head
    await log.close()
    return {
        "append": appends,
        "replay": replayed,
        "open_ms": 1e3 * opened,
        "records": records,
        "bytes_per_record": path.stat().st_size / records,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
    }


def table(result: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    lines = [f"{'append, in flight':<24}{'events/s':>10}{'p50 ms':>10}{'p99 ms':>10}"]
    for writers, figures in result["append"].items():
        columns = f"{figures['events_per_s']:>10,.0f}{figures['p50_ms']:>10.2f}{figures['p99_ms']:>10.2f}"
        lines.append(f"{writers:<24}{columns}")
    lines.append("")
    for name, figure in result["replay"].items():
        lines.append(f"{name.removesuffix('_per_s').replace('_', ' '):<24}{figure:>10,.0f} /s")
    lines.append(f"{'open':<24}{result['open_ms']:>10.1f} ms")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure appends to the log and its replay.")
    parser.add_argument("--folder", type=Path, help="where to put the log, in place of the temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = uvloop.run(measure(Path(folder)))
    print(json.dumps(result, indent=None if arguments.json else 2))
    if not arguments.json:
        print(table(result), file=sys.stderr)


if __name__ == "__main__":
    main()
