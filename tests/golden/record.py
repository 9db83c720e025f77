"""Golden records: one of every shape of every event that was ever written, kept and replayed for ever.

    python -m tests.golden.record

writes what is missing for the event types of `events` as they are now. It never overwrites a file:
a record that is no longer read as it was is a broken promise to every log there is.

A file is named `<type>.<schema>.<shape>.json`, `shape` being a digest over members and their types. A
member added with a default is a new shape of the same schema; the old file stays and must be readable. Only
the file of a shape that no committed program ever wrote may be deleted.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterable
from enum import EnumMeta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

import events
from events.event import EVENT_TYPES, Event, Metadata
from events.log.chain import GENESIS, Row, record_hash
from events.log.codec import Codec

FOLDER = Path(__file__).parent / "events"

SAMPLES: dict[str, Event] = {}
"""Examples of types for which `sample` cannot make one up by itself; by type name."""

_ID = bytes.fromhex("018bcfe5687b7000800000000000002a")
_METADATA = Metadata(
    id=_ID.hex(),
    at=1_700_000_000_123,
    actor="golden",
    correlation="018bcfe5687b7000800000000000002b",
    causation="018bcfe5687b7000800000000000002c",
    software="mailio-node/golden",
)
_MADE_UP: dict[type[inspect.Type], Any] = {
    inspect.BoolType: True,
    inspect.BytesType: b"\x00\xff golden",
    inspect.NoneType: None,
    inspect.AnyType: {"any": ["thing"]},
    inspect.RawType: msgspec.Raw(b"\x01"),
}


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A stored record and what reading it must give. Bytes are base64; `members` are JSON of the event."""

    type: str
    schema: int
    position: int
    stream: str
    version: int
    event_id: bytes
    state: bytes
    hash: bytes
    metadata: Metadata
    members: dict[str, Any]

    @property
    def row(self) -> Row:
        """The record as the log would have it."""
        return Row(self.position, self.stream, self.version, self.type, self.event_id, self.state, self.hash)


def domain_types() -> list[type[Event]]:
    """All event types that modules of `events` define, by name; those of tests are left out."""
    for module in pkgutil.walk_packages(events.__path__, "events."):
        importlib.import_module(module.name)
    return [
        EVENT_TYPES[name]
        for name in sorted(EVENT_TYPES)
        if EVENT_TYPES[name].__module__.startswith("events.")
    ]


def members(event: Event) -> dict[str, Any]:
    """An event's members as plain JSON, defaults left out."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return plain


def file_name(kind: type[Event]) -> str:
    """Name the golden file of a type's present shape."""
    shape = json.dumps(_without_descriptions(msgspec.json.schema(kind)), sort_keys=True)
    return f"{kind.__name__}.{kind.schema}.{sha256(shape.encode()).hexdigest()[:8]}.json"


def missing(kinds: Iterable[type[Event]], folder: Path = FOLDER) -> list[type[Event]]:
    """Types whose present shape has no golden record."""
    return [kind for kind in kinds if not (folder / file_name(kind)).exists()]


def load(folder: Path = FOLDER) -> dict[str, Golden]:
    """All golden records by file name."""
    return {
        path.name: msgspec.json.decode(path.read_bytes(), type=Golden)
        for path in sorted(folder.glob("*.json"))
    }


def make(kind: type[Event]) -> Golden:
    """Make the golden record of a type's present shape, every member filled."""
    codec = Codec()
    event = SAMPLES.get(kind.__name__) or sample(kind)
    payload, as_read = codec.payload(event)
    state = codec.encode(payload, kind.schema, _METADATA)
    fields = (1, "golden/stream", 1, kind.__name__, _ID, state)
    return Golden(
        type=kind.__name__,
        schema=kind.schema,
        position=1,
        stream="golden/stream",
        version=1,
        event_id=_ID,
        state=state,
        hash=record_hash(GENESIS, *fields),
        metadata=_METADATA,
        members=members(as_read),
    )


def sample(kind: type[Event]) -> Event:
    """Make up an event with every member filled."""
    made = _value(inspect.type_info(kind))
    assert isinstance(made, kind)
    return made


def _value(kind: inspect.Type) -> Any:
    """Make up a value of a type that is not the usual default."""
    match kind:
        case inspect.StructType():
            return kind.cls(**{field.name: _value(field.type) for field in kind.fields})
        case inspect.UnionType():
            return _value(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return _container(kind)((_value(kind.item_type),))
        case inspect.TupleType():
            return tuple(_value(item) for item in kind.item_types)
        case inspect.DictType():
            return {_value(kind.key_type): _value(kind.value_type)}
        case inspect.EnumType():
            return next(iter(kind.cls)) if isinstance(kind.cls, EnumMeta) else None
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.StrType():
            return "golden \u00e9".ljust(kind.min_length or 0, "x")[: kind.max_length]
        case inspect.IntType() | inspect.FloatType():
            return max(7, kind.ge or 7)
        case _:
            return _MADE_UP[type(kind)]


def _container(kind: inspect.Type) -> type[Any]:
    kinds: dict[type[inspect.Type], type[Any]] = {
        inspect.ListType: list,
        inspect.VarTupleType: tuple,
        inspect.SetType: set,
    }
    return kinds.get(type(kind), frozenset)


def _without_descriptions(schema: Any) -> Any:
    """Leave docstrings out of a JSON schema: they are no part of the shape."""
    if isinstance(schema, dict):
        return {
            key: _without_descriptions(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [_without_descriptions(value) for value in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Write the golden records that are missing and name them."""
    for kind in missing(domain_types()):
        path = FOLDER / file_name(kind)
        with path.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(make(kind)), indent=2) + b"\n")
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
