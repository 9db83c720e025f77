"""Every shape of every event that was ever written can still be read."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from events.event import EVENT_TYPES, Event
from events.log.chain import verify
from events.log.codec import Codec
from tests.golden import record

GOLDEN = record.load()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_record_is_read_as_it_was_written(name: str) -> None:
    record.domain_types()
    golden = GOLDEN[name]
    assert verify([golden.row]) is None
    recorded = Codec().decode(golden.row)
    assert recorded.metadata == golden.metadata
    if EVENT_TYPES[golden.type].schema == golden.schema:
        assert record.members(recorded.event) == golden.members


def test_every_event_type_has_a_golden_record_of_its_present_shape() -> None:
    lacking = [kind.__name__ for kind in record.missing(record.domain_types())]
    assert lacking == [], "run `python -m tests.golden.record` and commit what it writes"


class Letter(msgspec.Struct, frozen=True):
    kind: str
    size: float


class ShelfFilled(Event, frozen=True):
    """Has a member of most kinds."""

    schema: ClassVar[int] = 2
    name: str
    letters: tuple[Letter, ...]
    pair: tuple[int, bytes]
    marks: frozenset[str] = frozenset()
    counts: dict[str, int] = {}
    note: str | None = None
    full: bool = False


def test_a_sample_fills_every_member_and_survives_the_log() -> None:
    golden = record.make(ShelfFilled)
    assert set(golden.members) == {"name", "letters", "pair", "marks", "counts", "note", "full"}
    assert Codec().decode(golden.row).event == record.sample(ShelfFilled)
    assert msgspec.json.decode(msgspec.json.encode(golden), type=record.Golden) == golden


def test_a_type_without_a_record_is_missing_until_it_has_one(tmp_path: Path) -> None:
    assert record.missing([ShelfFilled], tmp_path) == [ShelfFilled]
    (tmp_path / record.file_name(ShelfFilled)).write_bytes(msgspec.json.encode(record.make(ShelfFilled)))
    assert record.missing([ShelfFilled], tmp_path) == []
    assert list(record.load(tmp_path)) == [record.file_name(ShelfFilled)]


def test_a_member_more_is_another_shape_and_a_docstring_is_not() -> None:
    plain = msgspec.defstruct("X", [("a", int)], bases=(msgspec.Struct,))
    told = msgspec.defstruct("X", [("a", int)], bases=(msgspec.Struct,), namespace={"__doc__": "Told."})
    wider = msgspec.defstruct("X", [("a", int), ("b", str, "")], bases=(msgspec.Struct,))
    for kind in (plain, told, wider):
        kind.schema = 1  # type: ignore[attr-defined]
    names = [record.file_name(kind) for kind in (plain, told, wider)]  # type: ignore[arg-type]
    assert names[0] == names[1] != names[2]
