"""Where documents are, in one array: whatever was put in is found, whatever its key shares with others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.stores import places
from projections.stores.places import NUMBER_BITS, Places

KEYS = st.integers(-(2**63), 2**63 - 1)


@given(keys=st.lists(KEYS | st.integers(-3, 3), max_size=300), step=st.integers(1, 50))
def test_what_was_put_in_is_found_however_many_there_are(keys: list[int], step: int) -> None:
    numbered = [(key, number) for number, key in enumerate(keys, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "FIRST_WORDS", 4)
        table = Places()
    for first in range(0, len(numbered), step):
        table.put(numbered[first : first + step])
    for key, number in numbered:
        assert number in table.find(key)


def test_nothing_is_found_where_nothing_was_put_in() -> None:
    table = Places()
    table.put([(5, 1)])
    assert table.find(6) == []


def test_keys_that_differ_only_in_the_bits_that_are_not_kept_are_both_found() -> None:
    table = Places()
    table.put([(5, 1), (5 + (1 << 64 - NUMBER_BITS), 2), (6, 3)])
    assert table.find(5) == [1, 2]
    assert table.find(6) == [3]
