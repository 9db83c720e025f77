"""Bodies become structs, or a clear refusal."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidInput
from node.api.accounts import KeyProof
from node.api.request_data import decoded


class Box(msgspec.Struct, rename="camel"):
    first_name: str
    count: int = 0
    inner: dict[str, Any] = {}


def test_names_are_matched_in_any_case_on_the_first_level_only() -> None:
    box = decoded(b'{"FIRSTNAME":"a","Inner":{"A":1}}', Box)
    assert box == Box("a", 0, {"A": 1})


def test_unknown_members_are_ignored_whatever_they_hold() -> None:
    assert decoded(b'{"firstName":"a","x":[[[{"y":1e400}]]]}', Box) == Box("a")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"firstName":"\xff"}', "not valid JSON"),
        (b'{"firstName":"\\ud800"}', "not valid JSON"),
        (b"{}", "missing required field `firstName`"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"firstName":null}', "Expected `str`, got `null` - at `$.firstName`"),
        (b'{"firstName":"a","count":1.5}', "Expected `int`, got `float`"),
        (b'{"firstName":"a","count":"1"}', "Expected `int`, got `str`"),
        (b'{"firstName":"a","count":NaN}', "not valid JSON"),
        (b'{"firstName":"a","FirstName":"b"}', "occurs twice"),
        (b'{"firstName":' + b"[" * 50_000, "invalid request"),
        (b'{"inner":' + b'{"a":' * 50_000, "invalid request"),
        (b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deep"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(body: bytes, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(body, Box)
    assert text in refused.value.public


def test_free_objects_are_bounded_in_depth_too() -> None:
    with pytest.raises(InvalidInput, match="nested too deep"):
        decoded(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, dict[str, Any])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for kind in (Box, KeyProof, dict[str, Any]):
        with suppress(InvalidInput):
            decoded(body, kind)
