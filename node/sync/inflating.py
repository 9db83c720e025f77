"""Packed request bodies, unpacked within bounds: what a bomb would unpack to is never made.

The HTTP server itself unpacks nothing (`node.api.app.SERVER`): it would do so before anybody has asked who
sends it and whether it is wanted, all at once, while every other client waits.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final

from node.sync.refusal import Refusal, bad_request, too_large

STEP_BYTES: Final = 1 << 20
"""Unpacked at once, some 3 ms; between two steps others get their turn."""

ALWAYS_BYTES: Final = 65_536
"""Any body may unpack to this much: short texts reach any ratio."""

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_ZLIB = 8
"""Low bits of the first byte of RFC 1950; without them it is the bare RFC 1951 that some clients send."""


def encoding_of(header: str) -> str:
    """Return `gzip`, `deflate`, or "" for a body that is not packed; raise a refusal (415) for others."""
    encoding = header.strip().lower()
    if encoding in {"", "identity"}:
        return ""
    if encoding not in _WINDOW:
        raise Refusal(415, "bad_ctype", "Content-Encoding is gzip or deflate")
    return encoding


async def inflated(packed: AsyncIterator[bytes], encoding: str, *, ratio: int, limit: int) -> bytes:
    """Unpack a body to `limit` bytes at most, and to `ratio` times the bytes that have come.

    Raises `too_large`, and `bad_request` for what is not packed as it says, or does not end at its end.
    """
    stream, body, received = None, bytearray(), 0
    async for chunk in packed:
        stream = stream or zlib.decompressobj(_window(encoding, chunk))
        received += len(chunk)
        room = min(limit, max(received * ratio, ALWAYS_BYTES))
        while chunk:
            body += _step(stream, chunk)
            if len(body) > room:
                raise too_large(f"a request unpacks to {limit} bytes and {ratio} times its length at most")
            chunk = stream.unconsumed_tail  # noqa: PLW2901 - what is left of it
            await asyncio.sleep(0)
    if stream is not None and not stream.eof:
        raise bad_request("the packed body ends early")
    return bytes(body)


def _window(encoding: str, first: bytes) -> int:
    bare = encoding == "deflate" and first[0] & 0xF != _ZLIB
    return -zlib.MAX_WBITS if bare else _WINDOW[encoding]


def _step(stream: zlib._Decompress, chunk: bytes) -> bytes:
    try:
        piece = stream.decompress(chunk, STEP_BYTES)
    except zlib.error as error:
        raise bad_request("the body is not packed as it says", str(error)) from None
    if stream.unused_data:
        raise bad_request("the packed body goes on behind its end")
    return piece
