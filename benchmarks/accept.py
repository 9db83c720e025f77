"""Durably accepted mails a second: this node, aiosmtpd that stores nothing, and Postfix into Maildirs.

`python -m benchmarks.accept [--rounds N] [--quick]`: all three run beside each other, the load comes from
another process, the order turns with every round, medians are printed and go to `results.json`. The node is
the whole daemon; after each of its rounds the time until everything was filed and visible is taken too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.postfix import delivered, postfix
from benchmarks.results import record
from benchmarks.smtp_load import LoadResult
from tests.daemon import running

RECIPIENT = "someone@alpha.example"
SENDER = "load@load.example"

MAILS = {
    (1, 2_048): 500,
    (10, 2_048): 2_000,
    (50, 2_048): 4_000,
    (1, 51_200): 300,
    (10, 51_200): 800,
    (50, 51_200): 1_500,
}
"""Mails of one round by (sessions, bytes): some seconds each."""


class Server(msgspec.Struct, frozen=True):
    """Where a server listens, and how to wait until it has finished its work (None: it has none)."""

    name: str
    port: int
    finished: Callable[[int], bool] | None


class Measured(msgspec.Struct, frozen=True):
    """One round: mails a second until the last 250, latencies in ms, mails a second until all was filed."""

    accepted: float
    p50: float
    p99: float
    filed: float | None


@contextmanager
def storing_nothing() -> Iterator[Server]:
    """Stock aiosmtpd on uvloop with a handler that only answers 250."""
    command = [sys.executable, "-m", "benchmarks.smtp_door", "aiosmtpd"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield Server("aiosmtpd, stores nothing", int(process.stdout.readline()), None)
        finally:
            process.kill()


@contextmanager
def the_node(folder: Path) -> Iterator[Server]:
    """The daemon with its defaults, but for limits that a load from one address would meet."""
    settings = {
        "node.quota_bytes": 10**12,
        "smtp.limits.connections_per_address": 1_000,
        "smtp.limits.mails": 1_000_000,
        "smtp.limits.commands": 1_000_000,
        "smtp.backlog": 10_000_000,
        "logging.level": "warning",
    }
    folder.mkdir()
    with running(folder, **settings) as daemon:
        daemon.account(RECIPIENT)
        yield Server("this node", daemon.smtp_port, lambda _: daemon.settled())


@contextmanager
def a_postfix(folder: Path) -> Iterator[Server]:
    """Debian's Postfix delivering into a Maildir."""
    with postfix(folder) as (port, maildir):
        before = [0]

        def finished(count: int) -> bool:
            done = delivered(maildir) >= before[0] + count
            before[0] += count if done else 0
            return done

        yield Server("Postfix into a Maildir", port, finished)


def one_round(server: Server, sessions: int, size: int, mails: int) -> Measured:
    """Send the load, and wait until the server has finished."""
    words = (server.port, sessions, mails // sessions, size, RECIPIENT, SENDER)
    command = [sys.executable, "-m", "benchmarks.smtp_load", "127.0.0.1", *map(str, words)]
    began = time.perf_counter()
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    start_up = time.perf_counter() - began
    result = msgspec.json.decode(answer, type=LoadResult)
    start_up -= result.seconds
    filed = None
    if server.finished:
        while not server.finished(result.count):
            time.sleep(0.02)
        filed = result.count / (time.perf_counter() - began - start_up)
    return Measured(result.rate, result.percentile(50) * 1e3, result.percentile(99) * 1e3, filed)


def middle(rounds: list[Measured]) -> Measured:
    """Take the median of each figure."""
    filed = [one.filed for one in rounds if one.filed is not None]
    return Measured(
        accepted=statistics.median(one.accepted for one in rounds),
        p50=statistics.median(one.p50 for one in rounds),
        p99=statistics.median(one.p99 for one in rounds),
        filed=statistics.median(filed) if filed else None,
    )


def show(sessions: int, size: int, figures: dict[str, Measured]) -> None:
    """Print one line a server."""
    for name, one in figures.items():
        filed = "" if one.filed is None else f"{one.filed:10,.0f}"
        print(
            f"{sessions:>4} {size:>7,} {name:<26}{one.accepted:10,.0f}{one.p50:9.1f}{one.p99:9.1f}{filed}",
            flush=True,
        )


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the mails")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    print(
        f"{'sess':>4} {'bytes':>7} {'server':<26}{'accepted/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'filed/s':>10}"
    )
    results = []
    with tempfile.TemporaryDirectory(prefix="accept-") as folder, ExitStack() as stack:
        servers = [
            stack.enter_context(the_node(Path(folder) / "node")),
            stack.enter_context(storing_nothing()),
            stack.enter_context(a_postfix(Path(folder) / "postfix")),
        ]
        for (sessions, size), mails in MAILS.items():
            count = max(sessions * 5, mails // 10) if options.quick else mails
            taken: dict[str, list[Measured]] = {server.name: [] for server in servers}
            for number in range(rounds):
                for server in servers[number % 3 :] + servers[: number % 3]:
                    taken[server.name].append(one_round(server, sessions, size, count))
            figures = {name: middle(rounds_) for name, rounds_ in taken.items()}
            show(sessions, size, figures)
            results.append({"sessions": sessions, "bytes": size, "servers": msgspec.to_builtins(figures)})
    if not options.quick:
        record("accept", results)


if __name__ == "__main__":
    main()
