"""Making a view again from the log, beside the live one, and telling how the two differ.

It reads the log and the live store and writes only aside, so the node may go on meanwhile. Putting the
result in place is the caller's: `build` once more, to the live position, then swap.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

from events.errors import Conflict, MailioError
from events.log.clock import SystemClock
from events.log.log import Clock, Log
from projections.feeder import Feeder, ParkingStore, RunnerLimits, Stopped
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Document, View

BATCH = 1_000
"""Events written in one transaction: nobody waits for them to show."""

PATIENCE = 7
"""Tries, over some six seconds, while log, blobs or store fail: somebody waits for the end of it."""

FIRST_DIFFERENCES = 20
"""Differing documents that a report names."""

PROGRESS_INTERVAL_MS = 100
"""Progress is told ten times a second at most."""


class Progress(msgspec.Struct, frozen=True):
    """How far a rebuild is: log positions done and to do in all, their rate, and seconds left (estimated)."""

    position: int
    total: int
    events_per_second: float
    seconds_left: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild found.

    `differences` counts documents that the live store has otherwise (or has, or lacks); `first` names the
    first of them as (database, id). `renumbered` counts those that differ in nothing but the sequence number,
    `newer` those that changed since and so were not compared. `events` counts the view's events, `parked`
    those that it could not take in.
    """

    documents: int = 0
    events: int = 0
    seconds: float = 0.0
    parked: int = 0
    compared: bool = False
    differences: int = 0
    first: tuple[tuple[str, str], ...] = ()
    renumbered: int = 0
    newer: int = 0


class RebuildCancelled(MailioError):
    """Somebody asked to stop. What was built aside is incomplete: the caller removes it."""


class Finding(Enum):
    """What comparing one document gave."""

    SAME = "same"
    DIFFERENT = "different"
    RENUMBERED = "renumbered"
    NEWER = "newer"


Tell = Callable[[Progress], None]
Cancelled = Callable[[], bool]


async def rebuild(  # noqa: PLR0917 - what is built, from what, into what, how far, and who is told
    view: View,
    log: Log,
    live: EmbeddedStore | None,
    aside: EmbeddedStore,
    upto: int,
    progress: Tell = lambda _: None,
    cancelled: Cancelled = lambda: False,
    *,
    clock: Clock | None = None,
) -> Report:
    """Build the view aside from the log's first `upto` events, then compare it with the live store.

    Raises RebuildCancelled, what the log raises when it can't be read, and Misconfigured.
    """
    clock = clock or SystemClock()
    began = clock.now()
    feeder = await build(view, log, aside, upto, progress=progress, cancelled=cancelled, clock=clock)
    comparison = _Comparison(cancelled)
    if live is not None:
        await comparison.run(live, aside, min(upto, await live.checkpoint()))
    else:
        await comparison.count(aside)
    return Report(
        documents=comparison.documents,
        events=feeder.status.events,
        seconds=(clock.now() - began) / 1000,
        parked=len(await aside.parked()),
        compared=live is not None,
        differences=comparison.findings[Finding.DIFFERENT],
        first=tuple(comparison.first),
        renumbered=comparison.findings[Finding.RENUMBERED],
        newer=comparison.findings[Finding.NEWER],
    )


async def build(
    view: View,
    log: Log,
    store: ParkingStore,
    upto: int,
    *,
    progress: Tell = lambda _: None,
    cancelled: Cancelled = lambda: False,
    clock: Clock | None = None,
) -> Feeder:
    """Bring a store from where it is to position `upto`; return the feeder that did it.

    Raises RebuildCancelled, what log, blobs or store raise when they can't be used for some seconds, and
    Conflict when the store was begun by another schema of the view or is further than `upto` (it can't go
    back).
    """
    feeder = Feeder(view, store, log, RunnerLimits(batch=BATCH), patience=PATIENCE)
    try:
        await _build(feeder, upto, progress, cancelled, clock or SystemClock())
    except Stopped as stopped:
        raise stopped.__cause__ or stopped from None
    return feeder


async def _build(feeder: Feeder, upto: int, progress: Tell, cancelled: Cancelled, clock: Clock) -> None:
    view, store = feeder.view, feeder.store
    await feeder.start()
    if await store.schema() not in {0, view.schema} or feeder.position > upto:
        raise Conflict(f"view {view.name}: what was built can't be continued: remove it and begin again")
    meter = _Meter(feeder.position, upto, progress, clock)
    while feeder.position < upto:
        _go_on(cancelled)
        records = await feeder.read(feeder.position, BATCH)
        wanted = [record for record in records if record.position <= upto]
        whole = len(records) < BATCH or len(wanted) < len(records)
        await feeder.feed(wanted, upto if whole else wanted[-1].position)
        meter.tell(feeder.position)
    await feeder.settle()
    meter.tell(feeder.position, last=True)


def _go_on(cancelled: Cancelled) -> None:
    if cancelled():
        raise RebuildCancelled("the rebuild was cancelled; the live view is as it was")


class _Meter:
    """Tells progress, not too often."""

    def __init__(self, position: int, total: int, tell: Tell, clock: Clock) -> None:
        self._first = position
        self._total = total
        self._tell = tell
        self._clock = clock
        self._began = clock.now()
        self._told = self._began - PROGRESS_INTERVAL_MS

    def tell(self, position: int, *, last: bool = False) -> None:
        now = self._clock.now()
        if not last and now - self._told < PROGRESS_INTERVAL_MS:
            return
        self._told = now
        rate = (position - self._first) * 1000 / max(1, now - self._began)
        left = (self._total - position) / rate if rate else 0.0
        self._tell(Progress(position, self._total, rate, left))


class _Comparison:
    """Compares two stores and counts what it finds."""

    def __init__(self, cancelled: Cancelled) -> None:
        self.documents = 0
        self.findings = dict.fromkeys(Finding, 0)
        self.first: list[tuple[str, str]] = []
        self._cancelled = cancelled

    async def run(self, live: EmbeddedStore, aside: EmbeddedStore, horizon: int) -> None:
        """Compare what both were at position `horizon`; what changed later in either counts as newer."""
        await self.count(aside)
        different: list[tuple[str, str]] = []
        async for places in aside.differences(live):
            _go_on(self._cancelled)
            for place in places:
                finding = judge(await live.get(*place), await aside.get(*place), horizon)
                self.findings[finding] += 1
                if finding is Finding.DIFFERENT:
                    different.append(place)
        self.first = sorted(different)[:FIRST_DIFFERENCES]

    async def count(self, aside: EmbeddedStore) -> None:
        """Only count the documents."""
        self.documents = await aside.count()


def judge(live: Document | None, aside: Document | None, horizon: int) -> Finding:
    """Compare one document as it was at `horizon`.

    A document whose last change is later says nothing about that time. An event that was parked and never
    retried by an operator may have been taken in by the rebuild: that is a difference.
    """
    if any(document and document.seq > horizon for document in (live, aside)):
        return Finding.NEWER
    if live is None or aside is None or live.tree != aside.tree or live.winner != aside.winner:
        return Finding.DIFFERENT
    return Finding.SAME if live.seq == aside.seq else Finding.RENUMBERED
