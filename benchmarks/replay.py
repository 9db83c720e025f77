"""Appends and replay of the embedded log: `python -m benchmarks.replay [--size quick]`.

Append: every writer awaits its event's commit (synchronous=FULL) before it appends the next; each has a
stream of its own and expects its version. Replay: the log is opened anew and read from the first record to
the last in batches of 500, decoded to events; its chain of hashes is verified. Fold: the state of a mailbox
is made from its stream as an actor does when it is activated, read from disk; and from records in memory.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from actors.runtime.aggregate import fold
from benchmarks.results import Size, percentile, run
from events import mailbox
from events.event import Event
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mailbox import MessageFiled
from events.policy import Folder, Reason, Transport
from node.daemon import GC_THRESHOLDS

IN_FLIGHT = {1: 2_000, 10: 10_000, 100: 60_000}
"""Writers at once, and how many events they append together."""

LONG_STREAM = 20_000
"""Messages of the mailbox that is folded."""

OWNER = "0x446f4461302935ad8387d0349b726bf7dbbc5118"


class Appends(msgspec.Struct, frozen=True):
    """One number of appends in flight: events a second, and ms that one takes."""

    in_flight: int
    rate: float
    p50: float
    p99: float


class Figures(msgspec.Struct, frozen=True):
    """`reading`: events, records or folded events a second, by what is done with them."""

    appends: list[Appends]
    reading: dict[str, float]
    records: int
    bytes_per_record: float
    open_ms: float


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


def filed(number: int) -> MessageFiled:
    return MessageFiled(
        id=f"{number:064x}",
        mail=f"{number:032x}",
        transport=Transport.SMTP,
        sender=f"friend{number % 300}@beta.example",
        folder=Folder.INBOX,
        reason=Reason.FIRST_CONTACT,
        document=f"{number:064x}",
        size=2_000,
        filed_at=1_760_000_000_000 + number,
        message_id=f"<{number:032x}@beta.example>",
    )


async def append(log: SqliteLog, writers: int, total: int) -> Appends:
    """Append `total` events by `writers` writers."""
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
    return Appends(writers, rate, 1e3 * percentile(latencies, 50), 1e3 * percentile(latencies, 99))


async def fill(log: SqliteLog, messages: int) -> None:
    """File messages into one mailbox."""
    for start in range(0, messages, 500):
        events = tuple(filed(number) for number in range(start, min(start + 500, messages)))
        await log.append(Write(mailbox.stream(OWNER), events, start), origin=Origin(actor="smtp"))


async def best_rate(work: Callable[[], Awaitable[int]]) -> float:
    """Records per second of a piece of work that returns how many it has seen; the best of three."""
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        rates.append(await work() / (time.perf_counter() - began))
    return max(rates)


class Reading:
    """What is done with a log that is there."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def all(self) -> int:
        """Read and decode everything."""
        after = 0
        while batch := await self._log.read(after):
            after = batch[-1].position
        return after

    async def verified(self) -> int:
        """Check the chain."""
        position = 0
        async for verified in self._log.verify():
            assert verified.bad is None
            position = verified.position
        return position

    async def activated(self) -> int:
        """Read one mailbox's stream and fold it."""
        records = await self._log.stream(mailbox.stream(OWNER))
        return fold(mailbox.evolve, mailbox.initial(OWNER), records).filed

    async def rates(self) -> dict[str, float]:
        """Measure each."""
        records = await self._log.stream(mailbox.stream(OWNER))

        async def folded() -> int:
            return fold(mailbox.evolve, mailbox.initial(OWNER), records).filed

        return {
            "read and decoded": await best_rate(self.all),
            "chain verified": await best_rate(self.verified),
            "read, decoded and folded": await best_rate(self.activated),
            "folded": await best_rate(folded),
        }


async def take(folder: Path, share: float) -> Figures:
    """Run everything in a fresh log below `folder`."""
    path = folder / "log.db"
    log = SqliteLog.open(path, SystemClock(), "bench")
    appends = [
        await append(log, writers, max(writers, int(total * share))) for writers, total in IN_FLIGHT.items()
    ]
    await fill(log, max(500, int(LONG_STREAM * share)))
    await log.close()
    began = time.perf_counter()
    log = SqliteLog.open(path, SystemClock(), "bench")
    opened = time.perf_counter() - began
    reading, records = await Reading(log).rates(), log.head
    await log.close()
    return Figures(appends, reading, records, path.stat().st_size / records, 1e3 * opened)


def measure(size: Size) -> Figures:
    """Measure in a temporary folder."""
    share = {Size.FULL: 1.0, Size.QUICK: 0.1, Size.TINY: 0.001}[size]
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        return uvloop.run(take(Path(folder), share))


def show(figures: Figures) -> None:
    """Print two tables."""
    print(f"{'appends in flight':<26}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    for one in figures.appends:
        print(f"{one.in_flight:<26}{one.rate:>10,.0f}{one.p50:>9.2f}{one.p99:>9.2f}")
    for name, rate in figures.reading.items():
        print(f"{name:<26}{rate:>10,.0f} /s")
    print(f"{'opened in':<26}{figures.open_ms:>10.1f} ms")


if __name__ == "__main__":
    # As the daemon does: the collector's defaults are not what the log runs under.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    run("replay", measure, show)
