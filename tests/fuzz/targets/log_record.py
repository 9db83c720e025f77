"""Invariant: a stored record is read, or refused by name; a record that was changed anywhere breaks the chain."""

from __future__ import annotations

from events.errors import CorruptRecord, Misconfigured, UnknownEventType
from events.log.chain import GENESIS, Row, record_hash, verify
from events.log.codec import Codec
from tests.golden.record import domain_types, load, members

CODEC = Codec()
GOLDEN = list(load().values())
TYPES = [kind.__name__ for kind in domain_types()]
SEEDS = [bytes([TYPES.index(golden.type)]) + golden.state for golden in GOLDEN if golden.type in TYPES]


def one(data: bytes) -> None:
    """The first byte chooses the type, the rest is the state."""
    topic = TYPES[data[0] % len(TYPES)] if data else "Unknown"
    fields = (1, "stream", 1, topic, bytes(16), data[1:])
    row = Row(*fields, record_hash(GENESIS, *fields))
    assert verify([row]) is None
    assert verify([row._replace(state=row.state + b"x")]) == 1
    try:
        record = CODEC.decode(row)
    except (CorruptRecord, UnknownEventType, Misconfigured) as refused:
        assert topic in str(refused)
        return
    payload, as_read = CODEC.payload(record.event)
    assert members(as_read) == members(record.event)
    assert payload
