"""Everything, one measure after the other: `python -m benchmarks [--size quick] [NAME…]`, or `make bench`.

Each measure runs in a process of its own. At full size the figures go to `results.json`, then the plots
and the tables of the README are made from them. One that fails is reported in the end, and its old
figures stay.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.results import Size

MEASURES = (
    "replay",
    "blobs",
    "actors",
    "materialise",
    "smtp_door",
    "accept",
    "commit_curve",
    "mtp_accept",
    "visible",
    "first_sync",
    "live_clients",
    "rebuild",
    "start",
    "mailboxes",
    "federation",
)
"""In the order in which they run: the first ones want the machine at its calmest."""

LIMIT_SECONDS = 900
"""A measure that takes longer has met something that is no measurement any more."""


def run_one(name: str, size: Size) -> bool:
    """Run a measure; tell whether it ended well."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--size", size]
    try:
        return subprocess.run(command, check=False, timeout=LIMIT_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{name}: not done after {LIMIT_SECONDS} s", file=sys.stderr)
        return False


def main() -> int:
    """Run all measures, or those that are named; 1 when one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", choices=[[], *MEASURES], help="measures; none: all")
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.FULL)
    options = parser.parse_args()
    began = time.perf_counter()
    failed = [name for name in options.name or MEASURES if not run_one(name, options.size)]
    if options.size is Size.FULL:
        from benchmarks import plots, tables

        plots.main()
        tables.main()
    print(f"all: {time.perf_counter() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
