"""Strict base64: one text for one value, so that no signed or stored text has a second spelling.

`base64` has the standard alphabet with padding, `base64url` the URL alphabet without (wire spec
section 0.1). White space, missing or extra padding and non-zero spare bits are refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from events.errors import InvalidInput, LimitExceeded

MAX_TEXT: Final = 1 << 20
"""Characters decoded in one call unless the caller says otherwise: no identity text comes near it."""

_FROM_URL: Final = str.maketrans("-_", "+/")


def to_base64(data: bytes) -> str:
    """Encode with the standard alphabet and padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def to_base64url(data: bytes) -> str:
    """Encode with the URL alphabet, unpadded."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64(text: object, *, length: int | None = None, limit: int = MAX_TEXT) -> bytes:
    """Decode `base64`; with `length`, require that many bytes. Raises InvalidInput, LimitExceeded."""
    raw = _decode(text, limit)
    if to_base64(raw) != text:
        raise InvalidInput("invalid base64")
    return _of_length(raw, length)


def from_base64url(text: object, *, length: int | None = None, limit: int = MAX_TEXT) -> bytes:
    """Decode `base64url`; with `length`, require that many bytes. Raises InvalidInput, LimitExceeded."""
    padded = (text + "=" * (-len(text) % 4)).translate(_FROM_URL) if isinstance(text, str) else text
    raw = _decode(padded, limit)
    if to_base64url(raw) != text:
        raise InvalidInput("invalid base64url")
    return _of_length(raw, length)


def _decode(text: object, limit: int) -> bytes:
    if not isinstance(text, str):
        raise InvalidInput("invalid base64", "not a text")
    if len(text) > limit:
        raise LimitExceeded("base64 text too long", f"{len(text)} characters, limit {limit}")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise InvalidInput("invalid base64") from None


def _of_length(raw: bytes, length: int | None) -> bytes:
    if length is not None and len(raw) != length:
        raise InvalidInput("wrong length", f"{len(raw)} bytes where {length} are due")
    return raw
