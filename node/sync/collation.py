"""The order of JSON values in CouchDB's Mango: null, false, true, numbers, texts, arrays, objects."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from node.sync.json_text import Json

REMEMBERED_CHARACTERS = 4_096
"""Keys of texts up to this length are remembered: a selector may compare one with a hundred others."""

CHARACTERS_OF_A_STEP = 8
"""Characters of a text that go into its key in the time in which a condition is looked at, some 0.4 us."""

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


def weight(value: Json) -> int:
    """Return about how many times longer it takes to make the key of a value than to look at it."""
    match value:
        case str():
            return len(value) // CHARACTERS_OF_A_STEP
        case list():
            return sum(1 + weight(each) for each in value)
        case dict():
            return sum(1 + weight(name) + weight(each) for name, each in value.items())
        case _:
            return 0


def placed_by(want: Json, spend: Callable[[int], None]) -> Callable[[Json], int]:
    """Return what says whether a value stands below (< 0), above (> 0) or where `want` stands.

    It tells `spend` the `weight` of a value whose key it has to make: that of none of another type.
    """
    group, place = rank(want), key(want)

    def compare(value: Json) -> int:
        if (distance := rank(value) - group) != 0:
            return distance
        spend(weight(value))
        own = key(value)
        return int(own > place) - int(own < place)

    return compare
