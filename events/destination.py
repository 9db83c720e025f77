"""What the node knows of a destination as a whole: whether it answers, and when it may be dialled again.

The circuit breaker of wire spec section 3.7's missing half: closed while the peer answers, open after some
transport failures in a row (nothing is dialled), half-open while one probe is under way. It is made of
events, so a restart does not begin by dialling whoever was dead. Times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from events.attempt import MAX_REASON, RetryPolicy
from events.event import Event

STREAM = "destination-"

MAX_DOUBLINGS = 10
"""Ten seconds have become three hours then; probes come sooner."""


class Breaker(StrEnum):
    """Whether a destination is dialled: yes, no, or once."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class PeerFailed(Event, frozen=True, kw_only=True):
    """An attempt did not reach the peer, or its server failed; the breaker is still closed."""

    at: int
    reason: str


class BreakerOpened(Event, frozen=True, kw_only=True):
    """The peer failed so often in a row, or at a probe, that it is left alone until `until`."""

    at: int
    until: int
    reason: str


class ProbeStarted(Event, frozen=True, kw_only=True):
    """The peer has been left alone for long enough: one attempt shows whether it is back."""

    at: int


class BreakerClosed(Event, frozen=True, kw_only=True):
    """The peer answers again, or an operator says so; what waited for it goes on at once, in order."""

    at: int
    operator: bool = False


class PauseAsked(Event, frozen=True, kw_only=True):
    """The peer asked to be left alone until `until` (429, or 503 with Retry-After)."""

    at: int
    until: int


class PeerContacted(Event, frozen=True, kw_only=True):
    """The peer sent us something that it had signed, so it is there: worth a probe before its time."""

    at: int


DestinationEvent = PeerFailed | BreakerOpened | ProbeStarted | BreakerClosed | PauseAsked | PeerContacted


class NoteFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt failed because of the peer. `failures` in a row open the breaker."""

    at: int
    reason: str
    failures: int
    policy: RetryPolicy
    jitter: float


class NoteAnswer(msgspec.Struct, frozen=True):
    """The peer answered, whatever it said."""

    at: int


class NotePause(msgspec.Struct, frozen=True):
    """The peer asked for a pause."""

    at: int
    until: int


class NoteContact(msgspec.Struct, frozen=True):
    """The peer came to us. Within `spacing` after the last probe or contact it changes nothing.

    Each time that the peer came and then did not answer doubles the spacing.
    """

    at: int
    spacing: int


class StartProbe(msgspec.Struct, frozen=True):
    """Try one delivery, if the peer has been left alone for long enough."""

    at: int


class Reset(msgspec.Struct, frozen=True):
    """Forget all failures: an operator knows better."""

    at: int


Command = NoteFailure | NoteAnswer | NotePause | NoteContact | StartProbe | Reset


class Destination(msgspec.Struct):
    """State of one destination.

    `failures` counts those in a row, `openings` how often the breaker opened in a row. While it is open,
    nothing is dialled before `until`; `paused_until` is what the peer asked for. What was deferred before
    `revived_at` because of the peer need not wait for its own time. `tried_at` is the last probe or contact,
    `contacts` counts those in vain.
    """

    domain: str
    breaker: Breaker = Breaker.CLOSED
    failures: int = 0
    openings: int = 0
    until: int = 0
    paused_until: int = 0
    revived_at: int = 0
    tried_at: int = 0
    contacts: int = 0
    reason: str = ""

    @property
    def troubled(self) -> bool:
        """Whether a word from the peer would change anything."""
        return bool(self.failures or self.paused_until)

    def room(self, now: int, concurrency: int) -> int:
        """How many attempts may be under way now."""
        if now < self.paused_until:
            return 0
        match self.breaker:
            case Breaker.CLOSED:
                return concurrency
            case Breaker.HALF_OPEN:
                return 1
            case Breaker.OPEN:
                return 0

    def opens_at(self) -> int:
        """When there is room again, as far as time decides it: 0 where it does not."""
        return max(self.paused_until, self.until if self.breaker is Breaker.OPEN else 0)


def stream(key: str) -> str:
    """Name of the stream of one destination."""
    return STREAM + key


def initial(key: str) -> Destination:
    """Return a destination that nobody has dialled."""
    return Destination(domain=key)


def decide(state: Destination, command: Command) -> Sequence[DestinationEvent]:
    """Say what happens; most of the time nothing does."""
    match command:
        case NoteFailure():
            return _failed(state, command)
        case NoteAnswer(at=at):
            return [BreakerClosed(at=at)] if state.troubled else []
        case NotePause(at=at, until=until):
            return [PauseAsked(at=at, until=until)] if until > max(at, state.paused_until) else []
        case NoteContact(at=at, spacing=spacing):
            due = at >= state.tried_at + (spacing << min(state.contacts, MAX_DOUBLINGS))
            return [PeerContacted(at=at)] if state.troubled and due else []
        case StartProbe(at=at):
            due = state.breaker is Breaker.OPEN and at >= state.until
            return [ProbeStarted(at=at)] if due else []
        case Reset(at=at):
            return [BreakerClosed(at=at, operator=True)] if state.troubled else []


def _failed(state: Destination, command: NoteFailure) -> Sequence[DestinationEvent]:
    at, reason = command.at, command.reason[:MAX_REASON]
    if state.breaker is Breaker.OPEN:
        return []  # An attempt that had begun before says nothing new.
    if state.breaker is Breaker.CLOSED and state.failures + 1 < command.failures:
        return [PeerFailed(at=at, reason=reason)]
    pause = command.policy.pause(state.openings + 1, command.jitter)
    return [BreakerOpened(at=at, until=at + pause, reason=reason)]


def evolve(state: Destination, event: Event) -> Destination:
    """Fold one event into the destination; the state that was passed in is used up."""
    match event:
        case PeerFailed():
            state.failures += 1
            state.reason = event.reason
        case BreakerOpened():
            state.failures += 1
            state.openings += 1
            state.breaker, state.until, state.reason = Breaker.OPEN, event.until, event.reason
        case ProbeStarted(at=at):
            state.breaker, state.tried_at = Breaker.HALF_OPEN, at
        case BreakerClosed():
            # One failure between successes is no absence: what failed then waits for its own time.
            if state.breaker is not Breaker.CLOSED or event.operator:
                state.revived_at = event.at
            state.breaker, state.failures, state.openings = Breaker.CLOSED, 0, 0
            state.until, state.paused_until, state.contacts, state.reason = 0, 0, 0, ""
        case PauseAsked(until=until):
            state.paused_until = until
        case PeerContacted(at=at):
            state.until = state.tried_at = at
            state.contacts += 1
            if state.breaker is Breaker.CLOSED:
                state.revived_at = at
        case _:
            pass
    return state
