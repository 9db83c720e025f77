from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import CorruptRecord, InvalidInput, LimitExceeded, UnknownEventType
from events.event import EVENT_TYPES, Event, Metadata, Recorded
from events.log import codec as codec_module
from events.log.chain import Row
from events.log.codec import UPCASTERS, Codec, Payload, upcaster


class Part(msgspec.Struct, frozen=True):
    name: str
    digest: bytes


class ParcelSent(Event, frozen=True):
    to: str
    weight: int = 0
    parts: tuple[Part, ...] = ()
    labels: dict[str, str] = {}
    note: str | None = None


class ParcelWeighed(Event, frozen=True):
    """Its shapes: 1 {pounds}; 2 {grams}; 3 {grams, scale}, all members required."""

    schema: ClassVar[int] = 3
    grams: int
    scale: str


def to_grams(members: Payload) -> Payload:
    return {"grams": members["pounds"] * 454}


def name_scale(members: Payload) -> Payload:
    return {**members, "scale": "unknown"}


LIFTS: dict[tuple[str, int], Any] = {("ParcelWeighed", 1): to_grams, ("ParcelWeighed", 2): name_scale}

idents = st.binary(min_size=16, max_size=16).map(bytes.hex)
texts = st.text(max_size=20)
descriptions = st.builds(
    Metadata,
    id=idents,
    at=st.integers(0, 2**53),
    actor=texts,
    correlation=idents,
    causation=st.just("") | idents,
    software=texts,
)
parcels = st.builds(
    ParcelSent,
    to=texts,
    weight=st.integers(-(2**63), 2**63 - 1),
    parts=st.lists(st.builds(Part, texts, st.binary(max_size=20)), max_size=3).map(tuple),
    labels=st.dictionaries(texts, texts, max_size=3),
    note=st.none() | texts,
)
SOMEBODY = Metadata(id="01" * 16, at=5, actor="smtp", correlation="02" * 16, software="9.9")


def row(topic: str, state: bytes, position: int = 7) -> Row:
    return Row(position, "stream", 3, topic, bytes.fromhex(SOMEBODY.id), state, b"h" * 32)


def stored(topic: str, schema: int, members: Payload) -> Row:
    return row(topic, Codec().encode(msgspec.msgpack.encode(members), schema, SOMEBODY))


@given(parcels, descriptions)
def test_what_is_encoded_is_decoded(event: ParcelSent, metadata: Metadata) -> None:
    codec = Codec()
    payload, as_read = codec.payload(event)
    state = codec.encode(payload, event.schema, metadata)
    assert as_read == event
    decoded = codec.decode(Row(7, "s", 3, "ParcelSent", bytes.fromhex(metadata.id), state, b"h" * 32))
    assert decoded == Recorded(
        position=7, stream="s", version=3, event=event, metadata=metadata, hash=b"h" * 32
    )


@given(st.integers(0, 10**6))
def test_old_shapes_are_lifted_step_by_step_to_the_current_one(pounds: int) -> None:
    codec = Codec(upcasters=LIFTS)
    expected = ParcelWeighed(grams=pounds * 454, scale="unknown")
    assert codec.decode(stored("ParcelWeighed", 1, {"pounds": pounds})).event == expected
    assert codec.decode(stored("ParcelWeighed", 2, {"grams": pounds * 454})).event == expected
    assert (
        codec.decode(stored("ParcelWeighed", 3, {"grams": pounds * 454, "scale": "unknown"})).event
        == expected
    )


@pytest.mark.parametrize(
    ("topic", "schema", "why"),
    [
        ("ParcelTeleported", 1, "does not know the type"),
        ("ParcelSent", 2, "schema 1 at most"),
        ("ParcelWeighed", 1, "no upcaster from schema 1"),
    ],
)
def test_what_this_program_cannot_read_is_named_with_its_place_and_writer(
    topic: str, schema: int, why: str
) -> None:
    with pytest.raises(UnknownEventType) as refusal:
        Codec(upcasters={}).decode(stored(topic, schema, {"to": "x"}))
    for part in (topic, f"schema {schema}", "position 7", "9.9", why):
        assert part in str(refusal.value)


def test_a_member_of_a_newer_program_is_passed_over() -> None:
    assert Codec().decode(stored("ParcelSent", 1, {"to": "x", "drone": True})).event == ParcelSent(to="x")


@pytest.mark.parametrize("members", [{}, {"to": 5}, {"to": None}, {"to": "x", "parts": 1}])
def test_members_of_a_wrong_shape_are_a_corrupt_record_at_a_position(members: Payload) -> None:
    with pytest.raises(CorruptRecord, match="ParcelSent at position 7"):
        Codec().decode(stored("ParcelSent", 1, members))


def test_every_truncation_of_a_record_is_a_corrupt_record() -> None:
    state = stored("ParcelSent", 1, {"to": "somebody"}).state
    for length in range(len(state)):
        with pytest.raises(CorruptRecord):
            Codec().decode(row("ParcelSent", state[:length]))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise_anything_unexpected(state: bytes) -> None:
    try:
        Codec().decode(row("ParcelSent", state))
    except (CorruptRecord, UnknownEventType):
        return


def test_an_unregistered_type_is_not_encoded() -> None:
    with pytest.raises(InvalidInput, match="not a registered event type"):
        Codec(types={}).payload(ParcelSent(to="x"))


@pytest.mark.parametrize("weight", [2**64, "heavy", None, 1.5])
def test_an_event_built_from_wrong_values_is_refused_before_it_is_stored(weight: Any) -> None:
    with pytest.raises(InvalidInput, match="ParcelSent"):
        Codec().payload(ParcelSent(to="x", weight=weight))


def test_a_record_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "MAX_STATE_BYTES", 1_000)
    payload, _ = Codec().payload(ParcelSent(to="x" * 1_000))
    with pytest.raises(LimitExceeded):
        Codec().encode(payload, 1, SOMEBODY)


def test_two_upcasters_for_one_step_are_refused() -> None:
    upcaster("ParcelLost", 1)(to_grams)
    try:
        with pytest.raises(TypeError, match="ParcelLost"):
            upcaster("ParcelLost", 1)(name_scale)
    finally:
        del UPCASTERS["ParcelLost", 1]


def test_the_types_of_this_suite_are_registered_by_their_names() -> None:
    assert EVENT_TYPES["ParcelSent"] is ParcelSent
