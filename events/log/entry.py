"""What one append writes: events encoded, named and described, but not placed in their streams yet.

Pure but for the clock that is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from events.errors import InvalidInput
from events.event import Event, Metadata
from events.log.codec import Codec
from events.log.log import Clock, Origin, Write

MAX_NAME_BYTES: Final = 512
"""Longest name of a stream or an actor: an address or a domain with a prefix is far below."""

_TIME_DIGITS: Final = 12
_DIGEST_BYTES: Final = 10


class Draft(msgspec.Struct, frozen=True):
    """An event, as a reader will see it, with its id (16 bytes) and the bytes that will be stored."""

    event: Event
    metadata: Metadata
    event_id: bytes
    state: bytes


class StreamDrafts(msgspec.Struct, frozen=True):
    """The events of one `Write`."""

    stream: str
    expected: int
    drafts: Sequence[Draft]


class Entry(msgspec.Struct, frozen=True):
    """All that one append writes. `answers` is (actor, cause id) of a reaction; `size` counts state bytes."""

    writes: Sequence[StreamDrafts]
    answers: tuple[str, str] | None
    size: int

    @property
    def count(self) -> int:
        """Number of events."""
        return sum(len(write.drafts) for write in self.writes)

    @property
    def first_id(self) -> bytes:
        """Id of the first event: by it an append of unknown outcome, or an earlier answer, is found."""
        return next(draft.event_id for write in self.writes for draft in write.drafts)


def prepare(writes: Sequence[Write], origin: Origin, clock: Clock, codec: Codec, software: str) -> Entry:
    """Encode all events, so that what can fail by them fails before anything waits for the disk.

    Raises InvalidInput (an event its own type would not read back, a bad name, an answer to nothing, several
    events with one original), LimitExceeded, and Gone for an event that is only about persons who were
    erased.
    """
    if origin.answers and origin.cause is None:
        raise InvalidInput("an answer needs a cause", origin.actor)
    if origin.original and sum(len(write.events) for write in writes) != 1:
        raise InvalidInput("an original is that of one event", origin.actor)
    _check_name(origin.actor)
    first: Metadata | None = None
    number = size = 0
    groups: list[StreamDrafts] = []
    for write in writes:
        _check_name(write.stream)
        drafts: list[Draft] = []
        for event in write.events:
            payload, as_read = codec.payload(event)
            metadata = describe(origin, number, clock, first, software)
            event_id = bytes.fromhex(metadata.id)
            stored = codec.sealed(payload, event, write.stream, event_id)
            state = codec.encode(stored, event.schema, metadata)
            drafts.append(Draft(as_read, metadata, event_id, state))
            first = first or metadata
            number += 1
            size += len(state)
        groups.append(StreamDrafts(write.stream, write.expected, drafts))
    return Entry(groups, (origin.actor, origin.cause.id) if origin.answers and origin.cause else None, size)


def joined(entries: Sequence[Entry]) -> Entry:
    """Return one entry that writes all of them, in their order. `answers` is the first one's."""
    return Entry(
        [write for entry in entries for write in entry.writes],
        entries[0].answers,
        sum(entry.size for entry in entries),
    )


def answer_id(actor: str, cause: str, number: int) -> str:
    """Return the id of event `number` (from 0) of the actor's only answer to the event `cause`.

    The first 6 bytes are the cause's (its time, RFC 9562 version 7), so that ids still ascend roughly
    in time; the other 10 are of SHA-256 over actor, cause and number.
    """
    image = b"\0".join((actor.encode(), cause.encode(), str(number).encode()))
    return cause[:_TIME_DIGITS] + sha256(image).digest()[:_DIGEST_BYTES].hex()


def describe(origin: Origin, number: int, clock: Clock, first: Metadata | None, software: str) -> Metadata:
    """Return the metadata of event `number` of an append whose event 0 has the metadata `first`.

    All events of an append share time, correlation and cause; a beginning takes its first event's id
    as its correlation id.
    """
    if origin.original is not None:
        return origin.original
    cause = origin.cause
    if origin.answers and cause is not None:
        ident = answer_id(origin.actor, cause.id, number)
    else:
        ident = clock.event_id()
    return Metadata(
        id=ident,
        at=first.at if first else clock.now(),
        actor=origin.actor,
        correlation=cause.correlation if cause else (first.correlation if first else ident),
        causation=cause.id if cause else "",
        software=software,
    )


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("a name is not valid Unicode", repr(name)) from error
    if not 0 < size <= MAX_NAME_BYTES or "\0" in name:
        raise InvalidInput(f"a name has 1 to {MAX_NAME_BYTES} bytes and no NUL", repr(name[:80]))
