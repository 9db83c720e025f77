"""The node as a whole: what happened to its log itself."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.event import Event

STREAM = "node"

EPOCH_BITS = 32
"""Bits of a sequence number that hold the position: four thousand million events, beyond one embedded log."""

EPOCH_MS = 600_000
"""Length of an epoch: 21 bits of them, what JavaScript's integers leave, are some forty years."""

EPOCHS_BEGIN = 1_767_225_600_000
"""2026-01-01T00:00:00Z: epochs are counted from here."""


class NodeRestored(Event, frozen=True, kw_only=True):
    """The log up to `from_position` came out of a backup; whatever had stood after that is lost.

    `at` is in milliseconds, `point` names the point of the backup. Positions after `from_position` are given
    a second time, so sequence numbers that clients see jump: from here on they are position + `jump`.
    """

    at: int
    from_position: int
    point: str
    jump: int


class Restorations(msgspec.Struct, frozen=True):
    """All restores that a log knows, in order, and the numbers that clients see because of them."""

    events: tuple[NodeRestored, ...] = ()

    @property
    def last_at(self) -> int:
        """Time of the last restore in milliseconds, 0 when there was none."""
        return self.events[-1].at if self.events else 0

    def sequence(self, position: int) -> int:
        """Return the sequence number of a position: above every number that was given for a lost event."""
        for restored in reversed(self.events):
            if position > restored.from_position:
                return position + restored.jump
        return position

    def position(self, sequence: int, head: int) -> int:
        """Return up to where a reader has seen *this* log who has seen everything up to `sequence`.

        A number from a lost stretch counts up to where that stretch began. One that this log, whose last
        position is `head`, can't have given counts as 0: that reader begins anew.
        """
        following: NodeRestored | None = None
        for jump, restored in reversed([(0, None), *((event.jump, event) for event in self.events)]):
            if sequence >= jump:
                seen = sequence - jump
                break
            following = restored
        if following is not None:
            return min(seen, following.from_position)
        return seen if seen <= head else 0


def evolve(state: Restorations, event: Event) -> Restorations:
    """Return the state after the event."""
    return Restorations((*state.events, event)) if isinstance(event, NodeRestored) else state


def restored(known: Sequence[NodeRestored], at: int, from_position: int, point: str) -> NodeRestored:
    """Say that a log was restored at `at` (ms).

    The jump follows from the time, not from a count: a log that is restored twice from the same point has
    forgotten the first time.
    """
    epoch = max(1, (at - EPOCHS_BEGIN) // EPOCH_MS)
    jump = max(epoch << EPOCH_BITS, *(event.jump + (1 << EPOCH_BITS) for event in known), 0)
    return NodeRestored(at=at, from_position=from_position, point=point, jump=jump)
