"""CBOR: bombs are refused cheaply, equality means equality."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import InvalidInput, LimitExceeded
from node.crypto.cbor import MAX_DEPTH, decode, differences, encode, equal_to_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_what_is_encoded_decodes_to_the_same_and_equals_itself(value: Any) -> None:
    again = decode(encode(value))
    assert again == value
    assert equal_to_json(again, value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_either_decode_or_are_refused_with_our_own_error(data: bytes) -> None:
    try:
        decode(data)
    except (InvalidInput, LimitExceeded):
        return


@settings(max_examples=100, deadline=None)
@given(PLAIN, st.data())
def test_every_truncation_is_refused(value: Any, data: st.DataObject) -> None:
    encoded = encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(InvalidInput):
        decode(encoded[:cut])


@pytest.mark.parametrize(
    ("value", "hex_text"),
    [(23, "17"), (24, "1818"), (255, "18ff"), (256, "190100"), (65536, "1a00010000"), (2**32, "1b0000000100000000"),
     (-1, "20"), (1.0, "fb3ff0000000000000"), (None, "f6"), (True, "f5"), ({"b": 1, "a": []}, "a261620161618" + "0")],
)  # fmt: skip
def test_heads_are_shortest_floats_take_nine_bytes_and_order_is_kept(value: Any, hex_text: str) -> None:
    assert encode(value).hex() == hex_text


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**64, -(2**63) - 1, {1: 2}, {"a": object()}, {1, 2}]
)
def test_what_json_can_not_say_is_not_encoded(value: Any) -> None:
    with pytest.raises(InvalidInput):
        encode(value)


def test_too_deep_a_value_is_not_encoded() -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(InvalidInput):
        encode(value)


@pytest.mark.parametrize(
    "hex_text",
    [
        "9bffffffffffffffff", "bbffffffffffffffff", "5bffffffffffffffff", "7bffffffffffffffff",
        "9a7fffffff", "ba7fffffff", "5a7fffffff", "9b00000000ffffffff00", "bb7fffffffffffffff6161",
        "5f4161ff", "7f6161ff", "9f01ff", "bf616101ff", "ff",
        "c11a514b67b0", "c249010000000000000000", "c48221196ab3", "d81c80", "d81d00", "d9010280", "d823626128",
        "a2616101616102", "a10102", "a1f6f6", "a1414100", "a18000", "f820", "f8ff", "e0", "f0", "1c", "1f", "fc",
        "0000", "6161f6", "62c328", "61ff", "", "18", "1b00",
    ],
)  # fmt: skip
def test_malformed_or_foreign_cbor_is_refused_at_once(hex_text: str) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(InvalidInput):
        decode(bytes.fromhex(hex_text))
    took, (_, peak) = time.perf_counter() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.5
    assert peak < 1 << 20


@pytest.mark.parametrize("opener", [b"\x81", b"\xa1\x61a"])
def test_deep_nesting_is_refused_without_recursion(opener: bytes) -> None:
    with pytest.raises(LimitExceeded):
        decode(opener * 200_000 + b"\x00")


def test_the_depth_limit_is_exact() -> None:
    assert decode(b"\x81" * MAX_DEPTH + b"\x00")
    with pytest.raises(LimitExceeded):
        decode(b"\x81" * (MAX_DEPTH + 1) + b"\x00")


def test_many_small_items_are_refused_by_count_and_large_values_by_size() -> None:
    many = b"\x9a" + (200_000).to_bytes(4, "big") + b"\x00" * 200_000
    with pytest.raises(LimitExceeded):
        decode(many)
    with pytest.raises(LimitExceeded):
        decode(encode("x" * 1000), limit=999)


def test_the_wide_heads_of_javascript_encoders_are_read() -> None:
    assert decode(bytes.fromhex("b90001" + "79000161" + "1b0000000000000001")) == {"a": 1}


def test_repeated_strings_do_not_grow_by_reference() -> None:
    shared = cbor2.dumps([["x"] * 3] * 3, value_sharing=True)
    with pytest.raises(InvalidInput):
        decode(shared)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ({"a": 1}, {"a": 1.0}, True), ({"a": 1.5e12}, {"a": 1500000000000}, True), ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False), ({"a": "1"}, {"a": 1}, False), ({"a": b"x"}, {"a": "x"}, False),
        ({"a": ""}, {}, True), ({"a": []}, {}, True), ({"a": None}, {}, True), ({}, {"a": False}, True),
        ({}, {"a": 0}, True), ({"a": cbor2.undefined}, {}, True), ({"a": {}}, {}, False), ({}, {"a": "x"}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False), ({"a": [1]}, {"a": [1, None]}, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"A": 1}, False), ({"a": 2**53 + 1}, {"a": float(2**53)}, False), ({"a": [None]}, {"a": [""]}, True),
        ({"a": {"b": {"c": "x"}}}, {"a": {"b": {"c": "y"}}}, False), ([], {}, False), ({"a": "x"}, {"a": ["x"]}, False),
        ({"a": "e\u0301"}, {"a": "\u00e9"}, False),
    ],
    ids=repr,
)  # fmt: skip
def test_equality_is_by_value_and_empty_is_absent(ours: Any, theirs: Any, same: bool) -> None:
    assert equal_to_json(ours, theirs) is same
    assert equal_to_json(theirs, ours) is same


def test_the_differing_member_is_named() -> None:
    assert list(differences({"a": [{"b": 1}]}, {"a": [{"b": 2}]})) == ["a.0.b"]


def test_the_lossy_members_are_passed_over_only_where_go_loses_them() -> None:
    lost: Any = {"didDocument": {"id": {}, "verificationMethod": [{"publicKeyJwk": {"Key": {}}}]}}
    full = {"didDocument": {"id": "did:x:y", "verificationMethod": [{"publicKeyJwk": {"x": "k"}}]}}
    assert equal_to_json(lost, full, lossy_did_documents=True)
    assert not equal_to_json(lost, full)
    assert not equal_to_json({"id": {}}, {"id": "did:x:y"}, lossy_did_documents=True)
    other = {"didDocument": {"id": "did:x:z", "verificationMethod": []}}
    assert not equal_to_json(other, full, lossy_did_documents=True)
