"""Where documents are, by hashes of their ids: some 16 bytes each, where a dictionary takes 130.

A table in one array (open addressing): a document's word has its number in the lower bits and, above them,
the bits of its key that are left; these say at which word the search for it begins. Keys of two documents may
be the same in those bits: whoever asks looks at what is there.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from typing import Final

NUMBER_BITS: Final = 24
"""Numbers are below 2^24: eight times as many as are kept in mind (`projections.stores.building`)."""

FIRST_WORDS: Final = 1 << 20
"""Words at the beginning, 8 MB: enough for 700,000 documents. Doubled where more come."""

_NUMBER: Final = (1 << NUMBER_BITS) - 1
_WORD: Final = (1 << 64) - 1


class Places:
    """Numbers of documents, from 1, by keys of 64 bits. What was put in stays."""

    def __init__(self) -> None:
        self._words = _empty(FIRST_WORDS)
        self._free = _room(self._words)

    def find(self, key: int) -> list[int]:
        """Return the numbers that may be meant: none or one, rarely more."""
        words, mask = self._words, len(self._words) - 1
        wanted = (key << NUMBER_BITS & _WORD) >> NUMBER_BITS
        at = wanted & mask
        found = []
        while word := words[at]:
            if word >> NUMBER_BITS == wanted:
                found.append(word & _NUMBER)
            at = at + 1 & mask
        return found

    def put(self, places: Collection[tuple[int, int]]) -> None:
        """Take in (key, number) of new documents."""
        while len(places) > self._free:
            self._grow()
        self._free -= len(places)
        _enter(self._words, (key << NUMBER_BITS & _WORD | number for key, number in places))

    def _grow(self) -> None:
        old, self._words = self._words, _empty(2 * len(self._words))
        self._free += _room(self._words) - _room(old)
        _enter(self._words, filter(None, old))


def _empty(words: int) -> array[int]:
    return array("Q", bytes(8 * words))


def _room(words: array[int]) -> int:
    """How many words may be taken: with two in three, a search in vain ends after four or five."""
    return len(words) * 2 // 3


def _enter(words: array[int], fresh: Iterable[int]) -> None:
    mask = len(words) - 1
    for word in fresh:
        at = word >> NUMBER_BITS & mask
        while words[at]:
            at = at + 1 & mask
        words[at] = word
