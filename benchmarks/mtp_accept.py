"""Verified and durable messages of another node a second, on one core.

`python -m benchmarks.mtp_accept [--size quick]`. The node is the whole daemon with its defaults, which is one
process and, but for syncs, one thread. One peer, whose key a small DNS server knows, sends signed messages to
one mailbox, from another process, over connections that are kept. Each message is another one, so each is
verified, compared with what was signed, looked for in the log, stored, and answered with a signed receipt.
The peer itself takes nothing: the notifications that are promised to it wait behind a closed port, so that
what is measured is taking and filing. Medians of the rounds.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from benchmarks.history import ONE, address, node_with
from benchmarks.mtp_door import door
from benchmarks.mtp_load import PEER, zone
from benchmarks.processes import cpu_seconds
from benchmarks.results import Size, middle, run
from benchmarks.smtp_load import LoadResult
from tests.daemon import Daemon
from tests.servers.dns import dns_server

HOST = "mio.alpha.example"

MESSAGES = {(50, 2_048): 2_000, (10, 2_048): 1_000, (1, 2_048): 200, (50, 51_200): 400}
"""Messages of one round by (connections, bytes of ciphertext)."""

ROUNDS = 3

NODE_SETTINGS = {
    "node.server_domain": HOST,
    "node.quota_bytes": 10**12,
    "smtp.backlog": 10_000_000,
    "mtp.requests_per_second": 1e6,
    "mtp.request_burst": 1_000_000,
    "mtp.requests_at_once": 1_000,
    "mtp.address_requests_per_second": 1e6,
    "mtp.address_request_burst": 1_000_000,
    "mtp.address_requests_at_once": 1_000,
    "discovery.loopback": True,
    "discovery.hosts": [f"{PEER}=127.0.0.1:1"],
    "delivery.breaker_seconds": 3_600.0,
    "logging.level": "warning",
}
"""Defaults, but for limits that a load from one peer would meet, and where that peer is not."""


class Row(msgspec.Struct, frozen=True):
    """One load: messages a second until the last receipt, latencies in ms, and until all are visible.

    `bare` is what the door takes a second that stores nothing. `cpu_ms` is the daemon's processor time for
    each message until the last receipt, filing included as far as it went on meanwhile.
    """

    sessions: int
    bytes: int
    accepted: float
    p50: float
    p99: float
    cpu_ms: float
    filed: float
    bare: float


@contextmanager
def dns(text: str) -> Iterator[str]:
    """Serve a zone from a thread of its own; give its address."""
    ready, over = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with dns_server(text) as server:
            found.append(server.address)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


def load(port: int, sessions: int, size: int, messages: int) -> LoadResult:
    """Send a load to whoever listens there."""
    words = (port, sessions, messages, size, HOST, address(0))
    command = [sys.executable, "-m", "benchmarks.mtp_load", *map(str, words)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    return msgspec.json.decode(answer, type=LoadResult)


def one_round(daemon: Daemon, sessions: int, size: int, messages: int) -> Row:
    """Send the load to the bare door and to the node, and wait until all is filed."""
    assert daemon.process is not None
    with door() as port:
        bare = load(port, sessions, size, messages)
    cpu = cpu_seconds(daemon.process.pid)
    result = load(daemon.http_port, sessions, size, messages)
    ended, cpu = time.perf_counter(), cpu_seconds(daemon.process.pid) - cpu
    while not daemon.settled():
        time.sleep(0.02)
    seconds = result.seconds + time.perf_counter() - ended
    return Row(
        sessions=sessions,
        bytes=size,
        accepted=result.rate,
        p50=result.percentile(50) * 1e3,
        p99=result.percentile(99) * 1e3,
        cpu_ms=cpu / result.count * 1e3,
        filed=result.count / seconds,
        bare=bare.rate,
    )


def median_of(rounds: list[Row]) -> Row:
    """Take the median of each figure."""
    names = ("accepted", "p50", "p99", "cpu_ms", "filed", "bare")
    figures = {name: middle([getattr(one, name) for one in rounds]) for name in names}
    return msgspec.structs.replace(rounds[0], **figures)


def measure(size: Size) -> list[Row]:
    """Measure everything."""
    settings: dict[str, object] = dict(NODE_SETTINGS)
    with dns(zone()) as resolver, node_with(ONE, **settings, **{"discovery.resolvers": [resolver]}) as daemon:
        daemon.start()
        loads = list(MESSAGES.items())[: size.of(len(MESSAGES), 2, 1)]
        return [
            median_of(
                [
                    one_round(daemon, sessions, each, size.of(messages, messages // 4, sessions))
                    for _ in range(size.of(ROUNDS, 1, 1))
                ]
            )
            for (sessions, each), messages in loads
        ]


def show(rows: list[Row]) -> None:
    """Print a table."""
    head = ("accepted/s", 12), ("p50 ms", 9), ("p99 ms", 9), ("cpu ms", 9), ("filed/s", 10), ("bare/s", 9)
    print(f"conn {'bytes':>7}" + "".join(f"{name:>{width}}" for name, width in head))
    for row in rows:
        print(
            f"{row.sessions:>4} {row.bytes:>7,}{row.accepted:12,.0f}{row.p50:9.1f}{row.p99:9.1f}"
            f"{row.cpu_ms:9.2f}{row.filed:10,.0f}{row.bare:9,.0f}"
        )


if __name__ == "__main__":
    run("mtp_accept", measure, show)
