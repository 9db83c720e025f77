"""Writers who know nothing of each other: dense positions and versions, no event lost, none invented."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from actors import mailbox
from actors.messages import Execute
from events.errors import VersionConflict
from events.event import Recorded
from events.log.clock import SystemClock
from events.log.log import ANY_VERSION, Log, Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mailbox import InterestShown, ShowInterest
from tests.factories import Blobs, message_filed
from tests.fakes.memory_log import MemoryLog
from tests.properties.machinery import OWNERS, Machinery

STREAMS = ("mailbox-a", "mailbox-b", "mailbox-c")

appends = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(1, 3)), min_size=1, max_size=2, unique_by=lambda w: w[0]),
        st.one_of(st.just(ANY_VERSION), st.integers(0, 4)),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=20,
)  # fmt: skip
"""Of each writer: streams with the number of events, the version it expects, and loop turns it waits before."""


async def write_all(log: Log, orders: list[tuple[list[tuple[str, int]], int, int]]) -> list[list[Recorded]]:
    """Let all writers go at once; return what each was told was recorded ([] for a conflict)."""
    blobs = Blobs()

    async def write(groups: list[tuple[str, int]], expected: int, turns: int) -> list[Recorded]:
        writes = [
            Write(stream, tuple(message_filed(blobs) for _ in range(count)), expected)
            for stream, count in groups
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            return await log.append(*writes, origin=Origin(actor="test"))
        except VersionConflict:
            return []

    return await asyncio.gather(*(write(*order) for order in orders))


@settings(max_examples=15, deadline=None)
@given(appends)
def test_any_interleaving_of_writers_gives_dense_versions_and_loses_nothing(
    orders: list[tuple[list[tuple[str, int]], int, int]],
) -> None:
    async def run(folder: Path) -> None:
        log = SqliteLog.open(folder / "log.sqlite", SystemClock(), "test")
        told = [record for answer in await write_all(log, orders) for record in answer]
        kept = await log.read(0, 10_000)
        assert sorted(told, key=lambda record: record.position) == kept
        assert [record.position for record in kept] == list(range(1, len(kept) + 1))
        versions: dict[str, list[int]] = defaultdict(list)
        for record in kept:
            versions[record.stream].append(record.version)
        assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
        assert [step.bad async for step in log.verify()][-1:] in ([], [None])
        await log.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


commands = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 3)), max_size=25)
"""Which of three workers, which message, and how many loop turns later."""


@settings(max_examples=30, deadline=None)
@given(commands)
def test_workers_that_share_a_mailbox_count_each_message_once(orders: list[tuple[int, int, int]]) -> None:
    """Each worker has actors of its own, so all of them decide on states that may be old."""

    async def run() -> None:
        log = MemoryLog(syncs=2)
        workers = [Machinery(log) for _ in range(3)]

        async def show(worker: int, message: int, turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            command = Execute(ShowInterest("ann", str(message)), Origin(actor="test"))
            await workers[worker].system.ask(mailbox.KIND, OWNERS[0], command)

        await asyncio.gather(*(show(*order) for order in orders))
        shown = Counter(r.event.message for r in log.records if isinstance(r.event, InterestShown))
        assert shown == Counter({str(message): 1 for _, message, _ in orders})
        assert [record.version for record in log.records] == list(range(1, len(log.records) + 1))
        for worker in workers:
            await worker.close()

    asyncio.run(run())
