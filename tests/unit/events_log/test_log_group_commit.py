"""The committer over the real journal, with faults put in where a disk would have them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from events.errors import AlreadyAnswered, Busy, Conflict, CorruptRecord, StorageUnavailable, VersionConflict
from events.event import Event, Recorded
from events.log import group_commit
from events.log.clock import VirtualClock
from events.log.codec import Codec
from events.log.entry import Entry, prepare
from events.log.group_commit import GroupCommitter
from events.log.journal import SqliteJournal
from events.log.log import ANY_VERSION, Origin, Write
from events.log.sqlite import LogDatastore, LogRecorder
from events.log.sqlite_log import SqliteLog
from events.log.witness import Witness


class BrickLaid(Event, frozen=True):
    number: int


MASON = Origin(actor="mason")


class FaultyJournal(SqliteJournal):
    """The real one, whose commits can be held up, made to fail, or made to succeed and report a failure."""

    commits = 0
    fault = ""

    def __init__(self, path: Path) -> None:
        self.datastore = LogDatastore(str(path))
        LogRecorder(self.datastore).create_table()
        self.gate = threading.Event()
        self.gate.set()
        self.committing = threading.Event()
        self.pooled = self.datastore.pool.get_connection(is_writer=True)
        super().__init__(self.pooled, Codec(), Witness(path))  # type: ignore[arg-type]

    def close(self) -> None:
        self.datastore.pool.put_connection(self.pooled)
        self.datastore.close()

    def begin(self) -> None:
        if self.fault == "begin":
            raise StorageUnavailable("no", "begin failed")
        super().begin()

    def commit(self) -> None:
        self.committing.set()
        self.gate.wait(10)
        self.commits += 1
        if self.fault == "commit":
            raise StorageUnavailable("no", "commit failed")
        super().commit()
        if self.fault == "answer":
            raise StorageUnavailable("no", "the answer was lost")

    def recover(self) -> None:
        if self.fault == "recover":
            raise StorageUnavailable("no", "recovery failed")
        if self.fault == "damage":
            raise CorruptRecord("no", "the end of the log can't be read")
        super().recover()


class Bench:
    def __init__(self, path: Path) -> None:
        self.published: list[Recorded] = []
        self.journal = FaultyJournal(path)
        self.committer = GroupCommitter(self.journal, self.published.extend)
        self.clock = VirtualClock()

    def entry(self, *writes: Write, origin: Origin = MASON) -> Entry:
        return prepare(writes, origin, self.clock, Codec(), "test")

    async def lay(self, stream: str, number: int, expected: int = ANY_VERSION) -> list[Recorded]:
        return await self.committer.append(self.entry(Write(stream, (BrickLaid(number=number),), expected)))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "log.db")
    yield bench
    bench.journal.gate.set()
    await bench.committer.drain()
    bench.journal.close()


def positions(records: list[Recorded]) -> list[int]:
    return [record.position for record in records]


async def test_appends_that_are_made_together_share_a_commit(bench: Bench) -> None:
    await asyncio.gather(*(bench.lay("wall", n) for n in range(100)))
    assert bench.journal.commits == 1
    assert positions(bench.published) == list(range(1, 101))


async def test_what_is_appended_during_a_commit_makes_the_next_group(bench: Bench) -> None:
    bench.journal.gate.clear()
    first = asyncio.create_task(bench.lay("wall", 1))
    await asyncio.to_thread(bench.journal.committing.wait, 10)
    others = [asyncio.create_task(bench.lay("wall", n)) for n in range(2, 12)]
    await asyncio.sleep(0)
    assert not first.done()
    bench.journal.gate.set()
    await asyncio.gather(first, *others)
    assert bench.journal.commits == 2


async def test_groups_are_bounded_in_number_and_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP", 10)
    await asyncio.gather(*(bench.lay("wall", n) for n in range(35)))
    assert bench.journal.commits == 4
    monkeypatch.setattr(group_commit, "MAX_GROUP_BYTES", 1)
    await asyncio.gather(*(bench.lay("wall", n) for n in range(3)))
    assert bench.journal.commits == 7


async def test_readers_never_see_what_is_not_committed(bench: Bench, tmp_path: Path) -> None:
    reader = SqliteLog.open(tmp_path / "log.db", VirtualClock(), "reader", readonly=True)
    bench.journal.gate.clear()
    laying = asyncio.create_task(bench.lay("wall", 1))
    await asyncio.to_thread(bench.journal.committing.wait, 10)
    assert (reader.head, await reader.read(0), await reader.stream("wall")) == (0, [], [])
    assert bench.published == []
    bench.journal.gate.set()
    await laying
    assert reader.head == len(await reader.read(0)) == len(await reader.stream("wall")) == 1
    await reader.close()


async def test_a_failed_commit_fails_its_group_and_the_log_goes_on(bench: Bench) -> None:
    await bench.lay("wall", 0)
    bench.journal.fault = "commit"
    outcomes = await asyncio.gather(
        *(bench.lay("wall", n, expected=n) for n in (1, 2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable, StorageUnavailable]
    bench.journal.fault = ""
    (record,) = await bench.lay("wall", 1, expected=1)
    assert (record.position, record.version) == (2, 2)
    assert positions(bench.published) == [1, 2]


async def test_a_conflict_with_a_neighbour_whose_commit_failed_is_not_told_as_one(bench: Bench) -> None:
    (cause,) = await bench.lay("wall", 0)
    bench.journal.fault = "commit"
    answer = Origin(actor="mason", cause=cause.metadata, answers=True)
    entries = [bench.entry(Write("wall", (BrickLaid(number=1),)), origin=answer) for _ in range(2)]
    outcomes = await asyncio.gather(*map(bench.committer.append, entries), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable, StorageUnavailable]
    bench.journal.fault = ""
    await bench.committer.append(entries[0])
    with pytest.raises(AlreadyAnswered):
        await bench.committer.append(entries[1])


async def test_a_commit_whose_answer_was_lost_is_looked_up_and_acknowledged(bench: Bench) -> None:
    bench.journal.fault = "answer"
    outcomes = await asyncio.gather(
        bench.lay("wall", 1, expected=0),
        bench.lay("wall", 2, expected=0),
        bench.committer.append(bench.entry(Write("roof", (BrickLaid(number=3), BrickLaid(number=4))))),
        return_exceptions=True,
    )
    one, rival, two = outcomes
    assert isinstance(one, list)
    assert isinstance(two, list)
    assert (positions(one), positions(two)) == ([1], [2, 3])
    assert isinstance(rival, StorageUnavailable)
    assert bench.published == one + two
    bench.journal.fault = ""
    assert positions(await bench.lay("wall", 9, expected=1)) == [4]


@pytest.mark.parametrize("fault", ["begin", "recover"])
async def test_the_log_goes_on_when_the_disk_is_back(bench: Bench, fault: str) -> None:
    await bench.lay("wall", 0)
    bench.journal.fault = fault
    with pytest.raises((StorageUnavailable, VersionConflict)):
        await bench.lay("wall", 1, expected=0)
    bench.journal.fault = ""
    (record,) = await bench.lay("wall", 1, expected=1)
    assert record.position == 2


@pytest.mark.parametrize("others", [0, 3])
async def test_nobody_waits_for_ever_where_damage_is_met_while_a_failure_is_mended(
    bench: Bench, others: int
) -> None:
    await bench.lay("wall", 1)
    taken = bench.entry(Write("wall", (BrickLaid(number=2),)))
    await bench.committer.append(taken)
    bench.journal.fault = "damage"
    async with asyncio.timeout(5):
        told = await asyncio.gather(
            bench.committer.append(taken),
            *(bench.lay("wall", 3 + n) for n in range(others)),
            return_exceptions=True,
        )
    assert [type(one) for one in told] == [StorageUnavailable] * (others + 1)
    assert "can't be read" in told[0].private  # type: ignore[union-attr]
    # The next one meets it when it begins.
    with pytest.raises(StorageUnavailable):
        async with asyncio.timeout(5):
            await bench.lay("wall", 9)
    bench.journal.fault = ""
    assert positions(await bench.lay("wall", 9)) == [3]


async def test_a_fault_of_the_program_is_told_to_its_caller_and_to_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "write", _raise_oops)
        with pytest.raises(StorageUnavailable, match="oops"):
            await bench.lay("wall", 1)
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
    assert positions(await bench.lay("wall", 1)) == [1]


def _raise_oops(entry: Entry) -> list[Recorded]:
    raise ZeroDivisionError("oops")


async def test_too_many_waiting_appends_are_turned_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 5)
    outcomes = await asyncio.gather(*(bench.lay("wall", n) for n in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[5:]] == [Busy, Busy, Busy]
    assert positions(bench.published) == [1, 2, 3, 4, 5]


async def test_waiting_bytes_are_bounded_but_one_large_append_passes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING_BYTES", 1)
    outcomes = await asyncio.gather(*(bench.lay("wall", n) for n in range(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [list, Busy]


async def test_a_reused_event_id_fails_alone(bench: Bench) -> None:
    entry = bench.entry(Write("wall", (BrickLaid(number=1),)))
    outcomes = await asyncio.gather(
        bench.committer.append(entry),
        bench.committer.append(entry),
        bench.lay("wall", 2),
        return_exceptions=True,
    )
    assert [isinstance(outcome, list) for outcome in outcomes] == [True, False, True]
    assert positions(bench.published) == [1, 2]


async def test_what_follows_a_taken_event_id_in_its_group_is_judged_without_it(bench: Bench) -> None:
    taken = bench.entry(Write("roof", (BrickLaid(number=1),)))
    await bench.committer.append(taken)
    again = msgspec.structs.replace(
        taken, writes=[msgspec.structs.replace(taken.writes[0], stream="wall", expected=0)]
    )
    outcomes = await asyncio.gather(
        bench.committer.append(again),
        bench.lay("wall", 2, 0),
        bench.lay("wall", 3, 1),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [Conflict, list, list]
    assert positions(bench.published) == [1, 2, 3]
    assert bench.journal.commits == 1 + 1 + 3


async def test_a_large_append_is_one_transaction(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.log.journal.ROWS_AT_ONCE", 3)
    bricks = tuple(BrickLaid(number=number) for number in range(5))
    taken = bench.entry(Write("wall", bricks, 0))
    assert positions(await bench.committer.append(taken)) == [1, 2, 3, 4, 5]
    late = msgspec.structs.replace(bench.entry(Write("roof", bricks, 0)))
    late = msgspec.structs.replace(late, writes=[*late.writes, *taken.writes])
    with pytest.raises(Conflict):
        await bench.committer.append(late)
    (record,) = await bench.lay("roof", 6, 0)
    assert record.position == 6


async def test_an_entry_that_fails_at_its_last_row_leaves_none_of_its_rows(bench: Bench) -> None:
    taken = bench.entry(Write("wall", (BrickLaid(number=1),)))
    await bench.committer.append(taken)
    late = bench.entry(Write("roof", (BrickLaid(number=2),)))
    late = msgspec.structs.replace(late, writes=[*late.writes, *taken.writes])
    outcomes = await asyncio.gather(
        bench.committer.append(late), bench.lay("roof", 3, 0), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Conflict, list]
    assert [record.event for record in bench.published] == [BrickLaid(number=1), BrickLaid(number=3)]


async def test_versions_are_right_when_none_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.log.journal.VERSIONS_KEPT", 0)
    for n in range(5):
        (record,) = await bench.lay(f"wall {n % 2}", n, expected=n // 2)
        assert record.version == n // 2 + 1


TAMPERING = {
    "UPDATE events SET state = x'00' WHERE position = 3": 3,
    "UPDATE events SET originator_version = 9 WHERE position = 2": 2,
    "UPDATE events SET topic = 'BrickSold' WHERE position = 4": 4,
    "DELETE FROM events WHERE position = 1": 1,
    "DELETE FROM events WHERE position = 4": 4,
    "DELETE FROM events WHERE position = 5": 5,
}


async def tampered(path: Path, statement: str) -> None:
    """Lay five bricks, then do what only somebody with the file in hand can do."""
    log = SqliteLog.open(path, VirtualClock(), "test")
    for n in range(5):
        await log.append(Write("wall", (BrickLaid(number=n),)), origin=MASON)
    await log.close()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("DROP TRIGGER events_are_never_changed")
    raw.execute("DROP TRIGGER events_are_never_deleted")
    raw.execute(statement)
    raw.close()


@pytest.mark.parametrize("statement", TAMPERING)
async def test_a_tampered_tail_is_found_on_opening(tmp_path: Path, statement: str) -> None:
    await tampered(tmp_path / "log.db", statement)
    with pytest.raises(CorruptRecord):
        SqliteLog.open(tmp_path / "log.db", VirtualClock(), "test")


@pytest.mark.parametrize(("statement", "bad"), [(s, bad) for s, bad in TAMPERING.items() if bad < 5])
@pytest.mark.parametrize("batch", [1, 2, 500])
async def test_verify_names_the_first_bad_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, bad: int, batch: int
) -> None:
    monkeypatch.setattr("events.log.sqlite_log.CHECKED_AT_START", 0)
    await tampered(tmp_path / "log.db", statement)
    log = SqliteLog.open(tmp_path / "log.db", VirtualClock(), "test")
    progress = [verified async for verified in log.verify(batch)]
    assert progress[-1].bad == bad
    assert all(verified.bad is None for verified in progress if verified.position < bad)
    assert [fault.position for verified in progress for fault in verified.faults if fault.position] == [bad]
    await log.close()


async def test_verify_tells_its_progress_up_to_the_head(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log.db", VirtualClock(), "test")
    await log.append(Write("wall", tuple(BrickLaid(number=n) for n in range(25))), origin=MASON)
    assert [(v.position, v.head, v.bad) async for v in log.verify(10)] == [
        (10, 25, None),
        (20, 25, None),
        (25, 25, None),
    ]
    await log.close()


@pytest.mark.parametrize(("statement", "bad"), TAMPERING.items())
async def test_what_was_verified_before_is_not_verified_again(
    tmp_path: Path, statement: str, bad: int
) -> None:
    await tampered(tmp_path / "log.db", statement)
    log = SqliteLog.open(tmp_path / "log.db", VirtualClock(), "test", readonly=True, check=False)
    whole = [fault async for step in log.verify() for fault in step.faults]
    rest = [fault async for step in log.verify(sound=bad - 1) for fault in step.faults]
    assert rest == whole != []
    await log.close()
