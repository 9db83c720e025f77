"""The hash chain that makes the log tamper-evident. Pure.

Each record's hash is SHA-256 over the hash of the record before it and over every stored field. Fields of
fixed width stand as they are, the others behind their length, so no two records have the same image:

    previous (32) | position (u64) | version (u64) | then stream, topic, event id, state: u32 length, bytes

Integers are big-endian, texts UTF-8, a missing event id has length 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

GENESIS = sha256(b"mailio log, format 1").digest()
"""What the first record finds in place of the hash of a record before it."""

_NUMBERS = struct.Struct(">QQ").pack
_LENGTH = struct.Struct(">I").pack


class Row(NamedTuple):
    """A record as it is stored. `event_id` has 16 bytes, or is None if another program wrote the record."""

    position: int
    stream: str
    version: int
    topic: str
    event_id: bytes | None
    state: bytes
    hash: bytes


def record_hash(  # noqa: PLR0917 - the fields in their stored order; called once per record
    previous: bytes,
    position: int,
    stream: str,
    version: int,
    topic: str,
    event_id: bytes | None,
    state: bytes,
) -> bytes:
    """Return the 32-byte hash of a record that follows one with the hash `previous`."""
    name, kind, ident = stream.encode(), topic.encode(), event_id or b""
    return sha256(
        b"".join(
            (
                previous,
                _NUMBERS(position, version),
                _LENGTH(len(name)),
                name,
                _LENGTH(len(kind)),
                kind,
                _LENGTH(len(ident)),
                ident,
                _LENGTH(len(state)),
                state,
            )
        )
    ).digest()


def expected_hash(previous: bytes, row: Row) -> bytes | None:
    """Return the hash that a stored row should have; None when a field is not even of its type."""
    try:
        return record_hash(previous, *row[:6])
    except (AttributeError, TypeError, struct.error):
        return None


def verify(rows: Iterable[Row], previous: bytes = GENESIS, after: int = 0) -> int | None:
    """Return the first position that is missing or does not hash to what it says, or None if all is well.

    `rows` follow in order a record at position `after` whose hash is `previous`.
    """
    for row in rows:
        after += 1
        if row[0] != after or expected_hash(previous, row) != row[6]:
            return after
        previous = row[6]
    return None
