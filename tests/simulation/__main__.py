"""Run seeds: `python -m tests.simulation [--seeds 1000] [--from 0] [--seed N]`, or `make simulate`.

Two at a time on two cores, each worker replaced after some seeds. One line for each seed that fails, with the
command that shows it again; the story of a single seed is told. Exit code 1 when any failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.workers import Result, results, simulate


def _one(seed: int, *, messages: bool) -> int:
    result = simulate(seed, messages=messages)
    print("\n".join((*result.story, *result.broken, f"the logs end with {result.fingerprint}")))
    print(f"seed {seed}: {'broken' if result.broken else 'all promises kept'}; {_figures([result])}")
    sys.stdout.flush()
    # Without the farewell of the interpreter, which would wake the dead.
    os._exit(1 if result.broken else 0)


def _figures(done: list[Result]) -> str:
    places = Counter(where for one in done for where in one.deaths)
    states = sum((Counter(one.states) for one in done), Counter())
    ended = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    return (
        f"{sum(one.messages for one in done):,} messages ({ended}), {sum(one.requests for one in done):,} "
        f"requests of which {sum(one.lost for one in done):,} had no answer, "
        f"{sum(places.values()):,} deaths in {len(places)} places"
    )


def _empty(done: list[Result]) -> bool:
    """Whether so little was delivered that kept promises mean nothing."""
    delivered = sum(one.states.get("delivered", 0) for one in done)
    return delivered < sum(one.messages for one in done) / 2


def _many(seeds: range, workers: int) -> int:
    began, done, failed = time.perf_counter(), [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for result in results(seeds, workers):
            done.append(result)
            progress.advance(task)
            if result.broken:
                failed += 1
                print(f"seed {result.seed}: {result.broken[-1]}; again: {result.again}", flush=True)
    seconds = time.perf_counter() - began
    print(f"{len(done)} seeds in {seconds:.0f} s, {failed} broken; {_figures(done)}")
    if _empty(done):
        print("broken: not even half of the messages were delivered: these stories prove nothing")
    return 1 if failed or _empty(done) else 0


def _require_fixed_hashes() -> None:
    """Begin anew where sets would be walked in another order each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, and tell its story")
    parser.add_argument("--messages", action="store_true", help="with --seed: what the nodes say, too")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    _require_fixed_hashes()
    if options.seed is not None:
        return _one(options.seed, messages=options.messages)
    return _many(range(options.first, options.first + options.seeds), options.workers)


if __name__ == "__main__":
    sys.exit(main())
