"""The operator's hold on parked reactions: list, show, retry, drop (`mailio-node parked …`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from events.errors import NotFound, VersionConflict
from events.event import Recorded
from events.log.log import Log, Origin, Write
from events.parking import (
    STREAM,
    Drop,
    Park,
    Parked,
    ParkingCommand,
    ReactionParked,
    Retry,
    decide,
    evolve,
)

Redispatch = Callable[[Recorded, str, str], Awaitable[None]]
"""What a dispatcher offers: let one actor react to one event, once, and raise what it raises."""

OPERATOR = Origin(actor="operator")

PAGE = 500
"""Events of the stream read at once."""

REASON_LENGTH = 500
"""Characters kept of a reason; the full trace belongs to the daemon's own log."""

CONFLICTS = 10
"""Times a command is decided again because somebody else parked, retried or dropped at the same time."""


class Parking:
    """Reads and writes the stream of parked reactions; every dispatcher attaches itself to it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._state = Parked()
        self._version = 0
        self._refreshing = asyncio.Lock()
        self._dispatchers: dict[str, Redispatch] = {}

    def attach(self, consumer: str, redispatch: Redispatch) -> None:
        """Name the dispatcher that can try this consumer's reactions again."""
        self._dispatchers[consumer] = redispatch

    def reread(self) -> None:
        """Forget what was read of the log: it may say less now."""
        self._state, self._version = Parked(), 0

    async def list(self) -> Sequence[ReactionParked]:
        """Return everything parked now, oldest first."""
        await self._refresh()
        return tuple(self._state.waiting.values())

    async def show(self, id: str) -> ReactionParked:  # noqa: A002 - the operator's word
        """Return one parked reaction. Raises NotFound."""
        await self._refresh()
        parked = self._state.waiting.get(id)
        if parked is None:
            raise NotFound("no such parked reaction", id)
        return parked

    async def park(self, command: Park, origin: Origin) -> None:
        """Park a reaction. Raises AlreadyAnswered if `origin` says that it was parked before."""
        await self._log.append(Write(STREAM, tuple(decide(self._state, command))), origin=origin)

    async def retry(self, id: str) -> None:  # noqa: A002 - the operator's word
        """Let the actor react now.

        Raises NotFound, or the actor's error: then it stays parked, with the new reason.
        """
        parked = await self.show(id)
        redispatch = self._dispatchers.get(parked.consumer)
        if redispatch is None:
            raise NotFound("no such consumer runs here", parked.consumer)
        record = await self._event(parked)
        try:
            await redispatch(record, parked.kind, parked.key)
        except Exception as error:
            await self.park(_again(parked, error), OPERATOR)
            raise
        await self._execute(Retry(id), OPERATOR)

    async def drop(self, id: str, reason: str) -> None:  # noqa: A002 - the operator's word
        """Give a reaction up, with the operator's reason. Raises NotFound."""
        await self._execute(Drop(id, printable(reason)), OPERATOR)

    async def _event(self, parked: ReactionParked) -> Recorded:
        found = await self._log.read(parked.position - 1, 1)
        if not found or found[0].metadata.id != parked.event_id:
            raise NotFound("the event of this reaction is not in the log", parked.id)
        return found[0]

    async def _execute(self, command: ParkingCommand, origin: Origin) -> None:
        for left in reversed(range(CONFLICTS)):
            await self._refresh()
            write = Write(STREAM, tuple(decide(self._state, command)), self._version)
            try:
                await self._log.append(write, origin=origin)
            except VersionConflict:
                if not left:
                    raise
            else:
                return

    async def _refresh(self) -> None:
        async with self._refreshing:
            while page := await self._log.stream(STREAM, self._version, PAGE):
                for record in page:
                    self._state = evolve(self._state, record.event)
                self._version = page[-1].version


def _again(parked: ReactionParked, error: Exception) -> Park:
    return Park(
        consumer=parked.consumer,
        kind=parked.kind,
        key=parked.key,
        position=parked.position,
        event_id=parked.event_id,
        reason=describe(error),
        attempts=parked.attempts + 1,
    )


def describe(error: BaseException) -> str:
    """Say in one bounded, printable line what went wrong."""
    return printable(f"{type(error).__name__}: {error}")


def printable(text: str) -> str:
    """Replace control characters (they come from strangers) and cut to `REASON_LENGTH`."""
    return "".join(c if c.isprintable() else "?" for c in text[:REASON_LENGTH])
