"""What processes take of memory and processor, as the kernel counts it (Linux)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE_SECONDS = 0.5
"""Pause between looks. The kernel walks all pages: ten times a second took a tenth of a processor."""


def rss(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes); 0 when it has ended."""
    return _status(pid, "VmRSS:") * 1024 / 1e6


def proportional(pid: int) -> float:
    """Memory of a process in MB, a page that n processes share counted as an nth; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def threads(pid: int) -> int:
    """Number of threads of a process; 0 when it has ended."""
    return _status(pid, "Threads:")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken, its ended children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:
            continue
    return found


class Peak:
    """The most that was seen, in MB: all processes of a family together, shared pages counted once."""

    def __init__(self) -> None:
        self.together = 0.0


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Watch a process and its descendants during a block."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(PAUSE_SECONDS):
            peak.together = max(peak.together, sum(map(proportional, family(pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
