"""One outgoing message, or report about a received one, on its way to one destination.

A destination is a domain: the host of recipients' DIDs, or the domain of their emails. A message to people
on three hosts is three deliveries. Each has a stream of its own, so that ten thousand which wait for a dead
peer cost a log ten thousand short streams and no actor a long state.

Nothing here knows the time or draws lots: both come in with the commands. Times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from events.attempt import (
    MAX_REASON,
    REPORTED,
    Addressee,
    Cause,
    Outcome,
    RecipientStatus,
    RetryPolicy,
    Verdict,
    awaits_address,
    is_spoken_of,
    news,
    permanent,
)
from events.errors import Conflict, NotFound, TooEarly
from events.event import Event

STREAM = "delivery-"

EXPIRED = "5.4.7"
"""MTP code of what could not be delivered in time (wire spec section 3.9: subject 4, detail 7)."""


class Kind(StrEnum):
    """What is delivered."""

    MESSAGE = "message"
    REPORT = "report"


class Phase(StrEnum):
    """How far a delivery is. The last four are final."""

    NEW = "new"
    WAITING = "waiting"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


FINAL = frozenset((Phase.DELIVERED, Phase.FAILED, Phase.CANCELLED, Phase.DROPPED))


class DeliveryScheduled(Event, frozen=True, kw_only=True):
    """The node has promised to deliver something, until `expires_at`.

    `owner` is the local user (address) whose message it is, or whose mailbox a report is about. `message` is
    the id on the wire. A message is in `blob` (`{"didCommMessage": …}`); a report says `statuses` to the
    `addressees`, who wrote the message.
    """

    owner: str
    kind: Kind
    message: str
    destination: str
    addressees: tuple[Addressee, ...]
    blob: str = ""
    statuses: tuple[RecipientStatus, ...] = ()
    scheduled_at: int
    expires_at: int


class AttemptStarted(Event, frozen=True, kw_only=True):
    """The node is about to dial. What comes after may be lost in a crash: the peer may have the message."""

    owner: str
    number: int
    at: int


class MessageDelivered(Event, frozen=True, kw_only=True):
    """The peer `server` took it and signed for it."""

    owner: str
    number: int
    at: int
    code: str
    text: str
    server: str = ""
    statuses: tuple[RecipientStatus, ...] = ()


class DeliveryDeferred(Event, frozen=True, kw_only=True):
    """An attempt failed, and there will be another one, not before `until` unless the peer comes back."""

    owner: str
    number: int
    at: int
    until: int
    cause: Cause
    code: str
    reason: str
    statuses: tuple[RecipientStatus, ...] = ()


class DeliveryFailed(Event, frozen=True, kw_only=True):
    """It will not be delivered: the peer said no for good, or time is up."""

    owner: str
    number: int
    at: int
    code: str
    reason: str
    statuses: tuple[RecipientStatus, ...] = ()


class DeliveryHeld(Event, frozen=True, kw_only=True):
    """An operator keeps it back."""

    owner: str
    at: int
    reason: str = ""


class DeliveryReleased(Event, frozen=True, kw_only=True):
    """An operator lets it go on."""

    owner: str
    at: int


class DeliveryHastened(Event, frozen=True, kw_only=True):
    """An operator wants it tried now."""

    owner: str
    at: int


class DeliveryCancelled(Event, frozen=True, kw_only=True):
    """Its sender took it back before it went."""

    owner: str
    at: int


class DeliveryDropped(Event, frozen=True, kw_only=True):
    """An operator gave it up."""

    owner: str
    at: int
    reason: str = ""


class DeliveryReported(Event, frozen=True, kw_only=True):
    """The peer told what became of the message after its receipt (wire spec section 3.3.6)."""

    owner: str
    at: int
    peer: str
    statuses: tuple[RecipientStatus, ...]


DeliveryEvent = (
    DeliveryScheduled | AttemptStarted | MessageDelivered | DeliveryDeferred | DeliveryFailed | DeliveryHeld
    | DeliveryReleased | DeliveryHastened | DeliveryCancelled | DeliveryDropped | DeliveryReported
)  # fmt: skip


class Schedule(msgspec.Struct, frozen=True):
    """Make this promise; a second time changes nothing."""

    promise: DeliveryScheduled


class StartAttempt(msgspec.Struct, frozen=True):
    """Dial the peer now, or give up where time is over.

    An earlier attempt without an end died with its process.
    """

    at: int


class ConcludeAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """Note what attempt `number` came to. `not_before` is when the destination may be dialled again."""

    number: int
    at: int
    outcome: Outcome
    policy: RetryPolicy
    jitter: float
    not_before: int = 0


class Hold(msgspec.Struct, frozen=True):
    """Keep it back until it is released; it does not expire meanwhile."""

    at: int
    reason: str = ""


class Release(msgspec.Struct, frozen=True):
    """Let it go on."""

    at: int


class Hasten(msgspec.Struct, frozen=True):
    """Try it now."""

    at: int


class Cancel(msgspec.Struct, frozen=True):
    """Take it back, for its sender `owner` (an address); nobody else may."""

    at: int
    owner: str


class Drop(msgspec.Struct, frozen=True):
    """Give it up without a further attempt."""

    at: int
    reason: str = ""


class NoteReport(msgspec.Struct, frozen=True, kw_only=True):
    """Keep what the peer reports; the caller has seen that this peer serves the destination."""

    at: int
    peer: str
    statuses: tuple[RecipientStatus, ...]


Command = Schedule | StartAttempt | ConcludeAttempt | Hold | Release | Hasten | Cancel | Drop | NoteReport


class Delivery(msgspec.Struct):
    """State of one delivery. `version` counts its events.

    `trying` is true from the start of an attempt to its end; after a crash it stays so until the next one.
    `attempts` counts all, `refusals` those that failed because of this delivery and not of the peer.
    """

    id: str
    owner: str = ""
    kind: Kind = Kind.MESSAGE
    message: str = ""
    destination: str = ""
    addressees: tuple[Addressee, ...] = ()
    blob: str = ""
    statuses: tuple[RecipientStatus, ...] = ()
    scheduled_at: int = 0
    expires_at: int = 0
    phase: Phase = Phase.NEW
    trying: bool = False
    attempts: int = 0
    refusals: int = 0
    next_at: int = 0
    deferred_at: int = 0
    held_at: int = 0
    cause: Cause | None = None
    code: str = ""
    reason: str = ""
    server: str = ""
    reported: dict[str, RecipientStatus] = {}
    version: int = 0

    @property
    def final(self) -> bool:
        """Whether nothing will happen to it any more but reports."""
        return self.phase in FINAL

    @property
    def lane(self) -> str:
        """Deliveries of one lane go one after the other: the messages of one sender to one destination."""
        return self.owner if self.kind is Kind.MESSAGE else self.id

    @property
    def peers_fault(self) -> bool:
        """Whether it waits because of the peer, so that it need not wait when the peer is back."""
        return self.cause in {Cause.UNREACHABLE, Cause.BUSY}

    def expired(self, now: int) -> bool:
        """Whether its time is over; what an operator holds back has time."""
        return self.phase is Phase.WAITING and now >= self.expires_at


def delivery_id(destination: str, name: str) -> str:
    """Name a delivery: `name` is a message id of ours, or the name of a report."""
    return f"{destination}:{name}"


def stream(key: str) -> str:
    """Name of the stream of one delivery."""
    return STREAM + key


def initial(key: str) -> Delivery:
    """Return a delivery of which nothing is known."""
    return Delivery(id=key)


def decide(state: Delivery, command: Command) -> Sequence[DeliveryEvent]:
    """Say what happens. Nothing does where the command comes too late or twice.

    Raises NotFound for what was never scheduled or is somebody else's, Conflict where it is asked too late.
    """
    if isinstance(command, Schedule):
        return [] if state.version else [command.promise]
    if state.phase is Phase.NEW:
        raise NotFound("no such delivery", state.id)
    match command:
        case StartAttempt():
            return _start(state, command.at)
        case ConcludeAttempt():
            return _conclude(state, command)
        case NoteReport():
            return _report(state, command)
        case Hold() | Release() | Hasten() | Cancel() | Drop():
            return _intervene(state, command)


def _start(state: Delivery, at: int) -> Sequence[DeliveryEvent]:
    if state.phase is not Phase.WAITING:
        return []
    if state.expired(at):
        return [_expired(state, at)]
    return [AttemptStarted(owner=state.owner, number=state.attempts + 1, at=at)]


def _expired(state: Delivery, at: int) -> DeliveryFailed:
    reason = f"not delivered in time; last: {state.reason}" if state.reason else "not delivered in time"
    return _failed(state, at, EXPIRED, reason)


def _failed(
    state: Delivery, at: int, code: str, reason: str, statuses: tuple[RecipientStatus, ...] = ()
) -> DeliveryFailed:
    return DeliveryFailed(
        owner=state.owner, number=state.attempts, at=at, code=code, reason=reason, statuses=statuses
    )


def _conclude(state: Delivery, command: ConcludeAttempt) -> Sequence[DeliveryEvent]:
    outcome, at = command.outcome, command.at
    if state.final or not state.trying or command.number != state.attempts:
        return []
    text = outcome.text[:MAX_REASON]
    if outcome.verdict is Verdict.DELIVERED:
        return [
            MessageDelivered(
                owner=state.owner, number=state.attempts, at=at, code=outcome.code, text=text,
                server=outcome.server, statuses=outcome.statuses,
            )
        ]  # fmt: skip
    refused = outcome.cause is Cause.REFUSED and state.refusals + 1 >= command.policy.refusals
    if outcome.verdict is Verdict.FINAL or refused:
        return [_failed(state, at, permanent(outcome.code), text, outcome.statuses)]
    if at >= state.expires_at and state.phase is not Phase.HELD:
        return [_failed(state, at, EXPIRED, f"not delivered in time; last: {text}"[:MAX_REASON])]
    return [_deferred(state, command, text)]


def _deferred(state: Delivery, command: ConcludeAttempt, text: str) -> DeliveryDeferred:
    policy, outcome, at = command.policy, command.outcome, command.at
    pause = policy.pause(state.attempts, command.jitter)
    asked = min(outcome.retry_after, policy.most_ms)
    until = max(at + max(pause, asked), command.not_before)
    return DeliveryDeferred(
        owner=state.owner,
        number=state.attempts,
        at=at,
        # There is an attempt in the last moment too, unless that has passed (while it was held).
        until=min(until, max(state.expires_at - 1, at + 1)),
        cause=outcome.cause or Cause.UNREACHABLE,
        code=outcome.code,
        reason=text,
        statuses=outcome.statuses,
    )


def _report(state: Delivery, command: NoteReport) -> Sequence[DeliveryEvent]:
    """Keep what is new, for recipients of this delivery only; reports are repeated and may be lies.

    Where the peer has spoken about everybody, it has the message: what its receipt would say, had it come.
    Raises TooEarly while an attempt is about to find out whether somebody the peer names is a recipient.
    """
    if state.kind is not Kind.MESSAGE or not (state.attempts or state.final):
        return []
    known = {one.address for one in state.addressees} | {one.address for one in state.statuses}
    strangers = any(status.address not in known for status in command.statuses)
    if strangers and state.trying and awaits_address(state.addressees, state.statuses):
        raise TooEarly("the message is being delivered; tell it again")
    fresh = news(command.statuses, known - {""}, state.reported)
    if not fresh:
        return []
    reported = DeliveryReported(owner=state.owner, at=command.at, peer=command.peer, statuses=fresh)
    heard = {*state.reported, *(one.address for one in fresh)}
    if state.final or not all(is_spoken_of(one, state.statuses, heard) for one in state.addressees):
        return [reported]
    return [_taken(state, command), reported]


def _taken(state: Delivery, report: NoteReport) -> MessageDelivered:
    return MessageDelivered(
        owner=state.owner, number=state.attempts, at=report.at, code=REPORTED,
        text="the peer has said what became of it", server=report.peer, statuses=state.statuses,
    )  # fmt: skip


def _intervene(state: Delivery, command: Hold | Release | Hasten | Cancel | Drop) -> Sequence[DeliveryEvent]:
    if isinstance(command, Cancel) and command.owner != state.owner:
        raise NotFound("no such delivery", f"{state.id} is not of {command.owner}")
    if state.final:
        raise Conflict(f"too late: it is {state.phase}", state.id)
    owner, at = state.owner, command.at
    match command:
        case Hold(reason=reason):
            return [] if state.phase is Phase.HELD else [DeliveryHeld(owner=owner, at=at, reason=reason)]
        case Release():
            return [DeliveryReleased(owner=owner, at=at)] if state.phase is Phase.HELD else []
        case Hasten():
            if state.phase is Phase.HELD:
                raise Conflict("it is held: release it", state.id)
            return [DeliveryHastened(owner=owner, at=at)]
        case Cancel():
            if state.trying:
                raise Conflict("too late: it is being delivered", state.id)
            return [DeliveryCancelled(owner=owner, at=at)]
        case Drop(reason=reason):
            return [DeliveryDropped(owner=owner, at=at, reason=reason)]


def evolve(state: Delivery, event: Event) -> Delivery:
    """Fold one event into the delivery; the state that was passed in is used up."""
    state.version += 1
    match event:
        case DeliveryScheduled():
            _scheduled(state, event)
        case AttemptStarted():
            state.trying, state.attempts = True, event.number
        case MessageDelivered():
            state.server, state.statuses = event.server, event.statuses or state.statuses
            _end(state, Phase.DELIVERED, event.code, event.text)
        case DeliveryDeferred():
            _put_off(state, event)
        case DeliveryFailed():
            state.statuses = event.statuses or state.statuses
            _end(state, Phase.FAILED, event.code, event.reason)
        case DeliveryCancelled():
            _end(state, Phase.CANCELLED, state.code, state.reason)
        case DeliveryDropped():
            _end(state, Phase.DROPPED, state.code, event.reason or state.reason)
        case DeliveryReported():
            state.reported |= {one.address: one for one in event.statuses}
        case _:
            _held_or_released(state, event)
    return state


def _scheduled(state: Delivery, event: DeliveryScheduled) -> None:
    for name, value in msgspec.structs.asdict(event).items():
        setattr(state, name, value)
    state.phase, state.next_at = Phase.WAITING, event.scheduled_at


def _end(state: Delivery, phase: Phase, code: str, reason: str) -> None:
    state.phase, state.trying, state.code, state.reason = phase, False, code, reason


def _put_off(state: Delivery, event: DeliveryDeferred) -> None:
    state.trying, state.next_at, state.deferred_at = False, event.until, event.at
    state.cause, state.code, state.reason = event.cause, event.code, event.reason
    state.refusals += event.cause is Cause.REFUSED
    state.statuses = event.statuses or state.statuses


def _held_or_released(state: Delivery, event: Event) -> None:
    match event:
        case DeliveryHeld():
            state.phase, state.held_at = Phase.HELD, event.at
            state.reason = event.reason or state.reason
        case DeliveryReleased(at=at):
            state.phase, state.next_at = Phase.WAITING, at
            # Time stood still while it was held.
            state.expires_at += max(0, at - state.held_at)
        case DeliveryHastened(at=at):
            state.next_at = at
        case _:
            pass
