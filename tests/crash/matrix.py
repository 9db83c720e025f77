"""The crash matrix (`make crash`): every failpoint at several hits, each on a node of its own that is looked at.

`make crash FAILPOINT=<name>[,<name>…] HIT=<n>` goes that one way: the node dies at one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.log import failpoints
from tests.crash.drill import AT_FIRST_START, AT_REBUILD, AT_STOP, IN_COMMAND, LARGE_MAIL, Drill

HITS = (1, 2, 7, 40)
ONCE = (*AT_FIRST_START, *IN_COMMAND, "log-opened", "segment-created", "segment-begun", "blobs-closed")
"""Reached once in the life of a process."""
RARE = (*AT_REBUILD, *LARGE_MAIL, "snapshot-taken")
"""Reached a few times under load."""


def cases() -> Iterator[tuple[str, int]]:
    """All failpoints at all hits that they come to, or what was asked for."""
    if wanted := os.environ.get("FAILPOINT"):
        yield wanted, int(os.environ.get("HIT") or 1)
        return
    stops = dict(AT_STOP)
    for name in failpoints.NAMES:
        most = 1 if name in ONCE else stops.get(name) or (2 if name in RARE else max(HITS))
        yield from ((name, hit) for hit in HITS if hit <= most)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("failpoint", "hit"), list(cases()))
def test_nothing_promised_is_lost(tmp_path: Path, failpoint: str, hit: int) -> None:
    drill = Drill(tmp_path)
    try:
        for name in failpoint.split(","):
            drill.strike(name, hit)
        drill.look()
        # Once more on what is there now: a recovery that was itself cut short.
        if failpoint not in AT_FIRST_START:
            drill.strike(failpoint.rpartition(",")[2], hit)
            drill.look()
    except BaseException as error:
        error.add_note(f"once more: make crash FAILPOINT={failpoint} HIT={hit}")
        raise
    finally:
        drill.daemon.end()
