"""The event base class, its registry, and what is known of every recorded event."""

from __future__ import annotations

from typing import ClassVar

import msgspec

EVENT_TYPES: dict[str, type[Event]] = {}
"""Every event type this program knows, by the name it has in the log."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact, in the past tense. Its class name is its type name in the log and never changes.

    `schema` is raised when the shape changes in a way that needs an upcaster
    (`events.log.codec`); members that get a default need none.
    """

    schema: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        """Register the type; two types of one name would make the log ambiguous."""
        known = EVENT_TYPES.setdefault(cls.__name__, cls)
        if known.__module__ != cls.__module__:
            raise TypeError(f"two event types are called {cls.__name__}")
        EVENT_TYPES[cls.__name__] = cls


class Erased(Event, frozen=True, kw_only=True):
    """What is left of an event whose last data subject was erased: that there was one, of this type.

    It is only ever read, never appended. It changes no state and no document.
    """

    type: str


# Not a type of the log: nobody may append one, and no record has its name.
del EVENT_TYPES[Erased.__name__]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the log knows of a recorded event besides the event itself.

    `id`, `correlation` and `causation` are event ids: 32 lower-case hex digits. `correlation` is the
    id of the event that began the story, `causation` that of the direct cause ("" for a beginning).
    `at` is in milliseconds since the Unix epoch. `actor` says who appended it: `smtp`, `operator`,
    `client/<address>`, `mailbox/<address>`, `handshake/<address>` …

    `imported` is the id of the `AccountImported` event by which the record came from another node's log, ""
    for what happened here. All else then says what it said there, but ids, which are other ones.
    """

    id: str
    at: int
    actor: str
    correlation: str
    causation: str = ""
    software: str = ""
    imported: str = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the log keeps it: where it stands, what it says, who said it, and the chain hash.

    `position` counts all events from 1 without gaps; `version` counts those of one stream from 1.
    `hash` covers this record and the hash of the record before it (`events.log.chain`).
    """

    position: int
    stream: str
    version: int
    event: Event
    metadata: Metadata
    hash: bytes
