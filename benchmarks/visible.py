"""How long after its `250` a mail is visible in a live PouchDB, at steady rates.

`python -m benchmarks.visible [--size quick]`: the whole daemon with its defaults, a PouchDB 9 (memory
adapter) in a Node.js process with live replication, mails of 2 KB sent on time whatever happened to those
before. Both ends read the same clock (CLOCK_MONOTONIC, 1 ns): `250` is taken when the client has read the
line, "visible" when PouchDB reports the change of its own database. What is measured is thus filing,
view, feed, `_bulk_get` and PouchDB's write, on cores shared by daemon, sender and PouchDB. "offered" is
the node's part of it: the mail stands in the continuous `_changes` feed that this process reads beside
PouchDB.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession, ClientTimeout

from actors.mailbox import document_id
from benchmarks.history import ONE, credentials, email, node_with
from benchmarks.results import Size, percentile, run
from tests.daemon import Daemon
from tests.scenarios.device import remote_url

RECIPIENT = email(0)
BYTES = 2_048
SESSIONS = 16
WARM_UP = 20
PATIENCE_SECONDS = 60.0

SECONDS = {1: 20, 20: 15, 100: 15, 500: 10}
"""Length of the load by mails a second."""

_ACCEPTED = re.compile(rb"250 2\.0\.0 accepted as ([0-9a-f]{32})")


class Delay(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float
    most: float


class Figures(msgspec.Struct, frozen=True):
    """One rate: mails sent, the rate that was reached, and milliseconds from `250` to offered and visible."""

    rate: int
    mails: int
    reached: float
    offered: Delay
    visible: Delay


class UnexpectedReply(Exception):
    """The node said something else than yes."""


class Session:
    """One SMTP connection that is used for many mails."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Session:
        """Connect and greet."""
        session = cls(*await asyncio.open_connection("127.0.0.1", port))
        await session._reply()
        await session._say(b"EHLO load.example\r\n")
        return session

    async def send(self, raw: bytes, recipient: str = RECIPIENT) -> tuple[str, int]:
        """Hand in a mail; return its id and the time (ns, monotonic) of its `250`."""
        for line in ("MAIL FROM:<load@load.example>", f"RCPT TO:<{recipient}>", "DATA"):
            await self._say(f"{line}\r\n".encode())
        reply = await self._say(raw + b".\r\n")
        at = time.monotonic_ns()
        found = _ACCEPTED.match(reply)
        if not found:
            raise UnexpectedReply(reply.decode("ascii", "replace"))
        return found[1].decode(), at

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()

    async def _say(self, line: bytes) -> bytes:
        self._writer.write(line)
        return await self._reply()

    async def _reply(self) -> bytes:
        """Read one reply to its last line. Raises UnexpectedReply for a refusal."""
        while True:
            line = await self._reader.readline()
            if line[3:4] != b"-":
                break
        if not line or line[0] not in b"23":
            raise UnexpectedReply(line.decode("ascii", "replace"))
        return line


class Watcher:
    """Notes when documents come. `seen` holds the time (ns, monotonic) by document id."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self._news = asyncio.Event()

    def note(self, name: str, at: int) -> None:
        """A document has come."""
        self.seen.setdefault(name, at)
        self._news.set()

    async def wait_for(self, names: set[str]) -> None:
        """Return when all these documents have come. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not names <= self.seen.keys():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def pouchdb(url: str) -> AsyncIterator[Watcher]:
    """A PouchDB in live replication, for the length of a block."""
    script = str(Path(__file__).with_suffix(".mjs"))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", script, url, stdin=pipe, stdout=pipe)
    watcher = Watcher()

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            name, at = line.split()
            watcher.note(name.decode(), int(at))

    task = asyncio.create_task(listen())
    try:
        yield watcher
    finally:
        task.cancel()
        process.kill()
        await process.wait()


@asynccontextmanager
async def feed(url: str) -> AsyncIterator[Watcher]:
    """The node's continuous feed, read for the length of a block."""
    watcher = Watcher()

    async def listen(response: ClientResponse) -> None:
        async for line in response.content:
            at = time.monotonic_ns()
            if line.strip():
                watcher.note(msgspec.json.decode(line)["id"], at)

    async with (
        ClientSession(timeout=ClientTimeout(total=None)) as client,
        client.get(f"{url}/_changes?feed=continuous&since=now&heartbeat=10000") as response,
    ):
        task = asyncio.create_task(listen(response))
        try:
            yield watcher
        finally:
            task.cancel()


def message(number: int) -> bytes:
    """A mail of about 2 KB."""
    head = f"From: load@load.example\r\nTo: {RECIPIENT}\r\nSubject: mail {number}\r\n\r\n".encode()
    return head + (b"x" * 70 + b"\r\n") * ((BYTES - len(head)) // 72)


async def send_on_time(sessions: list[Session], rate: int, count: int) -> dict[str, int]:
    """Send `count` mails at `rate` a second, each at its time; return the time of each `250` by mail id.

    A mail whose time has come while every session is busy waits: then `reached` tells.
    """
    free: asyncio.Queue[Session] = asyncio.Queue()
    for session in sessions:
        free.put_nowait(session)
    times: dict[str, int] = {}

    async def one(number: int) -> None:
        session = await free.get()
        mail, at = await session.send(message(number))
        times[mail] = at
        free.put_nowait(session)

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(began + number / rate - loop.time())
            group.create_task(one(number))
    return times


def delay(times: dict[str, int], watcher: Watcher) -> Delay:
    """Percentiles of the time from `250` (ns by document id) until the watcher saw the document."""
    taken = [(watcher.seen[name] - at) / 1e6 for name, at in times.items()]
    return Delay(percentile(taken, 50), percentile(taken, 99), max(taken))


async def take(daemon: Daemon, account: dict[str, Any], rates: dict[int, float]) -> list[Figures]:
    """Take all rates, one after the other, each for its seconds."""
    url, owner = remote_url(daemon, account), account["address"]
    sessions = [await Session.open(daemon.smtp_port) for _ in range(SESSIONS)]
    taken = []
    async with feed(url) as offered, pouchdb(url) as visible:
        for rate, seconds in [(20, 0.0), *rates.items()]:
            count = max(5, int(rate * seconds)) if seconds else WARM_UP
            mails = await send_on_time(sessions, rate, count)
            times = {document_id(mail, owner): at for mail, at in mails.items()}
            await asyncio.gather(offered.wait_for(set(times)), visible.wait_for(set(times)))
            took = (max(times.values()) - min(times.values())) / 1e9
            reached = (count - 1) / took
            taken.append(Figures(rate, count, reached, delay(times, offered), delay(times, visible)))
    for session in sessions:
        await session.close()
    return taken[1:]


def show(taken: list[Figures]) -> None:
    """Print the table."""
    print(f"{'':>24}{'offered, ms':>24}{'visible, ms':>24}")
    print(f"{'mails/s':>7}{'mails':>7}{'reached':>10}" + f"{'p50':>8}{'p99':>8}{'most':>8}" * 2)
    for one in taken:
        delays = [value for each in (one.offered, one.visible) for value in msgspec.structs.astuple(each)]
        text = "".join(f"{value:8.1f}" for value in delays)
        print(f"{one.rate:>7}{one.mails:>7,}{one.reached:>10.1f}{text}")


def measure(size: Size) -> list[Figures]:
    """Measure on a node of its own."""
    share = 1.0 if size is Size.FULL else 0.1
    rates = {100: 0.2} if size is Size.TINY else {rate: seconds * share for rate, seconds in SECONDS.items()}
    with node_with(ONE) as daemon:
        return asyncio.run(take(daemon.start(), credentials(0), rates))


if __name__ == "__main__":
    run("visible", measure, show)
