"""A record as an inspector sees it: decoded where that is possible, raw where it is not."""

from __future__ import annotations

from typing import Any

import msgspec

from events.errors import MailioError, UnknownEventType
from events.event import Erased, Event, Metadata
from events.log.chain import Row
from events.log.codec import Codec, State

Members = dict[str, Any]
"""A JSON object."""

_state = msgspec.msgpack.Decoder(State).decode
_anything = msgspec.msgpack.Decoder().decode


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A record and what could be read of it.

    `event` is None where the record can't be decoded: `problem` then says why, and `members` are as they are
    stored. `metadata` is None when not even that can be read. `newer` tells that a newer program wrote it,
    `erased` that the keys of those whom it was about were destroyed: there are no members then.
    """

    row: Row
    event: Event | None = None
    metadata: Metadata | None = None
    members: Any = None
    problem: str = ""
    newer: bool = False
    erased: bool = False

    def as_json(self) -> Members:
        """Return everything as JSON values; bytes are base64."""
        row = self.row
        told: Members = {
            "position": row.position,
            "stream": row.stream,
            "version": row.version,
            "type": row.topic,
            "event": self.members,
            "metadata": msgspec.to_builtins(self.metadata),
            "hash": row.hash.hex(),
        }
        if self.erased:
            told["erased"] = True
        return told | {"problem": self.problem} if self.problem else told


def see(row: Row, codec: Codec) -> Seen:
    """Decode a record as far as that goes; never raises for what is in it."""
    try:
        recorded = codec.decode(row)
    except MailioError as error:
        return _raw(row, str(error), newer=isinstance(error, UnknownEventType))
    except (TypeError, ValueError, AttributeError) as error:
        # A column that holds another type than was ever written there.
        return Seen(row=row, problem=f"{row.topic} at position {row.position}: {error}")
    event, metadata = recorded.event, recorded.metadata
    if isinstance(event, Erased):
        return Seen(row=row, event=event, metadata=metadata, erased=True)
    return Seen(row=row, event=event, metadata=metadata, members=msgspec.to_builtins(event))


def time_of(row: Row) -> int | None:
    """Return when a record was written (ms), without decoding what it says; None if it can't be read."""
    try:
        return _state(row.state).at
    except (msgspec.MsgspecError, TypeError):
        return None


def _raw(row: Row, problem: str, *, newer: bool) -> Seen:
    try:
        state = _state(row.state)
    except (msgspec.MsgspecError, TypeError):
        return Seen(row=row, problem=problem, members=_plain(row.state), newer=newer)
    metadata = Metadata(
        id=row.event_id.hex() if row.event_id else "",
        at=state.at,
        actor=state.actor,
        correlation=state.correlation.hex(),
        causation=state.causation.hex() if state.causation else "",
        software=state.software,
    )
    return Seen(
        row=row, metadata=metadata, members=_members(bytes(state.payload)), problem=problem, newer=newer
    )


def _members(payload: bytes) -> Any:
    """Read a payload that no type of ours fits."""
    try:
        return _plain(_anything(payload))
    except msgspec.MsgspecError:
        return _plain(payload)


def _plain(value: Any) -> Any:
    """Make JSON values of anything; what has no form in JSON becomes its description."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=repr))
    except (msgspec.MsgspecError, TypeError, ValueError):
        return repr(value)
