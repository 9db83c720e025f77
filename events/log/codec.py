"""Between events and the bytes that the log keeps; old shapes are lifted on the way back.

A record's state is one MessagePack array:

    [schema, at, actor, correlation, causation, software, payload]
    [schema, at, actor, correlation, causation, software, payload, imported]

`at` in milliseconds since the Unix epoch, correlation and causation 16 bytes (causation nil where a
story begins), payload the event's members as a map, or sealed (`events.log.sealing`) where they are
about a person, imported 16 bytes where the record came from another node. Event id, stream, version and type
name stand in columns of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from events.errors import CorruptRecord, InvalidInput, LimitExceeded, Misconfigured, UnknownEventType
from events.event import EVENT_TYPES, Erased, Event, Metadata, Recorded
from events.log import sealing
from events.log.chain import Row
from events.log.sealing import Sealer
from events.subjects import subjects

MAX_STATE_BYTES = 16 * 1024 * 1024
"""Largest record: twice the largest document a CouchDB server takes by default (8 MiB)."""

Payload = dict[str, Any]
Upcaster = Callable[[Payload], Payload]
"""Lifts the members of one schema to those of the next. Pure: same input, same output, for ever."""

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""By type name and the schema that it lifts from."""


def upcaster(name: str, schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register the decorated function to lift `name` from `schema` to `schema + 1`."""

    def register(lift: Upcaster) -> Upcaster:
        if UPCASTERS.setdefault((name, schema), lift) is not lift:
            raise TypeError(f"two upcasters lift {name} from schema {schema}")
        return lift

    return register


class State(msgspec.Struct, frozen=True, array_like=True):
    """The array that is stored, its payload not yet looked at."""

    schema: int
    at: int
    actor: str
    correlation: bytes
    causation: bytes | None
    software: str
    payload: msgspec.Raw


class ImportedState(State, frozen=True, array_like=True):
    """The array of a record that came from another node; without its last member, any record's."""

    imported: bytes = b""


class Codec:
    """Encodes and decodes records; keeps one decoder per event type.

    Without a `sealer` everything is written as plain members, and sealed records can't be read.
    """

    def __init__(
        self,
        types: Mapping[str, type[Event]] = EVENT_TYPES,
        upcasters: MutableMapping[tuple[str, int], Upcaster] = UPCASTERS,
        sealer: Sealer | None = None,
    ) -> None:
        self.sealer = sealer
        self._types = types
        self._upcasters = upcasters
        self._encode = msgspec.msgpack.Encoder().encode
        self._state = msgspec.msgpack.Decoder(ImportedState).decode
        self._members = msgspec.msgpack.Decoder(dict[str, Any]).decode
        self._payload: dict[str, tuple[int, Callable[[bytes | msgspec.Raw], Event]]] = {}

    def payload(self, event: Event) -> tuple[bytes, Event]:
        """Encode an event's members; return them with the event as a reader will see it.

        Structs do not check what they are built from, so what was encoded is decoded again here: an
        event that could not be read back never gets into the log. Raises InvalidInput then, and where
        the type is not registered.
        """
        name = type(event).__name__
        if self._types.get(name) is not type(event):
            raise InvalidInput("not an event", f"{name} is not a registered event type")
        try:
            encoded = self._encode(event)
            return encoded, self._decoder(name)[1](encoded)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
            raise InvalidInput("not a valid event", f"{name}: {error}") from error

    def sealed(self, payload: bytes, event: Event, stream: str, event_id: bytes) -> bytes:
        """Return the payload as it is stored: sealed for those whom the event is about, if any.

        Raises Gone when all of them were erased.
        """
        owners = subjects(stream, event) if self.sealer else ()
        if not owners or self.sealer is None:
            return payload
        bound = sealing.bound_to(stream, type(event).__name__, event.schema, event_id)
        return sealing.packed(self.sealer.seal(payload, owners, bound))

    def encode(self, payload: bytes, schema: int, metadata: Metadata) -> bytes:
        """Return a record's state bytes. Raises LimitExceeded above MAX_STATE_BYTES."""
        causation = bytes.fromhex(metadata.causation) if metadata.causation else None
        correlation = bytes.fromhex(metadata.correlation)
        raw = msgspec.Raw(payload)
        members = (schema, metadata.at, metadata.actor, correlation, causation, metadata.software, raw)
        imported = bytes.fromhex(metadata.imported)
        state = self._encode(ImportedState(*members, imported) if imported else State(*members))
        if len(state) > MAX_STATE_BYTES:
            raise LimitExceeded("too large", f"an event of {len(state)} bytes, at most {MAX_STATE_BYTES}")
        return state

    def decode(self, row: Row) -> Recorded:
        """Return what a stored row says.

        The event is `Erased` when it was about persons who all were. Raises UnknownEventType when a newer
        program wrote it, CorruptRecord when the bytes make no sense or were tampered with, Misconfigured
        when the vault with its key is not at hand.
        """
        position, stream, version, topic, event_id, stored, digest = row
        try:
            state = self._state(stored)
            event = self._event(row, state)
            metadata = Metadata(
                id=event_id.hex() if event_id else "",
                at=state.at,
                actor=state.actor,
                correlation=state.correlation.hex(),
                causation=state.causation.hex() if state.causation else "",
                software=state.software,
                imported=state.imported.hex(),
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise CorruptRecord("the log is damaged", f"{topic} at position {position}: {error}") from error
        return Recorded(
            position=position, stream=stream, version=version, event=event, metadata=metadata, hash=digest
        )

    def is_readable(self, row: Row) -> bool:
        """Whether a record about somebody is not sealed. Raises what `decode` raises."""
        about = subjects(row.stream, self.decode(row).event)
        return bool(about) and not sealing.is_sealed(self._state(row.state).payload)

    def _event(self, row: Row, state: State) -> Event:
        """Decode the payload, directly where its schema is the current one."""
        position, topic = row[0], row[3]
        if topic not in self._types:
            raise _unknown(topic, position, state, "this program does not know the type")
        schema, decode = self._decoder(topic)
        if state.schema > schema:
            raise _unknown(topic, position, state, f"this program knows schema {schema} at most")
        payload: bytes | msgspec.Raw = state.payload
        if sealing.is_sealed(state.payload):
            opened = self._opened(row, state)
            if opened is None:
                return Erased(type=topic)
            payload = opened
        if state.schema == schema:
            return decode(payload)
        return decode(self._encode(self._lifted(topic, state, payload, schema, position)))

    def _opened(self, row: Row, state: State) -> bytes | None:
        """Open a sealed payload."""
        position, stream, _, topic, event_id = row[:5]
        if self.sealer is None:
            raise Misconfigured(
                "the log is sealed: its vault of keys is needed to read it", f"position {position}"
            )
        bound = sealing.bound_to(stream, topic, state.schema, event_id or b"")
        try:
            return self.sealer.open(sealing.unpacked(state.payload), bound)
        except sealing.SealBroken as error:
            raise CorruptRecord("the log is damaged", f"{topic} at position {position}: {error}") from error

    def _lifted(
        self, topic: str, state: State, payload: bytes | msgspec.Raw, schema: int, position: int
    ) -> Payload:
        """Lift old members step by step."""
        members: Payload = self._members(payload)
        for step in range(state.schema, schema):
            lift = self._upcasters.get((topic, step))
            if lift is None:
                raise _unknown(topic, position, state, f"no upcaster from schema {step}")
            members = lift(members)
        return members

    def _decoder(self, name: str) -> tuple[int, Callable[[bytes | msgspec.Raw], Event]]:
        """Return (current schema, payload decoder) of a type, built once."""
        known = self._payload.get(name)
        if known is None:
            kind = self._types[name]
            known = self._payload[name] = (kind.schema, msgspec.msgpack.Decoder(kind).decode)
        return known


def _unknown(topic: str, position: int, state: State, why: str) -> UnknownEventType:
    """Name everything that helps to find the program that can read the record."""
    writer = state.software or "an unnamed program"
    return UnknownEventType(
        "the log holds an event of a newer program",
        f"{topic} schema {state.schema} at position {position}, written by {writer}: {why}",
    )
