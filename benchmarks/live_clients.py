"""A thousand devices that wait for news: what they cost, and how soon they have it.

`python -m benchmarks.live_clients [--size quick]`. A daemon with 1,000 mailboxes; one continuous
`_changes` feed for each, with PouchDB's heartbeat of ten seconds, held by one process on the same
machine. First one feed is open, then all of them. Memory is what the daemon has resident more than
before, by feed; idle processor time is taken while nothing happens but heartbeats. Then mails of 2 KB
come at a steady rate to the mailboxes that are listened to, and the time from each `250` until its line
has come is taken (one clock).
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from actors.mailbox import document_id
from benchmarks.accept import NODE_SETTINGS
from benchmarks.history import Shape, address, credentials, email, node_with
from benchmarks.processes import cpu_seconds, rss
from benchmarks.results import Size, run
from benchmarks.visible import SESSIONS, Delay, Session, Watcher, delay, message
from tests.daemon import Daemon
from tests.scenarios.device import remote_url

CLIENTS = 1_000
RATE = 100
"""Mails a second."""

LOGINS = 20
"""Clients that connect at the same time."""


class Figures(msgspec.Struct, frozen=True):
    """`cpu_idle` in percent of one processor; `delivery` in ms from 250 to the line."""

    clients: int
    kb_each: float
    cpu_idle: float
    mails: int
    reached: float
    delivery: Delay


class Clients:
    """Feeds of the first mailboxes; each notes what comes."""

    def __init__(self, daemon: Daemon, session: ClientSession) -> None:
        self._daemon = daemon
        self._session = session
        self._tasks: list[asyncio.Task[None]] = []
        self.watcher = Watcher()

    async def open(self, count: int) -> None:
        """Have this many feeds open."""
        places = asyncio.Semaphore(LOGINS)
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._tasks), count):
                group.create_task(self._open(number, places))

    async def _open(self, number: int, places: asyncio.Semaphore) -> None:
        database = remote_url(self._daemon, credentials(number))
        url = f"{database}/_changes?feed=continuous&since=now&heartbeat=10000"
        open_ = asyncio.get_running_loop().create_future()

        async def listen() -> None:
            async with self._session.get(url) as response:
                response.raise_for_status()
                open_.set_result(None)
                async for line in response.content:
                    at = time.monotonic_ns()
                    if line.strip():
                        self.watcher.note(msgspec.json.decode(line)["id"], at)

        async with places:
            self._tasks.append(asyncio.create_task(listen()))
            await open_

    async def close(self) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def send_on_time(daemon: Daemon, clients: int, count: int) -> dict[str, int]:
    """Send mails to the listened mailboxes in turn; return the time of each 250 by document id."""
    sessions = [await Session.open(daemon.smtp_port) for _ in range(SESSIONS)]
    free: asyncio.Queue[Session] = asyncio.Queue()
    for session in sessions:
        free.put_nowait(session)
    times: dict[str, int] = {}

    async def one(number: int) -> None:
        session = await free.get()
        owner = number * 7 % clients
        mail, at = await session.send(message(number), email(owner))
        times[document_id(mail, address(owner))] = at
        free.put_nowait(session)

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(began + number / RATE - loop.time())
            group.create_task(one(number))
    for session in sessions:
        await session.close()
    return times


async def take(daemon: Daemon, feeds: Clients, clients: int, seconds: float) -> Figures:
    """Measure with this many feeds."""
    assert daemon.process is not None
    pid = daemon.process.pid
    before = rss(pid)
    await feeds.open(clients)
    grown = rss(pid) - before
    used = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    idle = 100 * (cpu_seconds(pid) - used) / seconds
    count = max(5, int(RATE * seconds))
    times = await send_on_time(daemon, clients, count)
    await feeds.watcher.wait_for(set(times))
    took = (max(times.values()) - min(times.values())) / 1e9
    return Figures(
        clients, 1e3 * grown / clients, idle, count, (count - 1) / took, delay(times, feeds.watcher)
    )


@asynccontextmanager
async def clients_of(daemon: Daemon) -> AsyncIterator[Clients]:
    """Be able to open feeds, for the length of a block."""
    async with AsyncExitStack() as stack:
        session = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None))
        await stack.enter_async_context(session)
        clients = Clients(daemon, session)
        stack.push_async_callback(clients.close)
        yield clients


async def compare(daemon: Daemon, steps: tuple[int, ...], seconds: float) -> list[Figures]:
    """Take all numbers of clients, one after the other."""
    async with clients_of(daemon) as clients:
        warm_up = await send_on_time(daemon, 1, 5)
        assert warm_up
        return [await take(daemon, clients, count, seconds) for count in steps]


def measure(size: Size) -> list[Figures]:
    """Measure on a node of its own."""
    clients = size.of(CLIENTS, 200, 10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_000), hard))
    seconds = {Size.FULL: 15.0, Size.QUICK: 2.0, Size.TINY: 0.2}[size]
    with node_with(Shape(2 * CLIENTS, CLIENTS), **NODE_SETTINGS) as daemon:
        daemon.start()
        return uvloop.run(compare(daemon, (1, clients), seconds))


def show(taken: list[Figures]) -> None:
    """Print a table."""
    print(f"{'feeds':>6}{'KB each':>9}{'idle CPU %':>12}{'mails/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'most':>8}")
    for one in taken:
        print(
            f"{one.clients:>6,}{one.kb_each:9.1f}{one.cpu_idle:12.1f}{one.reached:9.1f}{one.delivery.p50:8.1f}"
            f"{one.delivery.p99:8.1f}{one.delivery.most:8.1f}"
        )


if __name__ == "__main__":
    run("live_clients", measure, show)
