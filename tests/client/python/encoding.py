"""base64 and base64url (RFC 4648 sections 4 and 5), read strictly, and JSON as it is signed."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from tests.client.python.errors import Refused


def to_base64url(data: bytes) -> str:
    """Encode without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: object) -> bytes:
    """Decode; one spelling per content, so that nobody can change text without changing bytes."""
    if not isinstance(text, str):
        raise Refused("not base64url text")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refused("not base64url text") from None
    if to_base64url(data) != text:
        raise Refused("not base64url text")
    return data


def from_base64(text: str) -> bytes:
    """Decode the standard alphabet with padding. Raises Refused."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("not base64 text") from None


def to_json(value: Any) -> bytes:
    """Write JSON without spaces, members in the order given: the same text as `JSON.stringify`."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(data: bytes | str) -> Any:
    """Read JSON. Raises Refused."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("not JSON") from None
