"""JSON from strangers: strict, bounded, numbers kept, and the canonical form in which bodies are stored.

Refused beyond RFC 8259: duplicate names, NaN and infinities, lone surrogates, and nesting above a limit.
"""

from __future__ import annotations

import json
import re
from typing import Any

from node.strict_json import decoder, is_deeper, is_longer
from node.sync.refusal import Refusal, bad_request, too_large

Json = Any
"""A value that `json` gives: dict, list, str, int, float, bool or None."""

MAX_NUMBER_DIGITS = 400
"""Digits of an integer: the largest float has 309."""


MAX_TOKENS = 500_000
"""Values and names in one text: 5,000 documents of 30 members have 300,000. They take 0.4 s and 30 MB."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of one: only a text with such escapes is looked through for lone ones."""

_decoder = decoder(MAX_NUMBER_DIGITS)
_canonical = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
)
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def parsed(text: bytes | str, depth: int) -> Json:
    """Read JSON text nested at most `depth` deep; raise a refusal for any other text."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if is_longer(text, MAX_TOKENS):
            raise too_large(f"a request has {MAX_TOKENS} values at most")
        value = _decoder.decode(text)
        if _SURROGATE.search(text):
            _canonical.encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_request", "invalid UTF-8 JSON", str(error)) from None
    if is_deeper(value, depth):
        raise bad_request(f"JSON is nested deeper than {depth}")
    return value


def canonical(value: Json) -> bytes:
    """Write with sorted keys and no spaces; raise a `bad_request` refusal for lone surrogates."""
    try:
        return _canonical.encode(value).encode()
    except UnicodeEncodeError as error:
        raise bad_request("text is not Unicode", str(error)) from None


def written(value: Json) -> bytes:
    """Write compactly, members in the order given."""
    return _compact.encode(value).encode("utf-8", "replace")
