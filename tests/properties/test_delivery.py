"""However often an event is delivered, and whatever becomes of snapshots, the log and all states stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.routes import ROUTES
from actors.runtime.aggregate import AggregateActor
from actors.runtime.reaction import React
from events.errors import AlreadyAnswered
from events.event import Event, Recorded
from events.identity import handshake_id
from tests.fakes.memory_log import MemoryCheckpoints, MemoryLog, MemorySnapshots
from tests.properties.machinery import (
    OWNERS,
    SENDERS,
    SNAPSHOT_EVERY,
    Machinery,
    append,
    handshake_removed,
    handshake_written,
    mail_accepted,
)

IDS = [handshake_id(OWNERS[0], sender) for sender in SENDERS]
STATUSES = st.sampled_from(["accepted", "revoked", "request", "notfound"])

stories = st.lists(
    st.one_of(
        st.builds(mail_accepted, st.sampled_from(SENDERS), st.sampled_from(OWNERS)),
        st.builds(mail_accepted, st.sampled_from(SENDERS), st.just(OWNERS[0]), st.just(OWNERS[1])),
        st.builds(handshake_written, st.sampled_from(IDS), STATUSES, st.integers(0, 3)),
        st.builds(handshake_removed, st.sampled_from(IDS)),
    ),
    min_size=1,
    max_size=12,
)
"""What comes in through the doors, in the order of the log; all documents are the first owner's."""

FORGOTTEN_TWICE = [
    handshake_written(IDS[0], "accepted", 1),
    handshake_removed(IDS[0]),
    handshake_removed(IDS[0]),
    handshake_written(IDS[0], "revoked", 2),
]
"""Two leaves of a document are deleted, then its sender is revoked."""


async def told(log: MemoryLog, story: Sequence[Event]) -> Machinery:
    """Let the story happen, event by event, each worked off before the next: what it is compared with."""
    machinery = Machinery(log)
    for number, event in enumerate(story):
        await append(log, event, OWNERS[0], number)
        await machinery.dispatch()
    return machinery


def facts(log: MemoryLog) -> list[tuple[str, int, Event, str]]:
    return [(r.stream, r.version, r.event, r.metadata.causation) for r in log.records]


@settings(max_examples=60, deadline=None)
@given(story=stories, back=st.lists(st.floats(0, 1), min_size=1, max_size=3))
@example(story=FORGOTTEN_TWICE, back=[0.0])
def test_a_dispatcher_that_starts_again_further_back_changes_nothing(
    story: Sequence[Event], back: list[float]
) -> None:
    """A crash loses the newest checkpoints: every event after the last one that was kept is told again."""

    async def run() -> None:
        log = MemoryLog()
        first = await told(log, story)
        expected, states = facts(log), await first.states()
        for fraction in back:
            checkpoints = MemoryCheckpoints()
            checkpoints.positions["mail"] = int(fraction * log.head)
            again = Machinery(log, checkpoints=checkpoints)
            await again.dispatch()
            assert facts(log) == expected
            assert await again.states() == states
            await again.close()
        await first.close()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(story=stories, data=st.data())
@example(story=FORGOTTEN_TWICE, data=None)
def test_an_event_delivered_up_to_three_times_is_answered_once(
    story: Sequence[Event], data: st.DataObject | None
) -> None:
    """In the allowed order: those of one actor stay in the order of the log, repeats may come at any later time."""

    async def run() -> None:
        log = MemoryLog()
        machinery = Machinery(log)
        delivered: list[Recorded] = []
        for number, event in enumerate(story):
            await append(log, event, OWNERS[0], number)
            record = next(r for r in reversed(log.records) if r.event is event)
            await deliver(machinery, record)
            delivered.append(record)
            before, states = facts(log), await machinery.states()
            for again in data.draw(repeats(delivered)) if data else delivered:
                await deliver(machinery, again)
            assert facts(log) == before
            assert await machinery.states() == states
        await machinery.close()

    asyncio.run(run())


def repeats(delivered: list[Recorded]) -> st.SearchStrategy[list[Recorded]]:
    return st.lists(st.sampled_from(delivered), max_size=2).map(
        lambda chosen: sorted(chosen, key=lambda r: r.position)
    )


async def deliver(machinery: Machinery, record: Recorded) -> None:
    route = ROUTES.get(type(record.event).__name__)
    for kind, key in route(record) if route else ():
        try:
            await machinery.system.ask(kind, key, React(record))
        except AlreadyAnswered:
            continue


@settings(max_examples=40, deadline=None)
@given(story=stories, data=st.data())
def test_any_snapshots_may_be_lost_at_any_time(story: Sequence[Event], data: st.DataObject) -> None:
    """A node whose actors are put to sleep and lose snapshots ends as one whose actors never sleep."""

    async def run(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(AggregateActor, "snapshot_every", SNAPSHOT_EVERY)
        reference = await told(MemoryLog(), story)
        log, snapshots, checkpoints = MemoryLog(), MemorySnapshots(), MemoryCheckpoints()
        for number, event in enumerate(story):
            machinery = Machinery(log, snapshots, checkpoints)
            await append(log, event, OWNERS[0], number)
            await machinery.dispatch()
            await machinery.close()
            taken = sorted(snapshots.taken)
            for lost in data.draw(st.lists(st.sampled_from(taken), unique=True)) if taken else ():
                del snapshots.taken[lost]
        last = Machinery(log, snapshots, checkpoints)
        assert await last.states() == await reference.states()
        await last.close()
        await reference.close()

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(run(patch))
