from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.log.chain import GENESIS, Row, record_hash, verify


def chain_of(count: int) -> list[Row]:
    rows: list[Row] = []
    previous = GENESIS
    for position in range(1, count + 1):
        fields = (
            position,
            f"s{position % 2}",
            position,
            "Filed",
            bytes([position]) * 16,
            b"state %d" % position,
        )
        previous = record_hash(previous, *fields)
        rows.append(Row(*fields, previous))
    return rows


def flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def test_an_untouched_chain_verifies_whole_and_in_parts() -> None:
    rows = chain_of(9)
    assert verify(rows) is None
    assert verify(rows[4:], rows[3].hash, 4) is None
    assert verify([]) is None


def test_a_flip_of_any_byte_of_a_record_names_its_position() -> None:
    rows = chain_of(5)
    third = rows[2]
    assert third.event_id is not None
    forged = [third._replace(state=flipped(third.state, i)) for i in range(len(third.state))]
    forged += [third._replace(event_id=flipped(third.event_id, i)) for i in range(16)]
    forged += [third._replace(hash=flipped(third.hash, i)) for i in range(32)]
    forged += [
        third._replace(stream=flipped(third.stream.encode(), i).decode()) for i in range(len(third.stream))
    ]
    forged += [
        third._replace(topic=flipped(third.topic.encode(), i).decode()) for i in range(len(third.topic))
    ]
    forged += [third._replace(version=third.version ^ 1 << bit) for bit in range(63)]
    forged += [third._replace(position=third.position ^ 1 << bit) for bit in range(63)]
    forged += [third._replace(event_id=None)]
    for record in forged:
        assert verify([*rows[:2], record, *rows[3:]]) == 3, record


def test_a_missing_a_repeated_and_a_swapped_record_are_found() -> None:
    a, b, c, d = chain_of(4)
    assert verify([a, c, d]) == 2
    assert verify([b, c, d]) == 1
    assert verify([a, b, b, c]) == 3
    assert verify([a, c, b, d]) == 2


def test_a_record_rehashed_after_a_change_gives_itself_away_by_the_next() -> None:
    a, b, c = chain_of(3)
    changed = b._replace(state=b"other")
    rehashed = changed._replace(hash=record_hash(a.hash, *changed[:6]))
    assert verify([a, rehashed, c]) == 3


fields = st.tuples(st.text(max_size=4), st.text(max_size=4), st.binary(max_size=4), st.binary(max_size=4))


@given(fields, fields)
def test_no_two_records_share_an_image(
    one: tuple[str, str, bytes, bytes], other: tuple[str, str, bytes, bytes]
) -> None:
    def digest(stream: str, topic: str, event_id: bytes, state: bytes) -> bytes:
        return record_hash(GENESIS, 1, stream, 1, topic, event_id, state)

    assert (digest(*one) == digest(*other)) == (one == other)
