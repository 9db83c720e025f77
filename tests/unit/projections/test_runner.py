from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from events.errors import Busy, Conflict, InvalidInput, Misconfigured, NotFound, StorageUnavailable
from events.event import Event, Recorded
from events.identity import userdb_name
from events.log.clock import SystemClock, VirtualClock
from events.log.log import Write
from events.log.sqlite_log import SqliteLog
from events.view import STREAM, ViewEventRetried
from projections.feeder import RunnerLimits
from projections.runner import RebuildNeeded, Runner
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from projections.view_store import Documents, Effect
from tests.factories import (
    ORIGIN,
    OWNER,
    Blobs,
    document_written,
    folder_created,
    folder_renamed,
    interest_shown,
    message_filed,
    writes,
)
from tests.fakes.memory_log import MemoryLog

DATABASE = userdb_name(OWNER)


class Store(EmbeddedStore):
    """The real store; its next writes raise what is put into `faults`."""

    faults: list[Exception]
    batches: list[int]

    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        if self.faults:
            raise self.faults.pop(0)
        await super().write(changes, checkpoint, schema)
        self.batches.append(len(changes))


class Pauses:
    """A sleep that takes no time and remembers how long it was to be; `before` is called each time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.before: Callable[[], None] = lambda: None

    async def __call__(self, seconds: float) -> None:
        self.before()
        self.seconds.append(seconds)
        await asyncio.sleep(0)


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = MemoryLog()
        self.blobs = Blobs()
        self.pauses = Pauses()
        self.store = self.opened()

    def opened(self) -> Store:
        store = Store.open(self.path)
        store.faults, store.batches = [], []
        return store

    def runner(self, **limits: float) -> Runner:
        view = UserDatabases(self.blobs)
        return Runner(view, self.store, self.log, RunnerLimits(**limits), sleep=self.pauses)  # type: ignore[arg-type]

    async def append(self, *events: Event) -> list[Recorded]:
        return await self.log.append(*writes(events), origin=ORIGIN)

    async def ids(self) -> list[str]:
        return [document.id async for document in self.store.documents(DATABASE)]


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop()
        await task


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "userdb.sqlite")
    yield made
    await made.store.close()


async def test_a_writer_reads_its_own_write_once_the_view_has_reached_it(bench: Bench) -> None:
    runner = bench.runner()
    async with running(runner):
        for number in range(5):
            (record,) = await bench.append(message_filed(bench.blobs, id=f"m{number}"))
            await runner.reached(record.position)
            assert await bench.store.get(DATABASE, f"m{number}")
    assert (runner.position, runner.lag, runner.status.events) == (5, 0, 5)


async def test_many_wait_for_different_positions(bench: Bench) -> None:
    runner = bench.runner(batch=3)
    waits = [asyncio.create_task(runner.reached(position)) for position in (9, 1, 10, 4)]
    await bench.append(*(message_filed(bench.blobs) for _ in range(10)))
    async with running(runner):
        await asyncio.gather(*waits)
    assert runner.position == 10


async def test_catching_up_writes_bounded_batches_and_moves_the_checkpoint_past_foreign_events(
    bench: Bench,
) -> None:
    await bench.append(*(message_filed(bench.blobs) for _ in range(7)), *(interest_shown() for _ in range(4)))
    runner = bench.runner(batch=3)
    async with running(runner):
        await runner.reached(11)
    assert bench.store.batches == [3, 3, 1]
    assert await bench.store.checkpoint() == 11


async def test_nothing_is_waited_for_to_fill_a_batch(bench: Bench) -> None:
    runner = bench.runner(batch=100)
    async with running(runner):
        await bench.append(message_filed(bench.blobs))
        await runner.reached(1)
    assert bench.store.batches == [1]


async def test_an_event_sees_the_earlier_changes_of_its_batch(bench: Bench) -> None:
    await bench.append(folder_created(name="a"), folder_renamed(name="b"), folder_renamed(name="c"))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(3)
    document = await bench.store.get(DATABASE, "folder:f1")
    assert document
    assert len(document.tree.ancestry(document.winner.rev)) == 3
    assert bench.store.batches == [3]


async def test_where_only_the_store_knows_the_winner_it_is_asked(bench: Bench) -> None:
    await bench.append(
        document_written(bench.blobs, "1-a", id="folder:f1", body={"kept": "a"}),
        document_written(bench.blobs, "1-b", id="folder:f1", body={"kept": "b"}),
        document_written(bench.blobs, "2-c", "1-b", id="folder:f1", deleted=True),
        folder_renamed(name="new"),
    )
    runner = bench.runner()
    async with running(runner):
        await runner.reached(4)
    document = await bench.store.get(DATABASE, "folder:f1")
    assert document
    assert document.tree.ancestry(document.winner.rev)[1] == "1-a"
    assert msgspec.json.decode(document.winner.body)["kept"] == "a"


async def test_poison_is_parked_with_its_reason_and_the_others_go_on(bench: Bench) -> None:
    await bench.append(
        message_filed(bench.blobs, id="m1"),
        message_filed(bench.blobs, id="m2", document="00" * 32),
        message_filed(bench.blobs, id="m3"),
    )
    runner = bench.runner()
    async with running(runner):
        await runner.reached(3)
        assert await bench.ids() == ["m1", "m3"]
        ((position, reason),) = (await bench.store.parked()).items()
    assert position == 2
    assert "no such blob" in reason
    assert runner.status.parked == 1
    assert bench.pauses.seconds == []


async def test_what_the_store_refuses_is_found_among_its_neighbours_and_parked(bench: Bench) -> None:
    await bench.append(
        message_filed(bench.blobs, id="m1"),
        document_written(bench.blobs, "not a revision", id="d", body={}),
        folder_created(),
        folder_renamed(),
    )
    runner = bench.runner()
    async with running(runner):
        await runner.reached(4)
    assert await bench.ids() == ["folder:f1", "m1"]
    assert list(await bench.store.parked()) == [2]


async def test_what_was_written_before_the_store_refused_is_not_applied_again(bench: Bench) -> None:
    # A body that is away for a moment has the folder written before the refused change is met.
    bench.blobs.faults = [StorageUnavailable("away")]
    await bench.append(
        folder_created(),
        folder_renamed(),
        message_filed(bench.blobs, id="m1"),
        document_written(bench.blobs, "not a revision", id="d", body={}),
    )
    runner = bench.runner()
    async with running(runner):
        await runner.reached(4)
    folder = await bench.store.get(DATABASE, "folder:f1")
    assert folder
    assert folder.winner.rev.startswith("2-")
    assert list(await bench.store.parked()) == [4]


async def test_a_parked_event_that_is_retried_comes_after_everything_that_readers_have_seen(
    bench: Bench,
) -> None:
    late = bench.blobs.put_json(id="m1")
    body = bench.blobs.bodies.pop(late)
    await bench.append(
        message_filed(bench.blobs, id="m1", document=late), message_filed(bench.blobs, id="m2")
    )
    runner = bench.runner()
    async with running(runner):
        await runner.reached(2)
        seen = await bench.store.update_seq(DATABASE)
        bench.blobs.bodies[late] = body
        await runner.retry(1)
        assert [document.id for document in await bench.store.documents_since(DATABASE, seen)] == ["m1"]
        assert await bench.store.parked() == {}


async def test_a_retry_that_fails_again_says_so_and_stays_parked(bench: Bench) -> None:
    await bench.append(message_filed(bench.blobs, document="00" * 32))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(1)
        with pytest.raises(Conflict, match="no such blob"):
            await runner.retry(1)
        assert list(await bench.store.parked()) == [1]


async def test_two_operators_who_retry_the_same_event_apply_it_once(bench: Bench) -> None:
    late = bench.blobs.put_json(id="m1")
    body = bench.blobs.bodies.pop(late)
    await bench.append(message_filed(bench.blobs, document=late))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(1)
        bench.blobs.bodies[late] = body
        results = await asyncio.gather(runner.retry(1), runner.retry(1), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), NotFound]
    assert bench.log.head == 2


async def test_only_what_is_parked_can_be_retried_or_dropped(bench: Bench) -> None:
    await bench.append(message_filed(bench.blobs), message_filed(bench.blobs, document="00" * 32))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(2)
        for refused in (runner.retry(1), runner.drop(1), runner.retry(99)):
            with pytest.raises(NotFound):
                await refused
        await runner.drop(2)
        assert await bench.store.parked() == {}


async def test_while_blobs_are_away_the_view_waits_and_parks_nothing(bench: Bench) -> None:
    bench.blobs.faults = [StorageUnavailable("away")] * 20
    runner = bench.runner(attempts=2, backoff_seconds=1, backoff_most_seconds=100)
    waiting: list[str] = []
    bench.pauses.before = lambda: waiting.append(runner.status.waiting_for)
    await bench.append(message_filed(bench.blobs, id="m1"))
    async with running(runner):
        await runner.reached(1)
    assert await bench.ids() == ["m1"]
    assert await bench.store.parked() == {}
    assert bench.pauses.seconds == [1, 2, 4, 8, 16, 32, 64] + [100] * 13
    assert all("away" in text for text in waiting)
    assert runner.status.waiting_for == ""


async def test_what_came_before_a_wait_is_visible_during_it(bench: Bench) -> None:
    await bench.append(message_filed(bench.blobs, id="m1"), message_filed(bench.blobs, id="m2"))
    faults = [StorageUnavailable("away")] * 3
    runner = bench.runner()
    positions: list[int] = []
    bench.pauses.before = lambda: positions.append(runner.position)
    read = bench.blobs.read
    names = [record.event.document for record in bench.log.records]  # type: ignore[attr-defined]

    async def failing(name: str) -> bytes:
        if name == names[1] and faults:
            raise faults.pop()
        return await read(name)

    bench.blobs.read = failing  # type: ignore[method-assign]
    async with running(runner):
        await runner.reached(2)
    assert positions == [1, 1, 1]


async def test_an_unforeseen_io_error_is_tried_a_few_times_then_parked(bench: Bench) -> None:
    bench.blobs.faults = [OSError("odd")] * 3
    await bench.append(message_filed(bench.blobs, id="m1"), message_filed(bench.blobs, id="m2"))
    runner = bench.runner(attempts=3)
    async with running(runner):
        await runner.reached(2)
    assert await bench.ids() == ["m2"]
    assert len(bench.pauses.seconds) == 2


async def test_while_the_view_store_is_away_the_view_waits(bench: Bench) -> None:
    bench.store.faults = [StorageUnavailable("full"), OSError("odd"), StorageUnavailable("full")]
    await bench.append(message_filed(bench.blobs, id="m1"))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(1)
    assert await bench.ids() == ["m1"]
    assert len(bench.pauses.seconds) == 3


async def test_a_damaged_store_stops_the_runner_and_parks_nothing(bench: Bench) -> None:
    bench.store.faults = [Misconfigured("damaged")]
    await bench.append(message_filed(bench.blobs))
    runner = bench.runner()
    with pytest.raises(Misconfigured, match="damaged"):
        await runner.run()
    assert await bench.store.parked() == {}
    with pytest.raises(StorageUnavailable):
        await runner.reached(1)


async def test_a_defect_of_the_store_stops_the_runner_and_parks_nothing(bench: Bench) -> None:
    bench.store.faults = [ZeroDivisionError()]
    await bench.append(message_filed(bench.blobs))
    with pytest.raises(ZeroDivisionError):
        await bench.runner().run()
    assert await bench.store.parked() == {}


async def test_a_defect_of_the_view_parks_the_event(bench: Bench) -> None:
    class Broken(UserDatabases):
        async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
            if record.position == 1:
                raise ZeroDivisionError("line\nbreak")
            return await super().apply(record, documents)

    await bench.append(message_filed(bench.blobs), message_filed(bench.blobs, id="m2"))
    runner = Runner(Broken(bench.blobs), bench.store, bench.log)
    async with running(runner):
        await runner.reached(2)
    assert await bench.store.parked() == {1: "ZeroDivisionError: line?break"}
    assert await bench.ids() == ["m2"]


async def test_stopping_ends_a_wait_and_keeps_what_was_done(bench: Bench) -> None:
    bench.blobs.faults = [StorageUnavailable("away")] * 1000
    runner = bench.runner()
    bench.pauses.before = lambda: runner._feeder.stopping.set() if len(bench.pauses.seconds) == 3 else None
    await bench.append(message_filed(bench.blobs))
    waiting = asyncio.create_task(runner.reached(1))
    await runner.run()
    with pytest.raises(StorageUnavailable):
        await waiting
    assert await bench.store.checkpoint() == 0


async def test_who_waits_too_long_is_told_to_come_back(bench: Bench) -> None:
    runner = bench.runner()
    async with running(runner):
        with pytest.raises(Busy):
            await runner.reached(1, timeout=0)
        await bench.append(message_filed(bench.blobs))
        await runner.reached(1)


async def test_a_store_of_another_schema_asks_for_a_rebuild(bench: Bench) -> None:
    await bench.append(message_filed(bench.blobs))
    await bench.store.write([], 1, schema=UserDatabases.schema + 1)
    runner = bench.runner()
    assert "schema" in await runner.needs_rebuild()
    with pytest.raises(RebuildNeeded, match="mailio-node rebuild userdb"):
        await runner.run()


async def test_a_store_that_knows_more_than_the_log_asks_for_a_rebuild(bench: Bench) -> None:
    await bench.store.write([], 7, schema=UserDatabases.schema)
    with pytest.raises(RebuildNeeded, match="the log ends at 0"):
        await bench.runner().run()


async def test_an_empty_store_needs_no_rebuild(bench: Bench) -> None:
    await bench.append(message_filed(bench.blobs))
    assert await bench.runner().needs_rebuild() == ""


async def test_a_paused_runner_writes_nothing(bench: Bench) -> None:
    runner = bench.runner()
    async with running(runner):
        await bench.append(message_filed(bench.blobs))
        await runner.reached(1)
        async with runner.paused() as position:
            await bench.append(message_filed(bench.blobs))
            with pytest.raises(Busy):
                await runner.reached(2, timeout=0.01)
            assert await bench.store.checkpoint() == position == 1
        await runner.reached(2)


async def test_after_a_crash_between_batches_the_same_comes_out(bench: Bench, tmp_path: Path) -> None:
    events = [folder_created(), *(folder_renamed(name=str(n)) for n in range(9))]
    await bench.append(*events, message_filed(bench.blobs))
    for position in (3, 5, 6):
        runner = bench.runner(batch=1)
        task = asyncio.create_task(runner.run())
        await runner.reached(position)
        task.cancel()
        await asyncio.wait([task])
        await bench.store.close()
        bench.store = bench.opened()
    async with running(runner := bench.runner()):
        await runner.reached(11)
    whole = Bench(tmp_path / "whole.sqlite")
    whole.log, whole.blobs = bench.log, bench.blobs
    async with running(runner := whole.runner()):
        await runner.reached(11)
    assert await whole.store.digest() == await bench.store.digest()
    await whole.store.close()


async def test_a_closed_log_ends_the_runner(tmp_path: Path, bench: Bench) -> None:
    log = SqliteLog.open(tmp_path / "log.sqlite", SystemClock(), "test")
    runner = Runner(UserDatabases(bench.blobs), bench.store, log)
    task = asyncio.create_task(runner.run())
    (record,) = await log.append(*writes([message_filed(bench.blobs, id="m1")]), origin=ORIGIN)
    await runner.reached(record.position)
    await log.close()
    await task
    assert await bench.ids() == ["m1"]


async def test_a_retry_event_for_another_view_or_of_nothing_parked_changes_nothing(bench: Bench) -> None:
    wishes = (ViewEventRetried(view="directory", position=1), ViewEventRetried(view="userdb", position=1))
    runner = bench.runner()
    async with running(runner):
        await bench.append(folder_created())
        await runner.reached(1)
        before = await bench.store.digest()
        await bench.log.append(Write(STREAM, wishes), origin=ORIGIN)
        await runner.reached(3)
    assert await bench.store.digest() == before


async def test_the_rate_makes_sense_again_at_once_where_the_clock_was_set_back(bench: Bench) -> None:
    clock = VirtualClock()
    runner = Runner(UserDatabases(bench.blobs), bench.store, bench.log, clock=clock)
    async with running(runner):
        for _ in range(3):
            await bench.append(message_filed(bench.blobs))
            await runner.reached(bench.log.head)
            clock.advance(1000)
        clock.advance(-3_600_000)
        await bench.append(message_filed(bench.blobs))
        await runner.reached(bench.log.head)
        clock.advance(1000)
        await bench.append(message_filed(bench.blobs))
        await runner.reached(bench.log.head)
        assert runner.rate == 1.0


@pytest.mark.parametrize("patient", [True, False])
async def test_who_stops_waiting_just_when_it_comes_about_is_told_no_nonsense(
    bench: Bench, patient: bool
) -> None:
    runner = bench.runner()
    loop, handles = asyncio.get_running_loop(), []
    waiting = asyncio.create_task(runner.reached(1, timeout=None if patient else 0.05))
    await asyncio.sleep(0)

    def go() -> None:
        # In one turn of the loop: the caller leaves, and the batch that it waits for is written.
        if patient:
            waiting.cancel()
        runner._written(1)

    handles.append(loop.call_later(0.05, go))
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    assert outcome is None or isinstance(outcome, (asyncio.CancelledError, Busy))


async def test_the_rate_is_that_of_the_last_seconds(bench: Bench) -> None:
    clock = bench.log.clock
    runner = Runner(UserDatabases(bench.blobs), bench.store, bench.log, clock=clock)
    async with running(runner):
        for _ in range(3):
            (record,) = await bench.append(message_filed(bench.blobs))
            await runner.reached(record.position)
            clock.advance(1000)  # type: ignore[attr-defined]
        assert runner.rate == 1.0
        clock.advance(60_000)  # type: ignore[attr-defined]
        assert runner.rate == 0.0


async def test_a_view_store_refusal_names_its_cause(bench: Bench) -> None:
    bench.store.faults = [InvalidInput("bad"), InvalidInput("bad", "very")]
    await bench.append(message_filed(bench.blobs))
    runner = bench.runner()
    async with running(runner):
        await runner.reached(1)
    assert await bench.store.parked() == {1: "InvalidInput: bad (very)"}
