"""Taking events into a view's store, batch by batch: what a runner and a rebuild have in common.

What fails for a while (blobs or disk away, node busy) is tried again until it works, and shown in `status`.
What fails for good is parked with its reason, and the view goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import structlog

from events.errors import Gone, MailioError, Misconfigured
from events.event import Recorded
from events.log.log import Log
from events.view import STREAM, ViewEventRetried
from projections.overlay import Overlay
from projections.view_store import Effect, View, ViewStore

_log = structlog.get_logger("projections")

Result = TypeVar("Result")
Sleep = Callable[[float], Awaitable[None]]

REASON_LENGTH = 500
"""Characters kept of the reason why an event is parked."""

MAX_DOUBLINGS = 20
"""Keeps the power in the back-off small; the pause has reached its bound long before."""


class RunnerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the runner of each view."""

    checkpoint_events: int = 1_000
    """Events that matter nothing to a view before its checkpoint is stored for their sake alone."""
    batch: int = 500
    """Events written to a view's store in one transaction at most; fewer when no more are there."""
    attempts: int = 5
    """Tries of an event that fails by an unforeseen I/O error before it is parked."""
    backoff_seconds: float = 0.05
    """Pause after the first failed try; doubled after each further one …"""
    backoff_most_seconds: float = 10.0
    """… up to this."""
    reached_seconds: float = 10.0
    """How long a caller waits for its own write to show before it is told to come back."""


class Parking(Protocol):
    """Where a store keeps the positions of events that its view could not take in."""

    async def park(self, position: int, reason: str) -> None:
        """Note the event and why; again for the same position replaces the reason."""

    async def unpark(self, position: int) -> bool:
        """Forget it; tell whether there was one."""

    async def parked(self) -> dict[int, str]:
        """Return the reasons by position."""


class ParkingStore(ViewStore, Parking, Protocol):
    """A view store that also keeps what could not be taken in."""


class Status(msgspec.Struct, kw_only=True):
    """What was done since the start, and what is being waited for now ("" when nothing fails)."""

    events: int = 0
    changes: int = 0
    batches: int = 0
    parked: int = 0
    retries: int = 0
    waiting_for: str = ""


class Stopped(Exception):
    """The feeder was asked to stop while it waited for something that fails, or has waited long enough."""


class _Refused(Exception):
    """The store refused a batch for good."""


class _Unfit(Exception):
    """The view can't take an event in, however often it is tried."""


class Feeder:
    """Takes records, in log order, into one view's store.

    What fails for now is tried again, `patience` times where that is given, else for ever.
    `on_written` is called with each new checkpoint once it is in the store. Set `stopping` to end a wait
    for something that fails.
    """

    def __init__(
        self,
        view: View,
        store: ParkingStore,
        log: Log,
        limits: RunnerLimits,
        *,
        sleep: Sleep = asyncio.sleep,
        patience: int | None = None,
        on_written: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.view = view
        self.store = store
        self.position = 0
        self.types = view.types | {ViewEventRetried.__name__}
        self.status = Status()
        self.stopping = asyncio.Event()
        self._log = log
        self._limits = limits
        self._sleep = sleep
        self._patience = patience
        self._on_written = on_written
        self._stored = 0
        self._parked_since = False
        self._postponed: dict[int, int] = {}

    async def start(self) -> None:
        """Find out how far the store is, and which of the coming events an operator retried later.

        Those are left for the place of their retry: the same sequence numbers come out as did then.
        """
        self.position = self._stored = await self.store.checkpoint()
        for record in await self._log.stream(STREAM):
            event, at = record.event, record.position
            if isinstance(event, ViewEventRetried) and event.view == self.view.name and at > self.position:
                self._postponed[event.position] = at

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """Read the next records that matter to the view; wait while the log can't be read."""
        return await self.patiently(lambda: self._log.read(after, limit, self.types))

    async def feed(self, records: Sequence[Recorded], checkpoint: int) -> None:
        """Take records in and move the checkpoint, in the end to `checkpoint`.

        Records of other types than `types` are passed over. Raises Stopped, and Misconfigured when the store
        is damaged: then a first part of the records may be in the store, and its checkpoint says so.
        """
        batch: list[Recorded] = []
        for record in records:
            if isinstance(record.event, ViewEventRetried):
                if await self._concerns(record.event, record.position):
                    await self._feed(batch, record.position - 1)
                    batch = []
                    await self._retry(record.event.position, record.position)
            elif record.position in self._postponed:
                await self._park(record.position, "an operator has this event tried again later")
            elif type(record.event).__name__ in self.types:
                batch.append(record)
        await self._feed(batch, checkpoint)

    async def _feed(self, records: Sequence[Recorded], checkpoint: int) -> None:
        overlay = Overlay(self.store, self.position, self._write)
        try:
            for record in records:
                try:
                    changes = await self._applied(record, overlay)
                except _Unfit as error:
                    await self._park(record.position, str(error))
                    changes = ()
                await overlay.add(changes, record.position)
            overlay.position = checkpoint
            await overlay.flush()
        except _Refused:
            # One event of the batch is the culprit: alone, it shows.
            for record in records:
                if record.position > self.position:
                    await self._alone(record, record.position)
            await self._write([], checkpoint)
        self.status.events += len(records)

    async def _alone(self, record: Recorded, parked_as: int) -> bool:
        """Take one record in; tell whether that worked, or it is parked now."""
        overlay = Overlay(self.store, self.position, self._write)
        try:
            await overlay.add(await self._applied(record, overlay), record.position)
            await overlay.flush()
        except (_Unfit, _Refused) as error:
            if not isinstance(error.__cause__, Gone):
                await self._park(parked_as, str(error))
            await self._write([], record.position)
            return False
        return True

    async def _concerns(self, retried: ViewEventRetried, at: int) -> bool:
        """Whether a retry is this view's, the last of its event as far as is known, and still wanted."""
        position = retried.position
        if retried.view != self.view.name or self._postponed.get(position, at) != at:
            return False
        return position in await self.patiently(self.store.parked)

    async def _retry(self, position: int, at: int) -> None:
        """Apply a parked event as if it stood at the position of its retry."""
        (record,) = await self.patiently(lambda: self._log.read(position - 1, 1))
        self._postponed.pop(position, None)
        if await self._alone(msgspec.structs.replace(record, position=at), parked_as=position):
            await self.patiently(lambda: self.store.unpark(position))

    async def _applied(self, record: Recorded, overlay: Overlay) -> Sequence[Effect]:
        tries = 0
        while True:
            try:
                changes = await self.view.apply(record, overlay)
            except (Misconfigured, Stopped, _Refused):
                raise
            except Gone:
                # Whoever it is about was erased; the event that says so comes later in the log.
                return ()
            except Exception as error:
                tries += 1
                if not self._may_pass(error, tries):
                    raise _Unfit(describe(error)) from error
                await overlay.flush()
                await self.pause(error, tries)
            else:
                self.status.waiting_for = ""
                return changes

    def _may_pass(self, error: Exception, tries: int) -> bool:
        if isinstance(error, MailioError):
            return error.temporary
        return isinstance(error, OSError) and tries < self._limits.attempts

    async def _write(self, changes: Sequence[Effect], checkpoint: int) -> None:
        if not changes and not self._is_due(checkpoint):
            self._advance(checkpoint)
            return
        try:
            await self.patiently(lambda: self.store.write(changes, checkpoint, self.view.schema))
        except Misconfigured:
            raise
        except MailioError as error:
            raise _Refused(describe(error)) from error
        self._stored, self._parked_since = checkpoint, False
        self.status.batches += 1
        self.status.changes += len(changes)
        self._advance(checkpoint)

    def _is_due(self, checkpoint: int) -> bool:
        """Whether a checkpoint has to be stored although nothing else is to be written with it."""
        return self._parked_since or checkpoint - self._stored >= self._limits.checkpoint_events

    def _advance(self, position: int) -> None:
        """Note that everything up to `position` is taken in."""
        if position != self.position:
            self.position = position
            self._on_written(position)

    async def settle(self) -> None:
        """Store a checkpoint that was only kept in memory, because nothing was to be written at it."""
        if self._stored < self.position:
            await self.patiently(lambda: self.store.write([], self.position, self.view.schema))
            self._stored = self.position

    async def _park(self, position: int, reason: str) -> None:
        await self.patiently(lambda: self.store.park(position, reason))
        self._parked_since = True
        self.status.parked += 1
        _log.warning("event parked", view=self.view.name, position=position, reason=reason)

    async def patiently(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do some work on storage, again and again while that is away. Raises Stopped when told to stop."""
        tries = 0
        while True:
            try:
                result = await work()
            except (MailioError, OSError) as error:
                if isinstance(error, MailioError) and not error.temporary:
                    raise
                tries += 1
                await self.pause(error, tries)
            else:
                self.status.waiting_for = ""
                return result

    async def pause(self, error: Exception, tries: int) -> None:
        """Wait before the next try, longer each time. Raises Stopped when told to, or out of patience."""
        if self._patience is not None and tries > self._patience:
            raise Stopped from error
        self.status.retries += 1
        self.status.waiting_for = describe(error)
        _log.warning("view waits", view=self.view.name, tries=tries, reason=self.status.waiting_for)
        seconds = min(
            self._limits.backoff_seconds * 2.0 ** min(tries - 1, MAX_DOUBLINGS),
            self._limits.backoff_most_seconds,
        )
        async with asyncio.TaskGroup() as race:
            slept = race.create_task(_finish(self._sleep(seconds)))
            stopped = race.create_task(_finish(self.stopping.wait()))
            await asyncio.wait({slept, stopped}, return_when=asyncio.FIRST_COMPLETED)
            slept.cancel()
            stopped.cancel()
        if self.stopping.is_set():
            raise Stopped


async def _finish(work: Awaitable[object]) -> None:
    await work


def describe(error: Exception) -> str:
    """Say in one bounded, printable line what went wrong: parts of it come from strangers."""
    text = f"{type(error).__name__}: {error}"[:REASON_LENGTH]
    return "".join(character if character.isprintable() else "?" for character in text)
