"""Power loss at any moment: of what was not synced anything may be missing, of what was promised nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core import Core
from node.settings import Settings, load
from tests.crash.checks import check
from tests.crash.disk import Calls, Faults, Image, Loss, Step, built, story
from tests.crash.drill import MAILBOXES, RESTART_SECONDS, open_account, slowness
from tests.crash.traffic import Book, Sender, Traffic, Writer
from tests.daemon import Daemon

CUTS = 150 if os.environ.get("THOROUGH") else 8
"""Points of the story at which the power goes."""
PROMISES = 120

_ACCEPTED = re.compile(rb"250 2\.0\.0 accepted as ([0-9a-f]+)")
_WRITTEN = re.compile(rb'"ok":\s*true,\s*"id":\s*"([^"]+)"')


class Recording:
    """A run of a node under load: what it did, who has an account, what was sent."""

    def __init__(self, folder: Path) -> None:
        self.steps: list[Step] = []
        self.accounts: dict[str, dict[str, str]] = {}
        self.book = Book()
        self.failed = 0
        self._folder = folder

    def run(self, *, syncs_fail: bool = False) -> None:
        """Run a node until enough was promised, and cut it off in the middle of its work.

        With `syncs_fail`, a sync fails now and then meanwhile.
        """
        folder = self._folder / "node"
        folder.mkdir()
        daemon = Daemon(folder)
        trace, faults = self._folder / "trace", Faults(self._folder / "faults")
        try:
            daemon.start(
                {
                    "LD_PRELOAD": str(built(self._folder)),
                    "DISK_ROOT": str(daemon.data),
                    "DISK_TRACE": str(trace),
                    "DISK_CONTROL": str(faults.path),
                }
            )
            for email in MAILBOXES:
                self.accounts[email] = open_account(daemon, email)
            traffic = self._load(daemon)
            while syncs_fail and traffic.acknowledged < PROMISES:
                self.failed += fail_a_sync(faults, traffic.acknowledged)
            daemon.wait_for(lambda: traffic.acknowledged >= PROMISES, "too few promises")
            daemon.kill()
            self.book = traffic.end()
        finally:
            daemon.end()
        self.steps = story(trace)

    def _load(self, daemon: Daemon) -> Traffic:
        senders = [Sender(daemon.smtp_port, f"s{n}", MAILBOXES, again=True) for n in range(4)]
        writers = [Writer(daemon.http_port, f"w{n}", a) for n, a in enumerate(self.accounts.values())]
        return Traffic([*senders, *writers])

    def acknowledged(self, cut: int) -> set[tuple[str, str]]:
        """What had been promised, by answers that had left, before the step `cut`."""
        promised: set[tuple[str, str]] = set()
        for step in self.steps[:cut]:
            if step.op == "N" and (found := _ACCEPTED.search(step.data) or _WRITTEN.search(step.data)):
                promised |= self.book.receipts.get(found[1].decode(), set())
        return promised

    def cuts(self, count: int) -> list[int]:
        """Points of the story: half of them just behind a promise, a quarter before the first one."""
        promises = [at + 1 for at, step in enumerate(self.steps) if step.op == "N"]
        chance = random.Random(count)
        behind = chance.sample(promises, min(count // 2, len(promises)))
        early = chance.sample(range(promises[0]), count // 4)
        anywhere = chance.sample(range(len(self.steps)), count - len(behind) - len(early))
        return sorted({*behind, *early, *anywhere, len(self.steps)})

    def disk(self, cut: int, loss: Loss, folder: Path) -> None:
        """Put the disk as it may be found when the power goes before the step `cut`."""
        image = Image()
        for step in self.steps[:cut]:
            image.follow(step)
        image.put(folder, loss, seed=cut)


def fail_a_sync(faults: Faults, number: int) -> int:
    """Let one of the next syncs fail; return how many did."""
    faults.arm(Calls.SYNC, 2 + number % 5, errno.EIO, sticky=False)
    deadline = time.monotonic() + 0.2
    while not faults.failed and time.monotonic() < deadline:
        time.sleep(0.005)
    return faults.disarm()


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be: nothing is to be learnt from how slow the real disk is."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("syncs_fail", [False, True], ids=["syncs work", "syncs fail now and then"])
def test_what_was_promised_before_the_power_went_is_there_afterwards(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, syncs_fail: bool
) -> None:
    recording = Recording(tmp_path)
    recording.run(syncs_fail=syncs_fail)
    assert bool(recording.failed) == syncs_fail
    monkeypatch.setattr("node.storage.index.boot_id", lambda: "the boot after")
    for number, cut in enumerate(recording.cuts(CUTS)):
        for loss in (list(Loss)[number % len(Loss)], Loss.SOME):
            try:
                come_back(recording, cut, loss, folder / f"{cut} {loss.name}")
            except BaseException as error:
                error.add_note(f"power lost before step {cut} of {len(recording.steps)}: {loss.value}")
                raise


def come_back(recording: Recording, cut: int, loss: Loss, folder: Path) -> None:
    """Start on what is left of the disk, and look."""
    (folder / "data").mkdir(parents=True, mode=0o700)
    recording.disk(cut, loss, folder / "data")
    settings = load(Daemon(folder).file).settings
    asyncio.run(caught_up(settings))
    book = Book(recording.book.tried, recording.acknowledged(cut))
    check(settings, recording.accounts, book)
    shutil.rmtree(folder)


async def caught_up(settings: Settings) -> None:
    """Start a node without doors, wait until all is filed and visible, and end it."""
    began = time.monotonic()
    core = Core(settings)
    await core.start()
    took = time.monotonic() - began
    assert took < RESTART_SECONDS * slowness(took)
    async with asyncio.timeout(60):
        await core.dispatcher.reached(core.log.head)
        for name in core.views.runners:
            await core.views.reached(name, core.log.head)
    assert await core.parking.list() == ()
    await core.close()
