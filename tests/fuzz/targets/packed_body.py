"""Invariant: a packed body is refused, or unpacked to what was packed, never beyond limit and ratio."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

from events.errors import MailioError
from node.sync.inflating import ALWAYS_BYTES, inflated

SEEDS = [
    b"g" + gzip.compress(b"text" * 10),
    b"d" + zlib.compress(b"text" * 10),
    b"d" + zlib.compress(b"text" * 10)[2:-4],
    b"g" + gzip.compress(b"0" * 200_000),
    b"g" + gzip.compress(b"one") + gzip.compress(b"two"),
    b"g" + gzip.compress(b"cut")[:-3],
    b"g",
]


def one(data: bytes) -> None:
    """The first byte chooses the encoding and how the rest is cut."""
    encoding = "deflate" if data[:1] == b"d" else "gzip"
    packed = data[1:]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 7):
            yield packed[start : start + 7]

    try:
        plain = asyncio.run(inflated(pieces(), encoding, ratio=100, limit=100_000))
    except MailioError as refused:
        assert refused.public
        return
    assert len(plain) <= min(100_000, max(100 * len(packed), ALWAYS_BYTES))
    if encoding == "gzip" and packed:
        assert gzip.decompress(packed) == plain
