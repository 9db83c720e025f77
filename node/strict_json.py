"""JSON from strangers, read strictly: refused is whatever two readers may read differently.

Each name once in an object, no NaN, no infinities, no number longer than somebody needs; and how deep it is.
"""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any, NoReturn


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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


def decoder(number_digits: int) -> json.JSONDecoder:
    """Return a decoder; integers have `number_digits` at most, for the time to read one is quadratic.

    It raises ValueError, and RecursionError for what is nested without end.
    """

    def integer(text: str) -> int:
        if len(text) > number_digits:
            raise ValueError("a number has too many digits")
        return int(text)

    return json.JSONDecoder(
        object_pairs_hook=_members, parse_constant=_constant, parse_float=_float, parse_int=integer
    )


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{,]', re.DOTALL)
"""A text, or what stands in front of a value."""


def is_longer(text: str, tokens: int) -> bool:
    """Whether JSON has more than so many values and names, without making any of them.

    Three bytes of JSON can be sixty in memory, and the interpreter stops for nobody while it makes them.
    """
    if text.count(",") + text.count("[") + text.count("{") <= tokens:
        return False
    # Perhaps most of those stand in texts.
    return next(islice(_TOKEN.finditer(text), tokens, None), None) is not None


def is_deeper(value: Any, depth: int) -> bool:
    """Whether objects and lists are nested in more than `depth` levels."""
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
