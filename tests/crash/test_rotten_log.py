"""The log's files cut, flipped, lost and mixed: an unacknowledged tail goes, everything else is named."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from events.errors import CorruptRecord, MailioError, StorageUnavailable
from events.event import Event, Recorded
from events.log.clock import SystemClock, VirtualClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from tests.crash.rot import Disk, cuts, flips

ORIGIN = Origin(actor="test")
FILES = ("log.sqlite", "log.sqlite-wal", "log.sqlite.head")
STREAMS = 7
EARLY, LATE = 60, 8
"""Records in the database file, and in its write-ahead file."""


class StoneLaid(Event, frozen=True):
    """An event of this suite only."""

    number: int
    text: str = ""


def opened(folder: Path, *, readonly: bool = False, check: bool = True) -> SqliteLog:
    return SqliteLog.open(folder / "log.sqlite", SystemClock(), "test", readonly=readonly, check=check)


async def lay(log: SqliteLog, number: int) -> None:
    """Append one event; every tenth is longer than a page."""
    event = StoneLaid(number=number, text="x" * (9_000 if number % 10 == 0 else 40))
    await log.append(Write(f"wall-{number % STREAMS}", (event,)), origin=ORIGIN)


class Life(dict[int, Disk]):
    """The disk as `kill -9` leaves it after so many events, and what was in the log at the end."""

    records: list[Recorded]


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    folder = tmp_path / "life"
    folder.mkdir()
    life = Life()
    log = opened(folder)
    for number in range(EARLY):
        await lay(log, number)
    life[EARLY] = Disk.of(folder, *FILES)
    await log.close()
    log = opened(folder)
    for number in range(EARLY, EARLY + LATE):
        await lay(log, number)
        life[number + 1] = Disk.of(folder, *FILES)
    life.records = await log.read(0, 1_000)
    await log.close()
    return life


async def contents(log: SqliteLog) -> list[list[Recorded]]:
    """All events, then those of each stream."""
    return [await log.read(0, 1_000), *[await log.stream(f"wall-{n}") for n in range(STREAMS)]]


def expected(records: list[Recorded]) -> list[list[Recorded]]:
    return [records, *[[r for r in records if r.stream == f"wall-{n}"] for n in range(STREAMS)]]


async def told(folder: Path) -> list[str]:
    """What `verify` finds."""
    try:
        log = opened(folder, readonly=True, check=False)
    except MailioError as error:
        return [str(error)]
    try:
        return [
            f"{fault.position} {fault.stream}: {fault.problem}"
            async for step in log.verify(16)
            for fault in step.faults
        ]
    except CorruptRecord as error:
        return [str(error)]
    finally:
        await log.close()


async def start(folder: Path) -> tuple[list[list[Recorded]] | None, str]:
    """Open the log as a daemon does; return what it says, or None and the reason why it says nothing."""
    try:
        log = opened(folder)
    except MailioError as error:
        return None, str(error)
    try:
        return await contents(log), ""
    except CorruptRecord as error:
        return None, str(error)
    finally:
        await log.close()


async def require_whole_or_named(folder: Path, disks: Iterable[tuple[str, Disk]], life: Life) -> int:
    """Each disk gives all that was acknowledged, or says what is wrong, in `verify` too; count the latter."""
    whole = expected(life.records)
    named = 0
    for what, disk in disks:
        disk.put(folder)
        faults = await told(folder)
        said, refusal = await start(folder)
        if said == whole and not faults:
            continue
        named += 1
        assert faults, f"{what}: verify finds nothing, start says {refusal or 'nothing'}"
        assert said in (None, whole), f"{what}: something else is read than was written, and nothing is said"
    return named


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be: every start syncs, and there are hundreds."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


async def test_an_unacknowledged_tail_cut_at_every_byte_goes_and_nothing_else(
    folder: Path, life: Life
) -> None:
    last = EARLY + LATE
    before, after = life[last - 1], life[last]
    torn = after.with_file("log.sqlite.head", before.files["log.sqlite.head"])
    for what, disk in cuts(torn, "log.sqlite-wal", len(before.files["log.sqlite-wal"]), 200):
        disk.put(folder)
        assert await told(folder) == [], what
        said, _ = await start(folder)
        assert said in (expected(life.records[:-1]), expected(life.records)), what
        log = opened(folder)
        await lay(log, 1_000)
        await log.close()


async def test_an_acknowledged_event_that_was_cut_off_is_missed_at_every_byte(
    folder: Path, life: Life
) -> None:
    last = EARLY + LATE
    disks = list(cuts(life[last], "log.sqlite-wal", 0, 200))
    assert await require_whole_or_named(folder, disks, life) == len(disks)
    assert await require_whole_or_named(folder, cuts(life[last], "log.sqlite", 0, 150), life) > 100


async def test_each_flipped_byte_changes_nothing_or_is_named(folder: Path, life: Life) -> None:
    disk = life[EARLY + LATE]
    disks = chain(flips(disk, "log.sqlite", 0, 400), flips(disk, "log.sqlite-wal", 0, 200))
    assert await require_whole_or_named(folder, disks, life) > 400


async def test_a_record_missing_in_the_middle_stops_who_reads_over_it(folder: Path, life: Life) -> None:
    life[EARLY + LATE].put(folder)
    raw = sqlite3.connect(folder / "log.sqlite", isolation_level=None)
    raw.execute("DROP TRIGGER events_are_never_deleted")
    raw.execute("DELETE FROM events WHERE position = 20")
    raw.close()
    log = opened(folder, check=False)
    with pytest.raises(CorruptRecord, match="stream wall-5, version 3 is missing"):
        await log.stream("wall-5")
    with pytest.raises(CorruptRecord, match="position 20 is missing"):
        await log.read(0, 1_000)
    assert await log.read(20, 1_000) == life.records[20:]
    await log.close()


async def test_files_that_are_lost_or_of_different_moments_are_named(folder: Path, life: Life) -> None:
    last, early = life[EARLY + LATE], life[EARLY]
    disks = [("the write-ahead file is lost", last.with_file("log.sqlite-wal", None))]
    disks += [
        (f"a write-ahead file after {n}", last.with_file("log.sqlite-wal", life[n].files["log.sqlite-wal"]))
        for n in range(EARLY, EARLY + LATE)
    ]
    disks += [
        (f"a database after {EARLY}", last.with_file("log.sqlite", early.files["log.sqlite"])),
        ("an older log", early.with_file("log.sqlite.head", last.files["log.sqlite.head"])),
    ]
    assert await require_whole_or_named(folder, disks, life) >= len(disks) - 1


async def test_a_lost_end_says_what_to_do(folder: Path, life: Life) -> None:
    life[EARLY + LATE].with_file("log.sqlite-wal", None).put(folder)
    with pytest.raises(CorruptRecord, match=rf"ends at position {EARLY}.*position {EARLY + LATE}.*Put back"):
        opened(folder)


async def test_a_lost_or_spoilt_witness_is_no_reason_to_stop(folder: Path, life: Life) -> None:
    disk = life[EARLY + LATE]
    for content in (None, b"", b"nonsense", disk.files["log.sqlite.head"].replace(b"0", b"1")):
        disk.with_file("log.sqlite.head", content).put(folder)
        assert await start(folder) == (expected(life.records), "")


async def test_a_power_loss_that_takes_the_newest_note_takes_no_event(folder: Path, life: Life) -> None:
    older = life[EARLY + 2].files["log.sqlite.head"]
    life[EARLY + LATE].with_file("log.sqlite.head", older).put(folder)
    assert await start(folder) == (expected(life.records), "")
    assert await told(folder) == []


async def lay_many(log: SqliteLog) -> None:
    for number in range(50):
        await lay(log, number)


async def test_a_malformed_file_met_while_running_says_what_to_do(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log.sqlite", VirtualClock(), "test")
    for number in range(200):
        await lay(log, number)
    await log.close()
    log = SqliteLog.open(tmp_path / "log.sqlite", VirtualClock(), "test", check=False)
    content = (tmp_path / "log.sqlite").read_bytes()
    size = int.from_bytes(content[16:18], "big")
    with (tmp_path / "log.sqlite").open("r+b") as file:
        for page in range(3, len(content) // size):
            file.seek(page * size)
            file.write(b"\xa5" * size)
    with pytest.raises(CorruptRecord, match=r"verify.*backup"):
        await contents(log)
    with pytest.raises(StorageUnavailable, match=r"verify.*backup"):
        await lay_many(log)
    await log.close()
