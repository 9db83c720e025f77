"""One destination: what waits for it is delivered in order, at its pace, and never by waiting for others.

The attempt is recorded before the peer is dialled, its end after the peer has answered; between the two the
actor is free. It is the only one that writes the streams of the deliveries to its destination, from their
promise on. Its memory is a window on the queue (`actors.window`), and the state of the destination.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import islice

import msgspec

from actors import reporting
from actors.messages import Inspect
from actors.outgoing import KIND, Concluded, Ended, Outgoing
from actors.runtime.aggregate import AggregateActor, fold
from actors.runtime.loop_actor import report
from actors.runtime.timers import Wake
from actors.window import NEVER, Window
from events import delivery, destination
from events.attempt import Cause, Outcome
from events.delivery import (
    AttemptStarted,
    Cancel,
    ConcludeAttempt,
    Delivery,
    DeliveryDeferred,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryScheduled,
    Drop,
    Hasten,
    Hold,
    MessageDelivered,
    NoteReport,
    Phase,
    Release,
    StartAttempt,
)
from events.destination import (
    Breaker,
    Command,
    Destination,
    DestinationEvent,
    NoteAnswer,
    NoteContact,
    NoteFailure,
    NotePause,
    Reset,
    StartProbe,
)
from events.errors import AlreadyAnswered, Conflict, Gone, MailioError, NotFound, VersionConflict
from events.event import Recorded
from events.log import failpoints
from events.log.log import Log, Origin, SnapshotStore, Write

LOG_PAUSE_MS = 1_000
"""Pause after the log could not be written."""

BUSY_PAUSE_MS = 1_000
"""Pause that a peer gets who asks for one and does not say how long."""


Decided = tuple[Delivery, Sequence[DeliveryEvent]]
"""A delivery, and what is to be recorded of it."""


class Intervene(msgspec.Struct, frozen=True):
    """Message to a federation actor: do this to one delivery. The answer is its new state."""

    delivery: str
    command: Cancel | Drop | Hasten | Hold | Release | NoteReport
    actor: str


class ResetDestination(msgspec.Struct, frozen=True):
    """Message to a federation actor: forget the failures and try now. The answer is the destination."""

    actor: str


class FederationActor(AggregateActor[Destination, Command]):
    """The destination `key`, a domain."""

    state_type = Destination
    questions = (Inspect,)
    stream_of = staticmethod(destination.stream)
    initial = staticmethod(destination.initial)
    decide = staticmethod(destination.decide)
    evolve = staticmethod(destination.evolve)

    def __init__(self, key: str, log: Log, snapshots: SnapshotStore, *, outgoing: Outgoing) -> None:
        super().__init__(key, log, snapshots)
        self._outgoing = outgoing
        self._clock = outgoing.clock
        self._settings = outgoing.settings
        self._window = Window()
        self._position = 0
        self._seen = 0
        self._own = Origin(actor=f"{KIND}/{key}")

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done and no attempt is under way."""
        return super().idle and not self._outgoing.running.get(self.key)

    async def on_activate(self) -> None:
        """Restore the state of the destination; the window is filled when it is needed."""
        await super().on_activate()
        self._outgoing.note(self.state)

    async def react(self, record: Recorded) -> None:
        """Take a new delivery in, or promise a report about a message that came from this peer."""
        await self.react_all((record,))

    async def react_all(self, records: Sequence[Recorded]) -> None:
        """Do the same with several at once."""
        for record in await self._promise_reports(records):
            await self._take_in(record)
        await self._go_on()

    def handle(self, message: object) -> object:
        """Answer `Wake`, `Concluded`, `Inspect`, and what operators and senders want."""
        match message:
            case Inspect():
                return self.state
            case Concluded() if not self._outgoing.has_ended(self.key):
                return None  # An earlier word has settled this end with its own.
            case Wake() | Concluded():
                return self._woken()
            case Intervene():
                return self._intervene(message)
            case ResetDestination():
                return self._reset(message.actor)
            case _:
                raise TypeError(f"a federation actor is not told {type(message).__name__}")

    # Taking in

    async def _take_in(self, record: Recorded) -> None:
        """Take a delivery in, unless it has got on since: the queue may have shown it before it was told."""
        assert isinstance(record.event, DeliveryScheduled)
        self._position = max(self._position, record.position)
        key = record.stream.removeprefix(delivery.STREAM)
        if record.position > self._seen:
            self._seen = record.position
            state = delivery.evolve(delivery.initial(key), record.event)
        elif not self._window.complete:
            return  # It waits in the queue, which is where the window finds it: no need to read its stream.
        else:
            state = await self._known(key)
        if state.phase is Phase.WAITING:
            self._window.offer(state)

    async def _promise_reports(self, records: Sequence[Recorded]) -> list[Recorded]:
        """Schedule the notifications of wire spec section 3.3.6; return all deliveries that are new.

        A second time the log refuses one; then each is tried by itself.
        """
        new = [record for record in records if isinstance(record.event, DeliveryScheduled)]
        orders = [
            self._report(record) for record in records if not isinstance(record.event, DeliveryScheduled)
        ]
        try:
            return [*new, *await self.log.append_all(orders)] if orders else new
        except (Conflict, Gone):
            pass
        for order, origin in orders:
            with suppress(AlreadyAnswered, VersionConflict, Gone):
                new += await self.log.append(order, origin=origin)
        return new

    def _report(self, record: Recorded) -> tuple[Write, Origin]:
        order = reporting.order(record, self.key, self._clock.now(), self._settings.lifetime_ms)
        return order, Origin(actor=f"{KIND}/{self.key}", cause=record.metadata, answers=True)

    # Going on

    async def _woken(self) -> None:
        """Do what the time, or a word from the peer, has made possible."""
        try:
            if self._outgoing.contacted(self.key):
                spacing = int(self._settings.probe_seconds * 1000)
                await self.execute(NoteContact(self._clock.now(), spacing), self._own)
            await self._settle()
            await self._go_on()
        except MailioError as error:
            if not error.temporary:
                raise
            # The disk is full, or one of the senders is being erased just now.
            report(self.loop, f"deliveries to {self.key} wait for the log", error)
            self._outgoing.timers.set(KIND, self.key, self._clock.now() + LOG_PAUSE_MS)

    async def _go_on(self) -> None:
        """Start what may be started now, and see to it that somebody comes back for the rest."""
        while self._outgoing.is_open:
            now = self._clock.now()
            await self._fill(now)
            await self.execute(StartProbe(now), self._own)
            room = self.state.room(now, self._settings.concurrency) - len(self._running)
            due = self._due(now, room)
            if not await self._start(due, now):
                break
        self._outgoing.note(self.state)
        self._set_timer(self._clock.now())

    @property
    def _running(self) -> Collection[str]:
        return self._outgoing.running.get(self.key, ())

    async def _fill(self, now: int) -> None:
        """Read the queue when the window may lack what could be started."""
        wanted = self._settings.concurrency
        if not self._window.hungry or len(self._due(now, wanted)) >= wanted:
            return
        await self._outgoing.queue.reached(self._position)
        await self._window.fill(self._outgoing.queue.of(self.key))
        # Of all that is in the log by now, the queue may have shown the promise, and the end may have come.
        self._seen = max(self._seen, self.log.head)

    def _due(self, now: int, room: int) -> list[Delivery]:
        """Return what has run out of time, and as many as there is room for of what is to be tried now."""
        running, expired = self._running, []
        if self._window.next_end(now) <= now:
            expired = [one for one in self._window.all() if one.expired(now) and one.id not in running]
        heads = (one for one in self._window.heads() if one.id not in running and not one.expired(now))
        return [*expired, *islice((one for one in heads if self._is_due(one, now)), max(0, room))]

    def _is_due(self, one: Delivery, now: int) -> bool:
        """Whether its time has come; what waits because of the peer need not wait when that is back."""
        back = one.deferred_at <= self.state.revived_at or self.state.breaker is not Breaker.CLOSED
        return one.trying or one.next_at <= now or (one.peers_fault and back)

    async def _start(self, due: Sequence[Delivery], now: int) -> bool:
        """Record attempts, then begin them; True when others may have their turn now."""
        decided = [(one, delivery.decide(one, StartAttempt(now))) for one in due]
        wanted = [(one, events) for one, events in decided if events]
        recorded = await self._recorded(wanted) if wanted else ()
        for one, events in recorded:
            if isinstance(events[0], AttemptStarted):
                self._outgoing.of(self.key).attempts += 1
                self._outgoing.begin(one)
        return len(recorded) < len(wanted) or any(one.final for one in due)

    @failpoints.after("attempt-recorded")
    async def _recorded(self, decided: Sequence[Decided]) -> Sequence[Decided]:
        """Append what was decided; return it without the deliveries of senders who were erased since."""
        try:
            await self._append([_write(one, events) for one, events in decided])
        except Gone:
            left = []
            for one, events in decided:
                try:
                    await self._append([_write(one, events)])
                    left.append((one, events))
                except Gone:
                    self._window.remove(one.id)
            return left
        return decided

    def _set_timer(self, now: int) -> None:
        """Come back when the first lane is due, but not before there is room, or when time runs out."""
        if not self._outgoing.is_open:
            return
        running = self._running
        ends = self._window.next_end(now)
        if ends <= now:
            ends = min((one.expires_at for one in self._window.all() if one.id not in running), default=NEVER)
        at = min(max(self._next_due(now), self.state.opens_at()), ends)
        if at < NEVER and any(one.id not in running for one in self._window.all()):
            self._outgoing.timers.set(KIND, self.key, max(at, now + 1))
        else:
            self._outgoing.timers.clear(KIND, self.key)

    def _next_due(self, now: int) -> int:
        """Return when to look at the lanes again; the end of an attempt brings the actor back anyway."""
        running = self._running
        soonest = NEVER
        for one in self._window.heads():
            if one.id in running:
                continue
            if self._is_due(one, now):
                return NEVER if running else now
            soonest = min(soonest, one.next_at)
        return soonest

    # Coming back

    async def _settle(self) -> None:
        """Record the ends of attempts, with what each says about the peer."""
        some = self._outgoing.ended(self.key)
        while some:
            try:
                await self._record_end(some[0])
            except NotFound:
                # Its sender was erased, before the state was read or after: there is nobody to tell.
                self._window.remove(some[0].delivery)
            except MailioError:
                self._outgoing.keep(self.key, some)
                raise
            self._outgoing.settled(self.key, some.pop(0).delivery)

    @failpoints.after("attempt-concluded")
    async def _record_end(self, ended: Ended) -> None:
        state = await self._known(ended.delivery)
        now = self._clock.now()
        about_peer = self._about_peer(ended.outcome, now)
        command = ConcludeAttempt(
            number=ended.number,
            at=now,
            outcome=ended.outcome,
            policy=self._settings.retries,
            jitter=self._outgoing.chance(),
            not_before=_after(self.state, about_peer).opens_at(),
        )
        events = delivery.decide(state, command)
        own = [Write(self.stream, tuple(about_peer), self.version)] if about_peer else []
        await self._append([*own, *([_write(state, events)] if events else [])])

    def _about_peer(self, outcome: Outcome, now: int) -> Sequence[DestinationEvent]:
        command = self._noted(outcome, now)
        return destination.decide(self.state, command) if command else []

    def _noted(self, outcome: Outcome, now: int) -> Command | None:
        if outcome.cause is Cause.UNREACHABLE:
            return NoteFailure(
                at=now,
                reason=outcome.text,
                failures=self._settings.breaker_failures,
                policy=self._settings.breaker,
                jitter=self._outgoing.chance(),
            )
        if outcome.cause is Cause.BUSY:
            pause = max(BUSY_PAUSE_MS, min(outcome.retry_after, self._settings.breaker.most_ms))
            return NotePause(now, now + pause)
        return NoteAnswer(now) if outcome.answered else None

    async def _append(self, writes: Sequence[Write]) -> None:
        """Append, and fold into the destination and the window."""
        if not writes:
            return
        try:
            recorded = await self.log.append(*writes, origin=self._own)
        except VersionConflict:
            # Somebody else wrote: what is remembered is worth nothing.
            self._window.forget()
            await self.refresh()
            raise
        self._apply([record for record in recorded if record.stream == self.stream])
        for record in recorded:
            self._fold(record)

    def _fold(self, record: Recorded) -> None:
        self._position = max(self._position, record.position)
        state = self._window.get(record.stream.removeprefix(delivery.STREAM))
        if state is not None and isinstance(record.event, DeliveryEvent):
            self._window.put(delivery.evolve(state, record.event))
        figures = self._outgoing.of(self.key)
        figures.delivered += isinstance(record.event, MessageDelivered)
        figures.deferred += isinstance(record.event, DeliveryDeferred)
        figures.failed += isinstance(record.event, DeliveryFailed)

    async def _known(self, key: str) -> Delivery:
        """Return a delivery's state: from the window, or from its stream."""
        found = self._window.get(key)
        if found is not None:
            return found
        return fold(delivery.evolve, delivery.initial(key), await self.log.stream(delivery.stream(key)))

    # What operators and senders want

    async def _intervene(self, wanted: Intervene) -> Delivery:
        state = await self._known(wanted.delivery)
        events = delivery.decide(state, wanted.command)
        if events:
            remembered = self._window.get(state.id) is not None
            for record in await self.log.append(_write(state, events), origin=Origin(actor=wanted.actor)):
                self._fold(record)
                state = state if remembered else delivery.evolve(state, record.event)
        if isinstance(wanted.command, Release | Hasten):
            self._window.forget()  # It comes back in its place.
            await self._reset(wanted.actor)
        else:
            await self._go_on()
        return state

    async def _reset(self, actor: str) -> Destination:
        await self.execute(Reset(self._clock.now()), Origin(actor=actor))
        await self._go_on()
        return self.state


def _after(state: Destination, events: Sequence[DestinationEvent]) -> Destination:
    """Return what a destination will be, without touching what it is."""
    state = msgspec.structs.replace(state)
    for event in events:
        state = destination.evolve(state, event)
    return state


def _write(state: Delivery, events: Sequence[DeliveryEvent]) -> Write:
    return Write(delivery.stream(state.id), tuple(events), state.version)
