"""One seed: the story, its judgement, and what to read when it fails."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
import traceback
from pathlib import Path

import msgspec

from tests.messages import messages_from
from tests.simulation.entropy import drawn, seeded
from tests.simulation.judging import broken
from tests.simulation.loop import SimulatedLoop
from tests.simulation.node import Draw
from tests.simulation.story import Size, Story

MEMORY = Path("/dev/shm")
"""Where files cost no disk, if there is such a place: a simulated death loses nothing that was written."""


class Result(msgspec.Struct, frozen=True):
    """What became of one seed. `broken` is empty when all promises were kept; `story` is told line by line.

    `deaths` are the places where nodes died, `states` counts what the senders saw in the end.
    """

    seed: int
    broken: tuple[str, ...]
    story: tuple[str, ...]
    seconds: float
    messages: int
    requests: int
    lost: int
    deaths: tuple[str, ...]
    states: dict[str, int]
    fingerprint: str

    @property
    def again(self) -> str:
        """The command that shows it again."""
        return f"make simulate SEED={self.seed}"


def simulate(seed: int, size: Size | None = None, *, messages: bool = False) -> Result:
    """Run one seed; with `messages` the nodes' own messages are shown."""
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        draw = drawn(seed)
        with seeded(draw("entropy")), messages_from(logging.INFO if messages else logging.CRITICAL):
            return _told(seed, size or Size(), draw, folder, began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(seed: int, size: Size, draw: Draw, folder: Path, began: float) -> Result:
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    story = Story(folder, size, draw, loop)
    try:
        problems = loop.run_until_complete(_whole(story))
    except Exception:  # noqa: BLE001 - a story that can't be told is a finding, with all that is known of it
        problems = traceback.format_exc().splitlines()
    return Result(
        seed=seed,
        broken=tuple(problems),
        story=tuple(story.log),
        seconds=round(time.perf_counter() - began, 3),
        messages=sum(len(person.sent) for person in story.people),
        requests=story.network.requests,
        lost=story.network.lost,
        deaths=tuple(story.deaths),
        states=story.states,
        fingerprint=story.fingerprint,
    )


async def _whole(story: Story) -> list[str]:
    try:
        await story.tell()
        return await broken(story)
    finally:
        for node in story.nodes:
            node.die()
