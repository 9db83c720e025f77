"""How every benchmark is run and kept: its size, its figures, the machine, and how busy that was."""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

FILE = Path(__file__).parent / "results.json"

Figures = TypeVar("Figures")
Named = TypeVar("Named")


class Size(StrEnum):
    """How much is measured."""

    FULL = "full"
    """What is recorded."""
    QUICK = "quick"
    """Some seconds, to see that all is well; nothing is recorded."""
    TINY = "tiny"
    """Just enough to run every line: for the test."""

    def of(self, full: int, quick: int, tiny: int) -> int:
        """Pick a number by size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self]


def in_turns(items: Sequence[Named], rounds: int) -> Iterator[tuple[int, Named]]:
    """Give (round, item): everything once a round, beginning with another one each time."""
    for number in range(rounds):
        first = number % len(items)
        for item in [*items[first:], *items[:first]]:
            yield number, item


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values stay below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def middle(values: Sequence[float]) -> float:
    """Return the median, nan of nothing."""
    return statistics.median(values) if values else float("nan")


def run(name: str, measure: Callable[[Size], Figures], show: Callable[[Figures], None]) -> None:
    """Be the command of a benchmark: measure, print, and at full size record."""
    caller = inspect.getmodule(measure)
    parser = argparse.ArgumentParser(
        description=caller.__doc__ if caller else None, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.FULL)
    size = parser.parse_args().size
    load, began = os.getloadavg()[0], time.perf_counter()
    figures = measure(size)
    seconds = time.perf_counter() - began
    busy = [round(load, 1), round(os.getloadavg()[0], 1)]
    show(figures)
    print(f"[{name}: {seconds:.0f} s, load average {busy[0]} before, {busy[1]} after]", flush=True)
    if size is Size.FULL:
        record(name, msgspec.to_builtins(figures), busy, seconds)


def record(name: str, figures: Any, load: Sequence[float], seconds: float) -> None:
    """Put a benchmark's figures in the place of its earlier ones."""
    known = recorded()
    known[name] = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "load": list(load),
        "seconds": round(seconds),
        "figures": _rounded(figures),
    }
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(known, order="sorted"), indent=2) + b"\n")


def recorded() -> dict[str, Any]:
    """Return the last figures of every benchmark, by name."""
    known: dict[str, Any] = msgspec.json.decode(FILE.read_bytes()) if FILE.exists() else {}
    return known


def _rounded(value: Any) -> Any:
    """Keep four digits: more would be noise, and noise in every commit."""
    match value:
        case dict():
            return {str(key): _rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
        case float():
            return float(f"{value:.4g}")
        case _:
            return value
