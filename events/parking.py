"""Parked reactions: work that failed for good, kept with its reason until an operator retries or drops it.

All of them stand in one stream, `parked`. A parked reaction blocks nothing: later events of the same
actor go on, and so does the dispatcher's checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from events.errors import NotFound
from events.event import Event

STREAM = "parked"


class ReactionParked(Event, frozen=True, kw_only=True):
    """An actor could not answer an event; the event has waited `attempts` times in all.

    `consumer` is the dispatcher, (`kind`, `key`) the actor (both "" when the route itself failed), `position`
    and `event_id` the event, `reason` for the operator's eyes only.
    """

    consumer: str
    kind: str
    key: str
    position: int
    event_id: str
    reason: str
    attempts: int

    @property
    def id(self) -> str:
        """Name of the parked reaction, the same however often it is parked again."""
        return parked_id(self.consumer, self.position, self.kind, self.key)


class ReactionRetried(Event, frozen=True, kw_only=True):
    """The parked reaction was tried again and succeeded."""

    id: str


class ReactionDropped(Event, frozen=True, kw_only=True):
    """An operator decided that the reaction shall never happen."""

    id: str
    reason: str


ParkingEvent = ReactionParked | ReactionRetried | ReactionDropped


class Park(msgspec.Struct, frozen=True, kw_only=True):
    """Keep a reaction that has failed (again)."""

    consumer: str
    kind: str
    key: str
    position: int
    event_id: str
    reason: str
    attempts: int


class Retry(msgspec.Struct, frozen=True):
    """Take a reaction off the list because it has now succeeded."""

    id: str


class Drop(msgspec.Struct, frozen=True):
    """Take a reaction off the list unanswered."""

    id: str
    reason: str


ParkingCommand = Park | Retry | Drop


class Parked(msgspec.Struct, frozen=True):
    """What is parked now, by id, oldest first."""

    waiting: Mapping[str, ReactionParked] = {}


def parked_id(consumer: str, position: int, kind: str, key: str) -> str:
    """Name one reaction: which dispatcher, which event, which actor."""
    return f"{consumer}:{position}:{kind}:{key}"


def decide(state: Parked, command: ParkingCommand) -> Sequence[ParkingEvent]:
    """Return what happens. Raises NotFound when there is no such parked reaction."""
    match command:
        case Park():
            return [ReactionParked(**msgspec.structs.asdict(command))]
        case Retry(id=parked):
            _require(state, parked)
            return [ReactionRetried(id=parked)]
        case Drop(id=parked, reason=reason):
            _require(state, parked)
            return [ReactionDropped(id=parked, reason=reason)]


def evolve(state: Parked, event: Event) -> Parked:
    """Return the state after the event; events of other kinds change nothing."""
    waiting = dict(state.waiting)
    match event:
        case ReactionParked():
            waiting[event.id] = event
        case ReactionRetried(id=parked) | ReactionDropped(id=parked):
            waiting.pop(parked, None)
        case _:
            return state
    return Parked(waiting)


def _require(state: Parked, parked: str) -> None:
    if parked not in state.waiting:
        raise NotFound("no such parked reaction", parked)
