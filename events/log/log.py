"""The log's port: what every room may ask of it. Adapters stand beside this module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from events.event import Event, Metadata, Recorded

ANY_VERSION = -1
"""Expected version of a writer that does not care what its stream holds already."""


class Write(msgspec.Struct, frozen=True):
    """Events for one stream. `expected` is the stream's version before them (0: it must not exist)."""

    stream: str
    events: tuple[Event, ...]
    expected: int = ANY_VERSION


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who appends, and because of what.

    `cause` is the metadata of the event that led to this append, None where the story begins.
    `answers` makes it a reaction: event ids are then computed from (actor, cause), and a second
    answer of the same actor to the same cause is refused with `AlreadyAnswered`. `original` is all that is
    said about the one event of an append that happened elsewhere: it is written as it is.
    """

    actor: str
    cause: Metadata | None = None
    answers: bool = False
    original: Metadata | None = None


class Clock(Protocol):
    """Time and identifiers, brought in so that tests and simulations can rule them."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""

    def event_id(self) -> str:
        """A fresh event id: 32 hex digits, ascending in time (RFC 9562 version 7)."""


class Log(Protocol):
    """One append-only sequence of events, cut into streams."""

    @property
    def head(self) -> int:
        """Position of the last durable event; 0 when the log is empty."""

    async def append(self, *writes: Write, origin: Origin) -> list[Recorded]:
        """Append all writes in one transaction; return when they are synced to disk.

        Raises VersionConflict, AlreadyAnswered, StorageUnavailable: then nothing was written.
        """

    async def append_all(self, orders: Sequence[tuple[Write, Origin]]) -> list[Recorded]:
        """Append writes that have different causes, in their order: all in one transaction, or none.

        Raises what `append` raises, or Conflict, for the first that can't be written.
        """

    async def stream(self, name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Read the events of one stream with a version above `after`, in order."""

    async def read(self, after: int, limit: int = 500, types: Collection[str] = ()) -> list[Recorded]:
        """Read durable events of all streams above position `after`, in order.

        With `types`, only events of these type names.
        """

    def subscribe(self, after: int, batch: int = 500) -> AsyncIterator[Sequence[Recorded]]:
        """Yield every event above `after`, then each new one as soon as it is durable."""


class SnapshotStore(Protocol):
    """A cache of folded states: deleting all of it changes nothing but speed."""

    async def load(self, stream: str, schema: int) -> tuple[int, bytes] | None:
        """Return (version, state) of the newest snapshot taken with this state schema."""

    async def save(self, stream: str, version: int, schema: int, state: bytes) -> None:
        """Keep `state` as the fold of the stream's first `version` events."""
