"""The log alone when the power goes, through many moves of its write-ahead file into the database."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.event import Event
from events.log.clock import SystemClock
from events.log.sqlite_log import SqliteLog
from tests.crash.disk import Calls, Faults, Image, Loss, Step, built, story

EVENTS = 150
CUTS = 400 if os.environ.get("THOROUGH") else 40
_ACKNOWLEDGED = re.compile(rb"position (\d+)\.")

WRITER = f"""
import asyncio, socket, sys
from pathlib import Path
from events.errors import Misconfigured, StorageUnavailable
from events.log import sqlite
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from tests.crash.test_log_power_loss import Told
sqlite.CHECKPOINT_PAGES = 12

async def main():
    from events.log.sqlite_log import SqliteLog
    log = None
    while log is None:
        try:
            log = SqliteLog.open(Path(sys.argv[1]) / "log.sqlite", SystemClock(), "test")
        except Misconfigured:
            pass
    ours, _theirs = socket.socketpair()
    for number in range({EVENTS}):
        write = Write(f"tale-{{number % 9}}", (Told(text="x" * (number * 37 % 6000)),))
        try:
            (record,) = await log.append(write, origin=Origin(actor="test"))
        except StorageUnavailable:
            continue
        ours.send(f"position {{record.position}}.".encode())

asyncio.run(main())
"""


class Told(Event, frozen=True):
    """An event of this suite only."""

    text: str


def recorded(folder: Path, *, failing: int) -> tuple[list[Step], int]:
    """Run the writer; return its story, and how many syncs failed: one in every `failing`, none for 0."""
    data = folder / "data"
    data.mkdir()
    faults = Faults(folder / "faults")
    environment = os.environ | {
        "LD_PRELOAD": str(built(folder)),
        "DISK_ROOT": str(data),
        "DISK_TRACE": str(folder / "trace"),
        "DISK_CONTROL": str(faults.path),
    }
    with subprocess.Popen([sys.executable, "-c", WRITER, str(data)], env=environment) as writer:
        failed = 0
        while failing and writer.poll() is None:
            faults.arm(Calls.SYNC, failing, errno.EIO, sticky=False)
            while not faults.failed and writer.poll() is None:
                pass
            failed += faults.disarm()
        assert writer.wait(60) == 0
    return story(folder / "trace"), failed


def acknowledged(steps: list[Step]) -> int:
    """The last position that was promised."""
    found = [int(hit[1]) for step in steps if step.op == "N" and (hit := _ACKNOWLEDGED.search(step.data))]
    return max(found, default=0)


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("failing", [0, 7], ids=["syncs work", "syncs fail now and then"])
async def test_no_acknowledged_event_is_lost_at_any_moment(folder: Path, failing: int) -> None:
    steps, failed = recorded(folder, failing=failing)
    assert (failed > 3) == bool(failing)
    database = {step.number for step in steps if step.op == "O" and step.name == "log.sqlite"}
    moved = [at for at, step in enumerate(steps) if step.op == "W" and step.number in database]
    assert len(moved) > 20, "the write-ahead file was moved into the database"
    chance = random.Random(failing)
    cuts = {*chance.sample(range(len(steps)), CUTS // 2), *chance.sample(moved, min(len(moved), CUTS // 2))}
    for cut in sorted(cuts):
        image = Image()
        for step in steps[:cut]:
            image.follow(step)
        for loss in Loss:
            place = folder / f"{cut} {loss.name}"
            place.mkdir()
            image.put(place, loss, cut)
            await require_all(place, acknowledged(steps[:cut]), f"before step {cut}: {loss.value}")


async def require_all(folder: Path, promised: int, when: str) -> None:
    """The log opens, has all that was promised, and is sound."""
    log = SqliteLog.open(folder / "log.sqlite", SystemClock(), "test")
    try:
        assert log.head >= promised, when
        faults = [fault async for step in log.verify() for fault in step.faults]
        assert not faults, (when, faults)
    finally:
        await log.close()
