"""Mail for 100,000 mailboxes, beside mail for 100, by Zipf's law.

`python -m benchmarks.mailboxes [--size quick]`. Two daemons with their defaults take turns: one with the
large history (see `history`), one with 100 mailboxes and nothing in them. Ten sessions, 2 KB; who gets a
mail follows Zipf's law over all mailboxes of the node, another draw each round, the same for both numbers
of mailboxes in every run. Latency is from MAIL FROM to the last 250; medians of the rounds. Memory and
threads are those of the large node before the first and after each round.
"""

from __future__ import annotations

import msgspec

from benchmarks.accept import NODE_SETTINGS, load_of
from benchmarks.history import LARGE, Shape, node_with
from benchmarks.processes import rss, threads
from benchmarks.results import Size, in_turns, middle, run
from tests.daemon import Daemon

BYTES = 2_048
SESSIONS = 10
FEW = 100


class Side(msgspec.Struct, frozen=True):
    """One node: mails a second, and ms."""

    mailboxes: int
    accepted: float
    p50: float
    p99: float


class Figures(msgspec.Struct, frozen=True):
    """`p99_ratio`: many mailboxes to few. `mb`, `threads`, `actors`: the large node's, round by round."""

    few: Side
    many: Side
    p99_ratio: float
    mails: int
    mb: list[float]
    threads: list[int]
    actors: list[int]


class Node:
    """A running node and what was measured on it."""

    def __init__(self, daemon: Daemon, mailboxes: int) -> None:
        self.daemon = daemon.start()
        self.mailboxes = mailboxes
        self.rounds: list[Side] = []
        self.mb: list[float] = []
        self.threads: list[int] = []
        self.actors: list[int] = []
        self.look()

    def look(self) -> None:
        """Note memory, threads and actors."""
        assert self.daemon.process is not None
        self.mb.append(rss(self.daemon.process.pid))
        self.threads.append(threads(self.daemon.process.pid))
        self.actors.append(self.daemon.ask("status")["actors"])

    def take(self, mails: int, seed: int) -> None:
        """Send one round and wait until it is filed."""
        recipients = f"zipf:{self.mailboxes}:{seed}"
        result = load_of(self.daemon.smtp_port, SESSIONS, mails, BYTES, recipients)
        self.daemon.wait_for(self.daemon.settled, "the mail is not filed", 120)
        p50, p99 = result.percentile(50) * 1e3, result.percentile(99) * 1e3
        self.rounds.append(Side(self.mailboxes, result.rate, p50, p99))
        self.look()

    def median(self) -> Side:
        """Take the median of each figure."""
        columns = zip(*(msgspec.structs.astuple(one)[1:] for one in self.rounds), strict=True)
        return Side(self.mailboxes, *map(middle, columns))


def measure(size: Size) -> Figures:
    """Measure both nodes in turns."""
    large = {Size.FULL: LARGE, Size.QUICK: Shape(50_000, 5_000), Size.TINY: Shape(2_000, 100)}[size]
    mails, rounds = size.of(3_000, 500, 20), size.of(7, 3, 1)
    with (
        node_with(large, **NODE_SETTINGS) as one,
        node_with(Shape(2 * FEW, FEW), **NODE_SETTINGS) as other,
    ):
        many, few = Node(one, large.mailboxes), Node(other, FEW)
        for number, node in in_turns([many, few], rounds):
            node.take(mails, seed=number)
    ratio = many.median().p99 / few.median().p99
    return Figures(few.median(), many.median(), ratio, mails * rounds, many.mb, many.threads, many.actors)


def show(figures: Figures) -> None:
    """Print a table."""
    print(f"{'mailboxes':>9}{'accepted/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for one in (figures.few, figures.many):
        print(f"{one.mailboxes:9,}{one.accepted:12,.0f}{one.p50:9.1f}{one.p99:9.1f}")
    print(f"p99 {figures.p99_ratio:.2f} times that of few mailboxes; {figures.mails:,} mails")
    print("MB     ", *(f"{value:.0f}" for value in figures.mb))
    print("threads", *figures.threads)
    print("actors ", *figures.actors)


if __name__ == "__main__":
    run("mailboxes", measure, show)
