"""What a rebuild promises: the same documents, revisions and sequence numbers, whatever the batches were."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import Conflict
from events.event import Event
from events.log.clock import VirtualClock
from projections.directory import Directory
from projections.feeder import Feeder, RunnerLimits
from projections.rebuild import Progress, RebuildCancelled, build, rebuild
from projections.runner import Runner
from projections.statistics import Statistics
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from projections.view_store import View
from tests.factories import (
    ORIGIN,
    OTHER,
    OWNER,
    Blobs,
    account_disabled,
    account_enabled,
    account_opened,
    document_written,
    email_claimed,
    folder_created,
    folder_removed,
    folder_renamed,
    interest_shown,
    message_filed,
    profile_changed,
    writes,
)
from tests.fakes.memory_log import MemoryLog

BLOBS = Blobs()


def _path(depth: int, hashes: str) -> tuple[str, ...]:
    """A revision path of this depth; the same hash at one generation means the same revision."""
    return tuple(f"{generation}-{hashes[generation - 1]}" for generation in range(depth, 0, -1))


_paths = st.builds(_path, st.integers(1, 3), st.text("ab", min_size=3, max_size=3))
_ids = st.sampled_from(["d1", "d2", "folder:f1", "m1"])
_folder = st.sampled_from(["f1", "f2"])
_name = st.text("xyz", min_size=1, max_size=2)
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda path, id_, body, deleted: document_written(BLOBS, *path, id=id_, body=body, deleted=deleted),
        _paths,
        _ids,
        st.dictionaries(_name, st.integers() | st.floats(allow_nan=False) | _name, max_size=2),
        st.booleans(),
    ),
    st.builds(
        lambda id_, found: message_filed(
            BLOBS, id=id_, filed_at=1, document=BLOBS.put_json(id=id_) if found else "00" * 32
        ),
        st.sampled_from(["m1", "m2"]),
        st.booleans(),
    ),
    st.builds(folder_created, _folder, _name),
    st.builds(folder_renamed, _folder, _name),
    st.builds(folder_removed, _folder),
    st.builds(interest_shown),
    st.just(account_opened()),
    st.just(account_disabled()),
    st.just(account_enabled()),
    st.just(email_claimed()),
    st.builds(lambda text: profile_changed({"company": text}), _name),
    st.just(document_written(BLOBS, "malformed", id="d3", body={})),
)
_stories = st.lists(st.tuples(_events, st.sampled_from([OWNER, OTHER])), max_size=30)


async def _log_of(story: Sequence[tuple[Event, str]]) -> MemoryLog:
    log = MemoryLog()
    for event, owner in story:
        await log.append(*writes([event], owner), origin=ORIGIN)
    return log


async def _built(view: View, log: MemoryLog, path: Path, sizes: Sequence[int]) -> tuple[str, dict[int, str]]:
    """Feed a new store in batches of these sizes, over and over; its digest and what is parked."""
    store = EmbeddedStore.open(path)
    feeder = Feeder(view, store, log, RunnerLimits())
    await feeder.start()
    for size in itertools.cycle(sizes):
        if feeder.position >= log.head:
            break
        records = await log.read(feeder.position, size)
        await feeder.feed(records, records[-1].position)
    result = await store.digest(), await store.parked()
    await store.close()
    return result


@pytest.mark.parametrize(
    "view", [UserDatabases(BLOBS), Statistics(), Directory()], ids=lambda view: view.name
)
@settings(max_examples=30, deadline=None)
@given(story=_stories, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4))
async def test_any_batches_give_the_same_bytes(
    view: View, story: list[tuple[Event, str]], sizes: list[int]
) -> None:
    log = await _log_of(story)
    with tempfile.TemporaryDirectory() as folder:
        whole = await _built(view, log, Path(folder) / "whole", [1000])
        parts = await _built(view, log, Path(folder) / "parts", sizes)
        single = await _built(view, log, Path(folder) / "single", [1])
    assert whole == parts == single


class Node:
    """A live view with its log and blobs, and a place for a rebuilt one."""

    def __init__(self, folder: Path, kind: type[EmbeddedStore]) -> None:
        self.log = MemoryLog()
        self.blobs = Blobs()
        self.live_path, self.aside_path = folder / "userdb.sqlite", folder / "userdb.rebuilt.sqlite"
        self.live = EmbeddedStore.open(self.live_path)
        self.aside = kind.open(self.aside_path)
        self.view = UserDatabases(self.blobs)
        self.runner = Runner(self.view, self.live, self.log)

    async def append(self, *events: Event) -> int:
        records = await self.log.append(*writes(events), origin=ORIGIN)
        return records[-1].position

    async def fill(self, messages: int = 12) -> None:
        filed = [message_filed(self.blobs) for _ in range(messages)]
        conflict = [
            document_written(self.blobs, path, "1-a", id="d", body={"n": path}) for path in ("2-b", "2-c")
        ]
        position = await self.append(*filed, folder_created(), *conflict, folder_renamed())
        await self.runner.reached(position)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            await self.runner.stop()
            await task


@pytest.fixture(params=[EmbeddedStore, BuildingStore])
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    made = Node(tmp_path, request.param)
    async with made.running():
        await made.fill()
        yield made
    await made.live.close()
    await made.aside.close()


async def test_a_rebuilt_view_is_the_live_one_to_the_byte(node: Node) -> None:
    report = await rebuild(node.view, node.log, node.live, node.aside, node.log.head)
    assert (report.differences, report.renumbered, report.newer) == (0, 0, 0)
    assert (report.documents, report.events, report.compared) == (14, 16, True)
    assert await node.aside.digest() == await node.live.digest()
    assert await node.aside.checkpoint() == await node.live.checkpoint()
    assert await node.aside.schema() == await node.live.schema()


async def test_a_rebuild_while_mail_arrives_compares_what_both_know(node: Node) -> None:
    upto = node.log.head
    positions: list[int] = []

    def append(_: Progress) -> None:
        positions.append(node.log.head)

    # Renames the folder and adds a message: both are behind the rebuild's position.
    late = await node.append(folder_renamed(name="Later"), message_filed(node.blobs))
    await node.runner.reached(late)
    report = await rebuild(node.view, node.log, node.live, node.aside, upto, append)
    assert (report.differences, report.newer) == (0, 2)
    assert positions
    await build(node.view, node.log, node.aside, node.runner.position)
    assert await node.aside.digest() == await node.live.digest()


async def test_a_rebuilt_store_is_swapped_in_while_the_runner_pauses(node: Node) -> None:
    await rebuild(node.view, node.log, node.live, node.aside, 5)
    before = await node.live.digest()
    async with node.runner.paused() as position:
        await build(node.view, node.log, node.aside, position)
        await node.aside.close()
        await node.live.swap_in(node.aside_path)
    assert await node.live.digest() == before
    await node.runner.reached(await node.append(message_filed(node.blobs, id="after")))
    assert len([d async for d in node.live.documents((await node.live.databases())[0])]) == 15


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE document SET body = CAST(replace(body, 'inbox', 'other') AS BLOB) WHERE id LIKE 'message-%'",
        "DELETE FROM document WHERE id = 'd'",
        "UPDATE document SET tree = (SELECT tree FROM document WHERE id = 'd') WHERE id = 'folder:f1'",
        "UPDATE document SET deleted = 1 WHERE id = 'folder:f1'",
        "UPDATE document SET id = 'e' WHERE id = 'd'",
    ],
)
async def test_a_live_row_that_was_altered_shows(node: Node, damage: str) -> None:
    with closing(sqlite3.connect(node.live_path.resolve())) as connection, connection:
        changed = connection.execute(damage).rowcount
    assert changed > 0
    report = await rebuild(node.view, node.log, node.live, node.aside, node.log.head)
    assert report.differences >= changed
    assert len(report.first) == report.differences


async def test_only_the_first_differences_are_named(node: Node) -> None:
    await node.runner.reached(await node.append(*(message_filed(node.blobs) for _ in range(30))))
    with closing(sqlite3.connect(node.live_path.resolve())) as connection, connection:
        connection.execute("UPDATE document SET body = x'7b7d'")
    report = await rebuild(node.view, node.log, node.live, node.aside, node.log.head)
    assert report.differences == 44
    assert len(report.first) == 20


async def test_cancelling_leaves_the_live_view_as_it_was(
    node: Node, slow_batches: Callable[[int], None]
) -> None:
    slow_batches(2)
    before = await node.live.digest()
    looks = iter([False, False, True])
    with pytest.raises(RebuildCancelled):
        await rebuild(node.view, node.log, node.live, node.aside, 16, cancelled=lambda: next(looks))
    assert await node.aside.checkpoint() == 4
    await node.aside.close()
    EmbeddedStore.remove(node.aside_path)
    assert await node.live.digest() == before
    assert not list(node.aside_path.parent.glob(f"{node.aside_path.name}*"))
    await node.runner.reached(await node.append(message_filed(node.blobs)))


async def test_a_comparison_can_be_cancelled_too(node: Node) -> None:
    looks = iter([False, True])
    with pytest.raises(RebuildCancelled):
        await rebuild(node.view, node.log, node.live, node.aside, 16, cancelled=lambda: next(looks))
    assert await node.aside.checkpoint() == 16


async def test_a_cancelled_build_can_be_continued(node: Node) -> None:
    for upto in (1, 7, 7, node.log.head):
        await build(node.view, node.log, node.aside, upto)
        assert await node.aside.checkpoint() == upto
    assert await node.aside.digest() == await node.live.digest()


async def test_a_store_that_is_too_far_or_of_another_schema_is_not_continued(node: Node) -> None:
    await build(node.view, node.log, node.aside, 5)
    with pytest.raises(Conflict):
        await build(node.view, node.log, node.aside, 4)
    node.view.schema += 1
    with pytest.raises(Conflict):
        await build(node.view, node.log, node.aside, 9)
    assert await node.aside.checkpoint() == 5


async def test_an_event_that_was_parked_and_retried_keeps_its_number_in_a_rebuild(node: Node) -> None:
    late = node.blobs.put_json(id="late")
    body = node.blobs.bodies.pop(late)
    position = await node.append(
        message_filed(node.blobs, id="late", document=late), message_filed(node.blobs)
    )
    await node.runner.reached(position)
    node.blobs.bodies[late] = body
    await node.runner.retry(position - 1)
    report = await rebuild(node.view, node.log, node.live, node.aside, node.log.head)
    assert (report.differences, report.renumbered, report.parked) == (0, 0, 0)
    assert await node.aside.digest() == await node.live.digest()


async def test_only_the_retry_that_worked_counts_in_a_rebuild(node: Node) -> None:
    late = node.blobs.put_json(id="late")
    body = node.blobs.bodies.pop(late)
    position = await node.append(message_filed(node.blobs, id="late", document=late))
    await node.runner.reached(position)
    with pytest.raises(Exception, match="failed again"):
        await node.runner.retry(position)
    await node.append(message_filed(node.blobs))
    node.blobs.bodies[late] = body
    await node.runner.retry(position)
    # Stop between the event and its retry, then go on: the wish is found again.
    await build(node.view, node.log, node.aside, position + 1)
    await build(node.view, node.log, node.aside, node.log.head)
    assert await node.aside.digest() == await node.live.digest()
    assert await node.aside.parked() == {}


async def test_what_a_rebuild_could_take_in_but_the_live_view_could_not_is_a_difference(node: Node) -> None:
    late = node.blobs.put_json(id="late")
    body = node.blobs.bodies.pop(late)
    await node.runner.reached(await node.append(message_filed(node.blobs, id="late", document=late)))
    node.blobs.bodies[late] = body
    report = await rebuild(node.view, node.log, node.live, node.aside, node.log.head)
    assert [place[1] for place in report.first] == ["late"]


async def test_without_a_live_view_the_documents_are_counted(node: Node) -> None:
    report = await rebuild(node.view, node.log, None, node.aside, node.log.head)
    assert (report.documents, report.compared, report.differences) == (14, False, 0)


async def test_progress_is_told_at_bounded_intervals_and_at_the_end(node: Node) -> None:
    told: list[Progress] = []
    clock = VirtualClock()
    await build(node.view, node.log, node.aside, 4, progress=told.append, clock=clock)
    assert [progress.position for progress in told] == [4, 4]
    assert told[-1].total == 4
    assert told[-1].seconds_left == 0


@pytest.fixture
def slow_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def to(size: int) -> None:
        monkeypatch.setattr("projections.rebuild.BATCH", size)

    return to


async def test_progress_tells_position_rate_and_time_left(
    node: Node, slow_batches: Callable[[int], None]
) -> None:
    slow_batches(2)
    told: list[Progress] = []
    clock = VirtualClock()

    def tell(progress: Progress) -> None:
        told.append(progress)
        clock.advance(40)

    def going_on() -> bool:
        clock.advance(40)
        return False

    await build(node.view, node.log, node.aside, 16, progress=tell, cancelled=going_on, clock=clock)
    assert len(told) < 8
    assert [p.position for p in told] == sorted(p.position for p in told)
    assert told[0].events_per_second == pytest.approx(2 * 1000 / 40)
    assert told[0].seconds_left == pytest.approx(14 / 50)
