"""Group commit: what more sessions do to rate, latency, and syncs per mail.

`python -m benchmarks.commit_curve [--size quick]`. The daemon with its defaults, 2 KB mails to one
mailbox, as many sessions as each step says, each waiting for every reply. All steps take turns, median of
the rounds. A mail alone needs two syncs (its blob, then its event); mails that come together share them.
The kernel counts the syncs of the daemon's process, those of filing and of views included (see `syncs`).
"""

from __future__ import annotations

import msgspec

from benchmarks.accept import NODE_SETTINGS, load_of
from benchmarks.history import ONE, node_with
from benchmarks.results import Size, in_turns, middle, run
from benchmarks.syncs import syncs_of
from tests.daemon import Daemon

BYTES = 2_048

MAILS = {1: 500, 2: 800, 5: 1_500, 10: 2_000, 20: 3_000, 50: 4_000, 100: 4_000, 200: 4_000}
"""Mails of one round by sessions."""


class Step(msgspec.Struct, frozen=True):
    """One number of sessions: mails a second, ms from MAIL to the last 250, syncs per accepted mail.

    `accept_syncs` counts until the last 250, `syncs` until everything was filed and visible.
    """

    sessions: int
    rate: float
    p50: float
    p99: float
    accept_syncs: float | None
    syncs: float | None


def one_round(daemon: Daemon, sessions: int, mails: int) -> Step:
    """Send one load."""
    assert daemon.process is not None
    with syncs_of(daemon.process.pid) as all_:
        with syncs_of(daemon.process.pid) as accepting:
            result = load_of(daemon.smtp_port, sessions, mails, BYTES)
        daemon.wait_for(daemon.settled, "the mail is not filed", 300)
    return Step(
        sessions,
        result.rate,
        result.percentile(50) * 1e3,
        result.percentile(99) * 1e3,
        accepting.count / result.count if accepting.count is not None else None,
        all_.count / result.count if all_.count is not None else None,
    )


def median_of(rounds: list[Step]) -> Step:
    """Take the median of each figure."""
    known = [one.syncs for one in rounds if one.syncs is not None]
    accepting = [one.accept_syncs for one in rounds if one.accept_syncs is not None]
    return Step(
        rounds[0].sessions,
        middle([one.rate for one in rounds]),
        middle([one.p50 for one in rounds]),
        middle([one.p99 for one in rounds]),
        middle(accepting) if accepting else None,
        middle(known) if known else None,
    )


def measure(size: Size) -> list[Step]:
    """Take all steps."""
    steps = list(MAILS)[: size.of(len(MAILS), len(MAILS), 2)]
    taken: dict[int, list[Step]] = {sessions: [] for sessions in steps}
    with node_with(ONE, **NODE_SETTINGS) as daemon:
        daemon.start()
        load_of(daemon.smtp_port, 1, size.of(200, 50, 1), BYTES)
        for _, sessions in in_turns(steps, size.of(3, 1, 1)):
            mails = size.of(MAILS[sessions], max(sessions, MAILS[sessions] // 10), sessions)
            taken[sessions].append(one_round(daemon, sessions, mails))
    return [median_of(rounds) for rounds in taken.values()]


def show(steps: list[Step]) -> None:
    """Print a table."""
    print(
        f"{'sessions':>8}{'mails/s':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'syncs/mail until 250':>22}{'until filed':>13}"
    )
    for step in steps:
        syncs = "".join(
            f"{value:{width}.2f}" if value is not None else f"{'?':>{width}}"
            for value, width in ((step.accept_syncs, 22), (step.syncs, 13))
        )
        print(f"{step.sessions:>8}{step.rate:9,.0f}{step.p50:9.1f}{step.p99:9.1f}{syncs}")


if __name__ == "__main__":
    run("commit_curve", measure, show)
