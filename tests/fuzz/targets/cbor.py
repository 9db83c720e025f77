"""Invariant: CBOR is refused, or decoded into JSON-like data that encodes and decodes to itself."""

from __future__ import annotations

from events.errors import InvalidInput, LimitExceeded
from node.crypto.cbor import decode, encode

SEEDS = [
    encode({"a": [1, -1, 1.5, None, True, "text", {"b": []}]}),
    encode({"n": 2**63, "m": -(2**63)}),
    b"\x9f\x01\xff",
    b"\xa2\x61a\x01\x61a\x02",
    b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc2\x41\x01",
    b"\x81" * 20 + b"\x01",
]


def one(data: bytes) -> None:
    try:
        value = decode(data)
        encoded = encode(value)
    except (InvalidInput, LimitExceeded):
        return
    # NaN and bytes have no form in JSON: `encode` refuses them. What it takes is stable.
    assert encode(decode(encoded)) == encoded
