"""The order of JSON values in CouchDB's Mango: null, false, true, numbers, texts, arrays, objects."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from node.sync.json_text import Json

REMEMBERED_CHARACTERS = 4_096
"""Keys of texts up to this length are remembered: a selector may compare one with a hundred others."""

MISSING = object()
"""A member that a document does not have: no value at all, not even null."""


def rank(value: Json) -> int:
    """Group of a value's type."""
    match value:
        case None:
            return 1
        case bool():
            return 2
        case int() | float():
            return 3
        case str():
            return 4
        case list():
            return 5
        case _:
            return 6


def key(value: Json) -> Any:
    """A sort key: comparing two keys compares the values. Texts go by letters first, then by case."""
    match value:
        case None:
            return (1,)
        case bool() | int() | float():
            return (rank(value), value)
        case str():
            return (4, _remembered(value) if len(value) <= REMEMBERED_CHARACTERS else text_key(value))
        case list():
            return (5, tuple(key(each) for each in value))
        case dict():
            return (6, tuple((text_key(name), key(each)) for name, each in value.items()))
        case _:
            return (0,)


def text_key(text: str) -> tuple[str, str, str]:
    """Order texts like a dictionary: case and accents count only between otherwise equal ones.

    An approximation of the Unicode collation that CouchDB gets from ICU, without tailoring.
    """
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(each for each in plain if not unicodedata.combining(each)).casefold()
    return (letters, plain.swapcase(), text)


@lru_cache(maxsize=128)
def _remembered(text: str) -> tuple[str, str, str]:
    return text_key(text)


def compare(left: Json, right: Json) -> int:
    """Return below, above or equal to 0 as the left value stands to the right one."""
    a, b = key(left), key(right)
    return int(a > b) - int(a < b)
