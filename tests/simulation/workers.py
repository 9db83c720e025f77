"""Processes that do nothing but simulate: in them the nodes die at failpoints too."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from multiprocessing import get_context

from tests.simulation import failpoints

failpoints.install()

# The dead are never collected; looking for them again and again is all that the collector would do here.
gc.disable()

from tests.simulation.run import Result, simulate  # noqa: E402 - decorated by what was installed

__all__ = ["Result", "results", "simulate"]

SEEDS_PER_WORKER = 25
"""The dead of a simulation stay in memory (`loop`), a few MB each: so workers are replaced."""


def results(seeds: range, workers: int) -> Iterator[Result]:
    """Run seeds in processes, in their order."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # Not an executor of `concurrent.futures`: in Python 3.11 it may wait for ever for a replaced worker.
    with context.Pool(workers, maxtasksperchild=SEEDS_PER_WORKER) as pool:
        yield from pool.imap(simulate, seeds)
