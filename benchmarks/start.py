"""Start-up and idle memory: a million events and 100,000 mailboxes, beside an empty node.

`python -m benchmarks.start [--size quick]`. From the start of the process until the `250` of a mail that was
sent as soon as the door answered: after a clean stop, and after `kill -9` with mail under way. Memory is what
the process has resident five seconds later. Both nodes take turns; medians. The file cache of the operating
system is warm; `cold` is one start of the large node after its files were dropped from it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from benchmarks.history import LARGE, Shape, email, node_with
from benchmarks.processes import rss, threads
from benchmarks.results import Size, in_turns, middle, run
from tests.daemon import Daemon

QUIET_SECONDS = 5.0
MESSAGE = b"From: load@load.example\r\nSubject: the first\r\n\r\nhello\r\n"


class Start(msgspec.Struct, frozen=True):
    """Seconds to the first 250 after a clean stop and after a kill, MB when idle, threads."""

    clean: float
    killed: float
    idle_mb: float
    threads: float


class Figures(msgspec.Struct, frozen=True):
    """Both nodes; `cold` in seconds."""

    large: Start
    empty: Start
    cold: float


def seconds_to_250(daemon: Daemon, number: int) -> float:
    """Start and send."""
    began = time.perf_counter()
    daemon.start()
    daemon.send(MESSAGE, email(number))
    return time.perf_counter() - began


def one_round(daemon: Daemon, number: int, quiet: float) -> Start:
    """Start after a clean stop, look at the memory, kill, start again, stop."""
    clean = seconds_to_250(daemon, number)
    assert daemon.process is not None
    time.sleep(quiet)
    idle, running = rss(daemon.process.pid), threads(daemon.process.pid)
    daemon.send(MESSAGE, email(number + 1))
    daemon.kill()
    killed = seconds_to_250(daemon, number + 2)
    daemon.stop()
    return Start(clean, killed, idle, running)


def drop_cached(folder: Path) -> None:
    """Ask the kernel to forget what it has cached of a folder's files."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def median_of(rounds: list[Start]) -> Start:
    """Take the median of each figure."""
    columns = zip(*(msgspec.structs.astuple(one) for one in rounds), strict=True)
    return Start(*map(middle, columns))


def measure(size: Size) -> Figures:
    """Measure both nodes in turns."""
    large = {Size.FULL: LARGE, Size.QUICK: Shape(50_000, 5_000), Size.TINY: Shape(2_000, 100)}[size]
    quiet = QUIET_SECONDS if size is Size.FULL else 0.5
    with node_with(large) as one, node_with(Shape(200, 100)) as other:
        taken: dict[bool, list[Start]] = {True: [], False: []}
        for number, is_large in in_turns([True, False], size.of(5, 2, 1)):
            daemon = one if is_large else other
            taken[is_large].append(one_round(daemon, number * 3, quiet))
        drop_cached(one.data)
        cold = seconds_to_250(one, 50) if size is not Size.TINY else 0.0
    return Figures(median_of(taken[True]), median_of(taken[False]), cold)


def show(figures: Figures) -> None:
    """Print a table."""
    print(f"{'node':<8}{'start, s':>10}{'after kill, s':>15}{'idle, MB':>10}{'threads':>9}")
    for name, one in (("large", figures.large), ("empty", figures.empty)):
        print(f"{name:<8}{one.clean:10.2f}{one.killed:15.2f}{one.idle_mb:10.0f}{one.threads:9.0f}")
    print(f"large, files not in the cache: {figures.cold:.2f} s")


if __name__ == "__main__":
    run("start", measure, show)
