"""What every adapter of the log's port must do. Run on the SQLite log; further adapters join `open_log`."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from events.errors import (
    AlreadyAnswered,
    Forbidden,
    InvalidInput,
    Misconfigured,
    StorageUnavailable,
    VersionConflict,
)
from events.event import Event, Metadata, Recorded
from events.log.clock import SystemClock, VirtualClock
from events.log.journal import SqliteJournal
from events.log.log import ANY_VERSION, Log, Origin, Write
from events.log.sqlite_log import BATCH, SqliteLog

SMTP = Origin(actor="smtp")
ROOT = Path(__file__).parents[2]


class PebbleThrown(Event, frozen=True):
    """An event of this suite only."""

    by: str
    weight: int = 0


Opener = Callable[[], SqliteLog]


@pytest.fixture
def open_log(tmp_path: Path) -> Opener:
    """Open the test's log; again after a close."""
    clock = SystemClock()
    return lambda: SqliteLog.open(tmp_path / "log.db", clock, "test 1")


@pytest.fixture
async def log(open_log: Opener) -> AsyncIterator[SqliteLog]:
    log = open_log()
    yield log
    await log.close()


def pebbles(stream: str, *by: str, expected: int = ANY_VERSION) -> Write:
    return Write(stream, tuple(PebbleThrown(by=name) for name in by), expected)


async def everything(log: Log) -> list[Recorded]:
    return await log.read(0, limit=1_000_000)


def thrown_by(records: list[Recorded]) -> list[str]:
    return [record.event.by for record in records if isinstance(record.event, PebbleThrown)]


async def test_what_is_appended_is_read_back_with_place_origin_and_software(log: Log) -> None:
    (appended,) = await log.append(pebbles("pond", "ann", expected=0), origin=SMTP)
    assert await log.stream("pond") == await log.read(0) == [appended]
    assert (appended.position, appended.stream, appended.version) == (1, "pond", 1)
    assert appended.event == PebbleThrown(by="ann")
    assert (appended.metadata.actor, appended.metadata.software) == ("smtp", "test 1")
    assert log.head == 1


async def test_a_reopened_log_gives_the_same_records(open_log: Opener) -> None:
    log = open_log()
    before = [(await log.append(pebbles(f"pond {n % 3}", str(n)), origin=SMTP))[0] for n in range(20)]
    await log.close()
    log = open_log()
    assert (log.head, await everything(log)) == (20, before)
    (after,) = await log.append(pebbles("pond 0", "later", expected=7), origin=SMTP)
    assert after.position == 21
    await log.close()


async def test_the_events_of_a_beginning_share_the_first_ones_id_as_correlation(log: Log) -> None:
    first, second = await log.append(pebbles("a", "x", "y"), origin=SMTP)
    assert first.metadata.correlation == second.metadata.correlation == first.metadata.id
    assert first.metadata.causation == second.metadata.causation == ""
    (third,) = await log.append(pebbles("b", "z"), origin=Origin(actor="mailbox/b", cause=second.metadata))
    assert third.metadata.correlation == first.metadata.id
    assert third.metadata.causation == second.metadata.id


async def test_a_writer_who_expects_another_version_is_refused_and_told_the_real_one(log: Log) -> None:
    await log.append(pebbles("pond", "ann", "bob", expected=0), origin=SMTP)
    for wrong in (0, 1, 3, 99):
        with pytest.raises(VersionConflict) as refusal:
            await log.append(pebbles("pond", "eve", expected=wrong), origin=SMTP)
        assert (refusal.value.stream, refusal.value.expected, refusal.value.actual) == ("pond", wrong, 2)
    await log.append(pebbles("pond", "cid", expected=2), origin=SMTP)
    assert thrown_by(await everything(log)) == ["ann", "bob", "cid"]


async def test_one_conflict_in_a_group_fails_alone(log: Log) -> None:
    await log.append(pebbles("pond 5", "early"), origin=SMTP)
    outcomes = await asyncio.gather(
        *(log.append(pebbles(f"pond {n}", str(n), "again", expected=0), origin=SMTP) for n in range(10)),
        return_exceptions=True,
    )
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [5]
    assert isinstance(outcomes[5], VersionConflict)
    assert len(await everything(log)) == 1 + 9 * 2


async def test_of_rivals_in_one_group_exactly_one_wins(log: Log) -> None:
    rivals = (log.append(pebbles("pond", str(n), expected=0), origin=SMTP) for n in range(20))
    outcomes = await asyncio.gather(*rivals, return_exceptions=True)
    assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == 19
    assert len(await everything(log)) == 1


async def test_an_append_to_several_streams_is_written_whole_or_not_at_all(log: Log) -> None:
    await log.append(pebbles("b", "early"), origin=SMTP)
    with pytest.raises(VersionConflict):
        await log.append(pebbles("a", "one", "two"), pebbles("b", "three", expected=0), origin=SMTP)
    assert await log.stream("a") == []
    records = await log.append(
        pebbles("a", "one", expected=0),
        pebbles("b", "two", expected=1),
        pebbles("a", "three", expected=1),
        origin=SMTP,
    )
    assert [(r.position, r.stream, r.version) for r in records] == [(2, "a", 1), (3, "b", 2), (4, "a", 2)]


async def test_an_append_without_events_writes_nothing(log: Log) -> None:
    assert await log.append(origin=SMTP) == []
    assert await log.append(Write("pond", ()), origin=SMTP) == []
    assert log.head == 0


async def test_versions_and_positions_stay_dense_under_concurrent_writers(log: Log) -> None:
    chance = random.Random(7)

    async def write() -> None:
        for _ in range(25):
            streams = chance.sample(range(8), 3)
            writes = [
                pebbles(f"pond {n}", *"xy"[: chance.randint(1, 2)], expected=chance.choice((-1, 3)))
                for n in streams
            ]
            try:
                await log.append(*writes, origin=SMTP)
            except VersionConflict:
                continue

    await asyncio.gather(*(write() for _ in range(40)))
    records = await everything(log)
    assert [record.position for record in records] == list(range(1, log.head + 1))
    seen: Counter[str] = Counter()
    for record in records:
        seen[record.stream] += 1
        assert record.version == seen[record.stream]
    assert len(seen) == 8


async def test_a_second_answer_to_the_same_cause_is_refused(log: Log) -> None:
    (cause,) = await log.append(pebbles("pond", "ann"), origin=SMTP)
    answer = Origin(actor="mailbox/b", cause=cause.metadata, answers=True)
    await log.append(pebbles("b", "one", "two", expected=0), origin=answer)
    for expected in (0, 2, ANY_VERSION):
        with pytest.raises(AlreadyAnswered):
            await log.append(pebbles("b", "one", "two", expected=expected), origin=answer)
    assert log.head == 3


async def test_a_second_answer_in_the_same_group_is_refused(log: Log) -> None:
    (cause,) = await log.append(pebbles("pond", "ann"), origin=SMTP)
    answer = Origin(actor="mailbox/b", cause=cause.metadata, answers=True)
    tries = (log.append(pebbles("b", str(n)), origin=answer) for n in range(3))
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, AlreadyAnswered) for outcome in outcomes) == 2
    assert log.head == 2


async def test_an_answer_is_refused_after_a_restart_too(open_log: Opener) -> None:
    log = open_log()
    (cause,) = await log.append(pebbles("pond", "ann"), origin=SMTP)
    answer = Origin(actor="mailbox/b", cause=cause.metadata, answers=True)
    (first,) = await log.append(pebbles("b", "one"), origin=answer)
    await log.close()
    log = open_log()
    with pytest.raises(AlreadyAnswered):
        await log.append(pebbles("b", "one"), origin=answer)
    assert await log.stream("b") == [first]
    await log.close()


async def test_other_actors_and_other_causes_are_other_answers(log: Log) -> None:
    one, two = await log.append(pebbles("pond", "ann", "bob"), origin=SMTP)
    for actor in ("mailbox/b", "mailbox/c"):
        for cause in (one, two):
            await log.append(
                pebbles(actor, "x"), origin=Origin(actor=actor, cause=cause.metadata, answers=True)
            )
    assert log.head == 6


async def test_a_stale_version_of_a_new_answer_is_a_version_conflict(log: Log) -> None:
    (cause,) = await log.append(pebbles("pond", "ann"), origin=SMTP)
    answer = Origin(actor="mailbox/b", cause=cause.metadata, answers=True)
    with pytest.raises(VersionConflict):
        await log.append(pebbles("pond", "x", expected=0), origin=answer)
    await log.append(pebbles("pond", "x", expected=1), origin=answer)


async def test_an_event_that_its_type_would_not_read_back_is_never_written(log: Log) -> None:
    wrong = PebbleThrown(by=7)  # type: ignore[arg-type]
    unwritable = PebbleThrown(by="\ud800")
    for event in (wrong, unwritable):
        with pytest.raises(InvalidInput):
            await log.append(Write("pond", (event,)), origin=SMTP)
    assert log.head == 0


@pytest.mark.parametrize("name", ["", "x" * 513, "nul\0", "half \ud800"])
async def test_a_bad_stream_name_is_refused(log: Log, name: str) -> None:
    with pytest.raises(InvalidInput):
        await log.append(pebbles(name, "x"), origin=SMTP)


async def test_reads_are_bounded_and_go_on_where_they_stopped(log: Log) -> None:
    await log.append(pebbles("a", *map(str, range(1_200))), pebbles("b", "other"), origin=SMTP)
    assert [r.position for r in await log.read(3, limit=4)] == [4, 5, 6, 7]
    assert [r.version for r in await log.stream("a", after=1_190, limit=5)] == [1191, 1192, 1193, 1194, 1195]
    assert len(await log.stream("a")) == 1_200
    assert await log.stream("a", limit=0) == []
    assert await log.read(log.head) == []


async def test_a_read_by_type_gives_those_types_only(open_log: Opener) -> None:
    log = open_log()
    await log.append(pebbles("a", "x", "y"), Write("a", (StickFloated(),)), pebbles("a", "z"), origin=SMTP)
    for _ in range(2):
        assert [r.position for r in await log.read(0, types=["StickFloated"])] == [3]
        assert [r.position for r in await log.read(1, 2, types={"PebbleThrown"})] == [2, 4]
        assert await log.read(0, types=["NeverSeen"]) == []
        await log.close()
        log = open_log()
    await log.close()


async def test_a_read_by_type_goes_on_after_a_full_batch(open_log: Opener) -> None:
    log = open_log()
    for start in range(0, 1_200, 600):
        await log.append(pebbles("a", *map(str, range(start, start + 600))), origin=SMTP)
    found = await log.read(0, 1_150, types=["PebbleThrown"])
    assert [r.position for r in found] == list(range(1, 1_151))
    await log.close()


class StickFloated(Event, frozen=True):
    """Another event of this suite only."""


async def test_a_subscriber_sees_every_event_once_and_in_order_under_concurrent_appends(log: Log) -> None:
    total, seen = 1_000, dict[int, list[int]]()

    async def follow(number: int, batch: int) -> None:
        positions = seen.setdefault(number, [])
        async with aclosing(log.subscribe(0, batch)) as batches:  # type: ignore[type-var]
            async for records in batches:
                assert len(records) <= batch
                positions += [record.position for record in records]
                if len(positions) >= total:
                    return

    async def write(number: int) -> None:
        for n in range(total // 20):
            await log.append(pebbles(f"pond {number}", str(n)), origin=SMTP)

    followers = [asyncio.create_task(follow(n, batch)) for n, batch in enumerate((1, 7, 500))]
    await asyncio.gather(*followers, *(write(n) for n in range(20)))
    assert all(positions == list(range(1, total + 1)) for positions in seen.values())


async def test_a_subscriber_wakes_in_the_loop_turns_that_follow_the_append(log: Log) -> None:
    batches = aiter(log.subscribe(0))
    following = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    (appended,) = await log.append(pebbles("pond", "ann"), origin=SMTP)
    for _ in range(5):
        await asyncio.sleep(0)
    assert following.done(), "it waits for time to pass instead of for the event"
    assert list(following.result()) == [appended]


async def test_a_subscriber_who_leaves_takes_no_other_with_it(log: Log) -> None:
    leaving, staying = (asyncio.ensure_future(anext(aiter(log.subscribe(0)))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    assert len(await staying) == 1


async def test_closing_finishes_what_is_under_way_and_ends_subscriptions(open_log: Opener) -> None:
    log = open_log()

    async def follow() -> list[Recorded]:
        return [record async for records in log.subscribe(0) for record in records]

    following = asyncio.create_task(follow())
    appends = [asyncio.create_task(log.append(pebbles("pond", str(n)), origin=SMTP)) for n in range(500)]
    await asyncio.sleep(0)
    await log.close()
    assert len(await asyncio.gather(*appends)) == 500
    await following
    with pytest.raises(StorageUnavailable):
        await log.append(pebbles("pond", "late"), origin=SMTP)
    log = open_log()
    assert log.head == 500
    await log.close()


async def test_who_prepares_many_events_while_the_log_closes_is_refused(log: SqliteLog) -> None:
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    orders = [(pebbles("pond", "ann"), SMTP) for _ in range(BATCH)]
    writing = asyncio.create_task(log.append_all(orders))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await log.close()
        with pytest.raises(StorageUnavailable):
            await writing


async def test_followers_miss_nothing_whose_writers_were_told_that_the_disk_failed(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = SqliteJournal.commit

    def unheard(journal: SqliteJournal) -> None:
        commit(journal)
        raise StorageUnavailable("no", "the answer was lost")

    def unmended(_: SqliteJournal) -> None:
        raise StorageUnavailable("no", "the disk is away")

    await log.append(pebbles("pond", "ann"), origin=SMTP)
    with monkeypatch.context() as faults:
        faults.setattr(SqliteJournal, "commit", unheard)
        faults.setattr(SqliteJournal, "recover", unmended)
        with pytest.raises(StorageUnavailable):
            await log.append(pebbles("pond", "bob"), origin=SMTP)
    await log.append(pebbles("pond", "eve"), origin=SMTP)
    assert thrown_by(await log.read(1)) == ["bob", "eve"]
    async with aclosing(log.subscribe(1)) as batches:  # type: ignore[type-var]
        assert thrown_by(list(await anext(batches))) == ["bob", "eve"]


async def test_a_cancelled_writer_does_not_disturb_its_neighbours(log: Log) -> None:
    tasks = [asyncio.create_task(log.append(pebbles("pond", str(n)), origin=SMTP)) for n in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    acknowledged = [
        record.position for outcome in outcomes if isinstance(outcome, list) for record in outcome
    ]
    assert len(acknowledged) == 20
    assert set(acknowledged) <= {record.position for record in await everything(log)}


async def test_a_full_disk_is_reported_to_every_writer_and_the_log_goes_on_afterwards(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log.db", SystemClock(), "test")
    await log.append(pebbles("pond", "before"), origin=SMTP)
    assert log._store is not None
    raw = log._store.writer.raw
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = [log.append(pebbles("pond", "x" * 20_000), origin=SMTP) for _ in range(10)]
    outcomes = await asyncio.gather(*big, return_exceptions=True)
    assert all(isinstance(outcome, StorageUnavailable) for outcome in outcomes), outcomes
    assert log.head == 1
    raw.execute("PRAGMA max_page_count = 1000000")
    (after,) = await log.append(pebbles("pond", "after", expected=1), origin=SMTP)
    assert (after.position, after.version) == (2, 2)
    assert [v.bad async for v in log.verify()] == [None]
    await log.close()


async def test_a_commit_that_the_disk_refuses_is_reported_and_the_log_goes_on(
    log: Log, tmp_path: Path
) -> None:
    """The limit on file sizes stands for the full disk: the write of the COMMIT itself fails."""
    await log.append(pebbles("pond", "before"), origin=SMTP)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = os.stat(tmp_path / "log.db-wal").st_size  # noqa: PTH116
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        outcomes = await asyncio.gather(
            *(log.append(pebbles("pond", str(n)), origin=SMTP) for n in range(10)), return_exceptions=True
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert all(isinstance(outcome, StorageUnavailable) for outcome in outcomes), outcomes
    assert (log.head, len(await everything(log))) == (1, 1)
    (after,) = await log.append(pebbles("pond", "after", expected=1), origin=SMTP)
    assert (after.position, after.version) == (2, 2)


async def test_a_second_daemon_on_the_same_store_is_told_who_has_it(open_log: Opener, log: Log) -> None:
    with pytest.raises(Misconfigured, match=rf"another daemon \(pid {os.getpid()}\) uses"):
        open_log()


async def test_a_reader_beside_the_daemon_sees_what_is_durable_and_writes_nothing(
    log: Log, tmp_path: Path
) -> None:
    reader = SqliteLog.open(tmp_path / "log.db", SystemClock(), "test", readonly=True)
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    assert reader.head == 1
    assert await everything(reader) == await everything(log)
    following = asyncio.ensure_future(anext(aiter(reader.subscribe(1))))
    (second,) = await log.append(pebbles("pond", "bob"), origin=SMTP)
    assert list(await following) == [second]
    with pytest.raises(Forbidden):
        await reader.append(pebbles("pond", "eve"), origin=SMTP)
    await reader.close()


async def test_a_reader_opens_a_log_that_no_daemon_holds(open_log: Opener, tmp_path: Path) -> None:
    log = open_log()
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    await log.close()
    reader = SqliteLog.open(tmp_path / "log.db", SystemClock(), "test", readonly=True)
    assert thrown_by(await everything(reader)) == ["ann"]
    await reader.close()


async def test_records_can_be_neither_changed_nor_deleted_below_the_program(log: Log, tmp_path: Path) -> None:
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    with sqlite3.connect(tmp_path / "log.db") as other:
        for statement in ("UPDATE events SET topic = 'x'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
    other.close()


async def test_a_log_of_a_newer_format_is_refused_in_one_line(open_log: Opener, tmp_path: Path) -> None:
    await open_log().close()
    with sqlite3.connect(tmp_path / "log.db") as raw:
        raw.execute("UPDATE log_meta SET value = 99 WHERE name = 'format'")
    raw.close()
    with pytest.raises(Misconfigured, match=r"format 99, this program knows 2 at most") as refusal:
        open_log()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"From: someone\r\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_log_is_refused_and_left_alone(
    open_log: Opener, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "log.db").write_bytes(content)
    with pytest.raises(Misconfigured):
        open_log()
    assert (tmp_path / "log.db").read_bytes() == content


def test_another_applications_database_is_refused(open_log: Opener, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as raw:
        raw.execute("CREATE TABLE cookies (x)")
    raw.close()
    with pytest.raises(Misconfigured, match="not a Mailio log"):
        open_log()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="nowhere"):
        SqliteLog.open(tmp_path / "nowhere" / "log.db", VirtualClock(), "test")


async def test_the_store_is_for_its_owner_only(log: Log, tmp_path: Path) -> None:
    await log.append(pebbles("pond", "ann"), origin=SMTP)
    modes = {name: (tmp_path / name).stat().st_mode & 0o077 for name in os.listdir(tmp_path)}
    assert set(modes.values()) == {0}, modes
    assert len(modes) == 5


WRITER = """
import asyncio, sys
from pathlib import Path
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from tests.contract.test_log import PebbleThrown

async def main():
    log = SqliteLog.open(Path(sys.argv[1]), SystemClock(), "killed")
    async def write(n):
        while True:
            (record,) = await log.append(Write(f"pond {n}", (PebbleThrown(by=str(n)),)), origin=Origin(actor="smtp"))
            sys.stdout.write(f"{record.position} {record.metadata.id}\\n")
            sys.stdout.flush()
    await asyncio.gather(*(write(n) for n in range(50)))
asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledgements", [1, 333, 2_000])
async def test_acknowledged_events_survive_kill_9(
    open_log: Opener, tmp_path: Path, acknowledgements: int
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "log.db")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:  # noqa: ASYNC220
        assert writer.stdout is not None
        heard = [writer.stdout.readline() for _ in range(acknowledgements)]
        writer.send_signal(signal.SIGKILL)
        heard += [line for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    log = open_log()
    kept = {record.position: record.metadata.id for record in await everything(log)}
    for line in heard:
        position, ident = line.split()
        assert kept[int(position)] == ident
    assert all([verified.bad is None async for verified in log.verify()])
    await log.append(pebbles("pond 0", "alive"), origin=SMTP)
    await log.close()


async def test_what_happened_elsewhere_keeps_its_id_time_actor_and_cause(log: SqliteLog) -> None:
    original = Metadata(
        id="0" * 31 + "1", at=5, actor="client/x", correlation="0" * 31 + "2", causation="0" * 31 + "3",
        software="another 1", imported="0" * 31 + "4",
    )  # fmt: skip
    elsewhere = Origin(actor="client/x", original=original)
    (told,) = await log.append_all([(Write("x", (PebbleThrown(by="x"),), 0), elsewhere)])
    (read,) = await log.stream("x")
    assert told.metadata == read.metadata == original
    with pytest.raises(InvalidInput):
        await log.append(Write("x", (PebbleThrown(by="x"), PebbleThrown(by="x"))), origin=elsewhere)
