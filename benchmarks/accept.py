"""Durably accepted mails a second, beside others in the same run.

`python -m benchmarks.accept [--size quick]`. The node is the whole daemon with its defaults. Beside it stand:
stock aiosmtpd, and the node's own door, both answering 250 and storing nothing; Postfix that accepts into
its queue (synced) and delivers nothing; Postfix that delivers into a Maildir. The load comes from another
process, without pipelining, all to one mailbox; the order turns with every round; medians of the rounds.
After each of its rounds the time until everything was filed (visible in the mailbox, or in the Maildir) is
taken too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.history import ONE, email, node_with
from benchmarks.postfix import delivered, postfix
from benchmarks.results import Size, in_turns, middle, run
from benchmarks.smtp_load import LoadResult

RECIPIENT = email(0)
SENDER = "load@load.example"

NODE = "this node"
AIOSMTPD = "aiosmtpd, stores nothing"
DOOR = "the node's door, stores nothing"
HOLDING = "Postfix, into its queue"
MAILDIR = "Postfix, into a Maildir"

MAILS = {
    (50, 2_048): 4_000,
    (10, 2_048): 2_000,
    (1, 2_048): 500,
    (50, 51_200): 1_000,
    (10, 51_200): 500,
    (1, 51_200): 200,
}
"""Mails of one round by (sessions, bytes): a second or two each."""

NODE_SETTINGS = {
    "node.quota_bytes": 10**12,
    "smtp.limits.connections_per_address": 1_000,
    "smtp.limits.mails": 1_000_000,
    "smtp.limits.commands": 1_000_000,
    "smtp.backlog": 10_000_000,
    "logging.level": "warning",
}
"""Defaults, but for limits that a load from one address would meet."""


class Server(msgspec.Struct, frozen=True):
    """Where a server listens, and how to wait until it has finished its work (None: it has none)."""

    name: str
    port: int
    finished: Callable[[int], bool] | None = None


class Measured(msgspec.Struct, frozen=True):
    """One round: mails a second until the last 250, latencies in ms, mails a second until all was filed."""

    accepted: float
    p50: float
    p99: float
    filed: float | None


class Row(msgspec.Struct, frozen=True):
    """All servers under one load; `ratios` say how many times as many mails the node accepted."""

    sessions: int
    bytes: int
    servers: dict[str, Measured]
    ratios: dict[str, float]


@contextmanager
def storing_nothing(name: str, kind: str) -> Iterator[Server]:
    """Run a door on uvloop that only answers 250; `kind` as in `smtp_door`."""
    command = [sys.executable, "-m", "benchmarks.smtp_door", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield Server(name, int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def the_node() -> Iterator[Server]:
    """Run the daemon."""
    with node_with(ONE, **NODE_SETTINGS) as daemon:
        daemon.start()
        yield Server(NODE, daemon.smtp_port, lambda _: daemon.settled())


@contextmanager
def two_postfixes(folder: Path) -> Iterator[list[Server]]:
    """Run Debian's Postfix with two ports: one holds what it accepts in its queue, one delivers it."""
    with postfix(folder) as (port, holding, maildir):
        before = [0]

        def finished(count: int) -> bool:
            done = delivered(maildir) >= before[0] + count
            before[0] += count if done else 0
            return done

        yield [Server(HOLDING, holding), Server(MAILDIR, port, finished)]


def load_of(port: int, sessions: int, mails: int, size: int, recipient: str = RECIPIENT) -> LoadResult:
    """Send a load from a process of its own."""
    words = (port, sessions, mails // sessions, size, recipient, SENDER)
    command = [sys.executable, "-m", "benchmarks.smtp_load", "127.0.0.1", *map(str, words)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    return msgspec.json.decode(answer, type=LoadResult)


def one_round(server: Server, sessions: int, size: int, mails: int) -> Measured:
    """Send the load, and wait until the server has finished."""
    began = time.perf_counter()
    result = load_of(server.port, sessions, mails, size)
    start_up = time.perf_counter() - began - result.seconds
    filed = None
    if server.finished:
        while not server.finished(result.count):
            time.sleep(0.02)
        filed = result.count / (time.perf_counter() - began - start_up)
    return Measured(result.rate, result.percentile(50) * 1e3, result.percentile(99) * 1e3, filed)


def median_of(rounds: list[Measured]) -> Measured:
    """Take the median of each figure."""
    filed = [one.filed for one in rounds if one.filed is not None]
    return Measured(
        accepted=middle([one.accepted for one in rounds]),
        p50=middle([one.p50 for one in rounds]),
        p99=middle([one.p99 for one in rounds]),
        filed=middle(filed) if filed else None,
    )


def compared(servers: list[Server], sessions: int, size: int, mails: int, rounds: int) -> Row:
    """Measure all servers in turns under one load."""
    taken: dict[str, list[Measured]] = {server.name: [] for server in servers}
    for _, server in in_turns(servers, rounds):
        taken[server.name].append(one_round(server, sessions, size, mails))
    figures = {name: median_of(rounds_) for name, rounds_ in taken.items()}
    ratios = {name: figures[NODE].accepted / one.accepted for name, one in figures.items() if name != NODE}
    return Row(sessions, size, figures, ratios)


def measure(size: Size) -> list[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory(prefix="accept-") as folder, ExitStack() as stack:
        servers = [
            stack.enter_context(the_node()),
            stack.enter_context(storing_nothing(AIOSMTPD, "aiosmtpd")),
            stack.enter_context(storing_nothing(DOOR, "door")),
            *stack.enter_context(two_postfixes(Path(folder))),
        ]
        loads = list(MAILS.items())[: size.of(len(MAILS), 2, 1)]
        return [
            compared(servers, sessions, each, _mails(size, sessions, mails), size.of(5, 1, 1))
            for (sessions, each), mails in loads
        ]


def _mails(size: Size, sessions: int, mails: int) -> int:
    return size.of(mails, max(sessions * 5, mails // 4), sessions)


def show(rows: list[Row]) -> None:
    """Print a table."""
    print(
        f"{'sess':>4} {'bytes':>7} {'server':<32}{'accepted/s':>10}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'filed/s':>10}{'node/it':>9}"
    )
    for row in rows:
        for name in sorted(row.servers, key=lambda name: (name != NODE, name)):
            one = row.servers[name]
            filed = f"{one.filed:10,.0f}" if one.filed else " " * 10
            ratio = f"{row.ratios[name]:9.2f}" if name in row.ratios else ""
            print(
                f"{row.sessions:>4} {row.bytes:>7,} {name:<32}{one.accepted:10,.0f}{one.p50:9.1f}"
                f"{one.p99:9.1f}{filed}{ratio}"
            )


if __name__ == "__main__":
    run("accept", measure, show)
