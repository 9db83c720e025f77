"""JSON from strangers: strict, bounded, numbers kept, and the canonical form in which bodies are stored.

Refused beyond RFC 8259: duplicate names, NaN and infinities, lone surrogates, and nesting above a limit.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from node.sync.refusal import Refusal, bad_request

Json = Any
"""A value that `json` gives: dict, list, str, int, float, bool or None."""

MAX_NUMBER_DIGITS = 400
"""Digits of an integer: the largest float has 309."""


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return members


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_NUMBER_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of one: only a text with such escapes is looked through for lone ones."""

_decoder = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_float=_float, parse_int=_int
)
_canonical = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
)
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def parsed(text: bytes | str, depth: int) -> Json:
    """Read JSON text nested at most `depth` deep; raise a `bad_request` refusal for any other text."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = _decoder.decode(text)
        if _SURROGATE.search(text):
            _canonical.encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_request", "invalid UTF-8 JSON", str(error)) from None
    if _deeper(value, depth):
        raise bad_request(f"JSON is nested deeper than {depth}")
    return value


def _deeper(value: Json, depth: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    while level:
        if depth == 0:
            return True
        depth -= 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return False


def canonical(value: Json) -> bytes:
    """Write with sorted keys and no spaces; raise a `bad_request` refusal for lone surrogates."""
    try:
        return _canonical.encode(value).encode()
    except UnicodeEncodeError as error:
        raise bad_request("text is not Unicode", str(error)) from None


def written(value: Json) -> bytes:
    """Write compactly, members in the order given."""
    return _compact.encode(value).encode("utf-8", "replace")
