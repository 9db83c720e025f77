"""`mailio-node rebuild` of a node with a million events and 100,000 mailboxes.

`python -m benchmarks.rebuild [--size quick]`. The command as an operator gives it, on a terminal, no daemon
running: all three views are made again from the first event, compared with the live ones document by
document, and swapped in. Time is that of the whole command; memory is the most that all its processes had
resident at the same moment (pages they share are counted once). The terminal is read: time left must
have been shown. The making of the history (see `history`) is not part of the time.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from contextlib import suppress

import msgspec

from benchmarks.history import LARGE, Shape, node_with
from benchmarks.processes import peak_of
from benchmarks.results import Size, run
from tests.daemon import COMMAND, Daemon

_LEFT = re.compile(rb"\d:\d\d:\d\d")
_VIEW = re.compile(
    rb"(directory|userdb|statistics): (\d+) documents from (\d+) events\s+in ([\d.]+) s, ([^,]+), swapped in"
)


class Figures(msgspec.Struct, frozen=True):
    """Seconds of the command, MB at its peak, and seconds, documents and verdict by view."""

    events: int
    mailboxes: int
    seconds: float
    peak_mb: float
    time_left_shown: bool
    documents: int
    views: dict[str, tuple[float, int, str]]


def on_terminal(daemon: Daemon) -> tuple[bytes, float, float]:
    """Run the command on a terminal of its own; return what it showed, its seconds and MB."""
    ours, theirs = pty.openpty()
    began = time.perf_counter()
    command = [*COMMAND, "--config", str(daemon.file), "rebuild"]
    shown = b""
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        with peak_of(process.pid) as peak, suppress(OSError):  # the terminal ends with an error
            while part := os.read(ours, 65_536):
                shown += part
    os.close(ours)
    if process.returncode:
        raise RuntimeError(shown.decode(errors="replace"))
    return shown, time.perf_counter() - began, peak.together


def measure(size: Size) -> Figures:
    """Rebuild once."""
    shape = {Size.FULL: LARGE, Size.QUICK: Shape(50_000, 5_000), Size.TINY: Shape(2_000, 100)}[size]
    with node_with(shape) as daemon:
        shown, seconds, peak = on_terminal(daemon)
    views = {
        name.decode(): (float(took), int(documents), verdict.decode())
        for name, documents, _, took, verdict in _VIEW.findall(shown)
    }
    return Figures(
        events=shape.events,
        mailboxes=shape.mailboxes,
        seconds=seconds,
        peak_mb=peak,
        time_left_shown=_LEFT.search(shown) is not None,
        documents=sum(view[1] for view in views.values()),
        views=views,
    )


def show(figures: Figures) -> None:
    """Print it."""
    print(
        f"{figures.events:,} events, {figures.documents:,} documents: {figures.seconds:.1f} s, "
        f"{figures.peak_mb:.0f} MB, time left {'shown' if figures.time_left_shown else 'NOT SHOWN'}"
    )
    for name, (seconds, documents, verdict) in figures.views.items():
        print(f"  {name:<12}{seconds:8.1f} s{documents:12,} documents  {verdict}")


if __name__ == "__main__":
    run("rebuild", measure, show)
