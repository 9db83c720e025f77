"""Records beside a writing node: found, filtered, decoded as far as it goes; places by position and time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events.errors import InvalidInput, Misconfigured
from events.event import EVENT_TYPES, Event
from events.log import reading
from events.log.chain import Row
from events.log.clock import VirtualClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.reading import LogReader
from events.log.sqlite_log import SqliteLog
from events.types import known_types
from node.cli.output import json_text
from node.cli.records import line_of
from node.inspection.places import moment_of, position_at, position_of
from node.inspection.records import Seen, see
from node.inspection.searching import Wanted, correlation_of, newest, search, shown
from tests.factories import email_claimed, folder_created, folder_removed
from tests.golden.record import domain_types
from tests.tampering import tamper

NOW = 1_764_323_400_000
"""2025-11-28 09:50 UTC."""


class CarFlown(Event, frozen=True, kw_only=True):
    """An event that only this test's log knows."""

    what: str
    raw: bytes = b""


async def fill(log: SqliteLog, clock: VirtualClock, count: int = 10, step: int = 1000) -> None:
    for number in range(count):
        event = folder_created(f"f{number}", f"Folder {number}")
        origin = Origin(actor=f"client/{number % 2}")
        await log.append(Write(f"mailbox-{number % 2}", (event,)), origin=origin)
        clock.advance(step)


def positions(found: list[Seen]) -> list[int]:
    return [seen.row.position for seen in found]


def nobody(done: int, total: int) -> None:
    """Show nothing."""


def searched(reader: LogReader, codec: Codec, **wanted: object) -> list[int]:
    return positions(list(search(reader, codec, Wanted(**wanted), nobody)))  # type: ignore[arg-type]


def test_every_type_of_the_program_is_known_to_inspectors() -> None:
    assert set(known_types()) == {kind.__name__ for kind in domain_types()}


def test_a_log_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no log here"):
        LogReader.open(tmp_path / "log.sqlite")
    (tmp_path / "log.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(Misconfigured):
        LogReader.open(tmp_path / "log.sqlite")


async def test_pages_are_bounded_by_count_and_by_bytes_and_lose_nothing(
    log: SqliteLog, clock: VirtualClock, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(log, clock, 23, 0)
    for rows, size in ((5, 1 << 20), (1000, 150), (1, 1)):
        monkeypatch.setattr(reading, "PAGE_ROWS", rows)
        monkeypatch.setattr(reading, "PAGE_BYTES", size)
        monkeypatch.setattr(reading, "WINDOW", 7)
        pages = list(reader.pages())
        assert [row.position for page in pages for row in page] == list(range(1, 24))
        assert max(map(len, pages)) <= rows
        typed = [row.position for page in reader.pages(types=("FolderCreated",)) for row in page]
        assert typed == list(range(1, 24))
        assert [row.version for row in reader.stream("mailbox-1")] == list(range(1, 12))


async def test_a_reader_sees_what_is_appended_while_it_reads(
    log: SqliteLog, clock: VirtualClock, reader: LogReader, codec: Codec
) -> None:
    await fill(log, clock, 3)
    following = newest(reader, codec, 2, pause=lambda: None)
    assert positions([next(following), next(following)]) == [2, 3]
    await fill(log, clock, 1)
    assert next(following).row.position == 4
    assert positions(list(newest(reader, codec, 100))) == [1, 2, 3, 4]
    assert positions(list(newest(reader, codec, 0))) == []


async def test_filters_narrow_a_search(
    log: SqliteLog, clock: VirtualClock, reader: LogReader, codec: Codec
) -> None:
    await fill(log, clock)
    (record,) = await log.append(Write("mailbox-0", (folder_removed("f0"),)), origin=Origin(actor="client/0"))
    answer = Origin(actor="mailbox/0", cause=record.metadata)
    await log.append(Write("mailbox-1", (folder_removed("f1"),)), origin=answer)
    assert searched(reader, codec) == list(range(1, 13))
    assert searched(reader, codec, types=("FolderRemoved",)) == [11, 12]
    assert searched(reader, codec, stream="mailbox-1") == [2, 4, 6, 8, 10, 12]
    assert searched(reader, codec, stream="mailbox-*", after=10) == [11, 12]
    assert searched(reader, codec, stream="mailbox-1", after=3, upto=8) == [4, 6, 8]
    assert searched(reader, codec, actor="mailbox*") == [12]
    assert searched(reader, codec, actor="client/0", upto=3) == [1, 3]
    assert searched(reader, codec, correlation=record.metadata.id) == [11, 12]
    assert correlation_of("12", reader, codec) == record.metadata.id
    assert searched(reader, codec, text="folder 3", ignore_case=True) == [4]
    assert searched(reader, codec, text="folder 3") == []
    assert searched(reader, codec, text="Folder [45]", pattern=True) == [5, 6]
    assert searched(reader, codec, text="Folder [45]") == []
    assert [seen.row.position for seen in shown(record.metadata.id, reader, codec)] == [11]
    assert positions(list(shown("7", reader, codec))) == [7]
    assert positions(list(shown("mailbox-0", reader, codec)))[-1] == 11
    assert list(shown("99", reader, codec)) == list(shown("nothing", reader, codec)) == []
    with pytest.raises(InvalidInput, match="regular expression"):
        searched(reader, codec, text="(", pattern=True)
    with pytest.raises(InvalidInput, match="no event"):
        correlation_of("99", reader, codec)


async def test_an_event_of_a_newer_program_is_shown_raw_with_the_version_that_is_needed(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    event = CarFlown(what="a flying car", raw=b"\xff\x00")
    await log.append(Write("future", (event,)), origin=Origin(actor="test"))
    (seen,) = shown("future", reader, codec)
    assert (seen.event, seen.newer) == (None, True)
    assert "mailio-node/1.0" in seen.problem
    assert seen.members == {"what": "a flying car", "raw": "/wA="}
    assert "a flying car" in line_of(seen)
    assert seen.metadata is not None
    assert seen.metadata.actor == "test"
    assert searched(reader, codec, text="flying") == [1]
    assert searched(reader, codec, text="swimming") == []


@pytest.mark.parametrize("state", ["x'90'", "x'c1'", "7", "'text'"])
async def test_what_can_not_be_decoded_is_named_and_the_rest_goes_on(
    log: SqliteLog, clock: VirtualClock, path: Path, codec: Codec, state: str
) -> None:
    await fill(log, clock, 4)
    tamper(path, f"UPDATE events SET state = {state} WHERE position = 2")
    with LogReader.open(path) as again:
        found = list(search(again, codec, Wanted(text="Folder 3"), nobody))
    assert positions(found) == [2, 4]
    assert "position 2" in found[0].problem
    assert not found[0].newer
    assert line_of(found[0])
    assert msgspec.json.decode(json_text(found[0].as_json()))["problem"]


async def test_a_record_as_json_is_complete(
    log: SqliteLog, clock: VirtualClock, reader: LogReader, codec: Codec
) -> None:
    await fill(log, clock, 1)
    (record,) = await log.read(0)
    (seen,) = shown("1", reader, codec)
    assert msgspec.json.decode(json_text(seen.as_json())) == {
        "position": 1,
        "stream": "mailbox-0",
        "version": 1,
        "type": "FolderCreated",
        "event": msgspec.to_builtins(record.event),
        "metadata": msgspec.to_builtins(record.metadata),
        "hash": record.hash.hex(),
    }


async def test_no_text_of_a_record_can_rule_the_terminal(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    evil = "\x1b[2J\x9b31m\u202e\r\n\x07" + "x" * 10_000
    events = (folder_created("f", evil), email_claimed(evil, "a b"))
    await log.append(Write("mailbox-\x1b[31m", events), origin=Origin(actor="client/\x1b[0m"))
    for seen in newest(reader, codec, 2):
        assert line_of(seen).isprintable()
        assert len(line_of(seen)) < 2_000
        written = json_text(seen.as_json(), indent=2)
        assert written.replace("\n", "").isprintable()
        assert evil in msgspec.json.decode(written)["event"].values()


def test_unusual_but_honest_text_stays_as_it_is_in_json() -> None:
    assert json_text({"name": "Jürgen 東京 🙂"}) == '{"name":"Jürgen 東京 🙂"}'
    assert msgspec.json.decode(json_text("\U000e0001\x80")) == "\U000e0001\x80"


# Places.


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-28T09:50", NOW),
        ("2025-11-28 09:50:00.000", NOW),
        ("2025-11-28T10:50+01:00", NOW),
        ("2025-11-28T09:50Z", NOW),
        ("2025-11-28", NOW - 35_400_000),
        ("-90s", NOW - 90_000),
        ("-30m", NOW - 1_800_000),
        ("-2h", NOW - 7_200_000),
        ("-7d", NOW - 604_800_000),
    ],
)
def test_times_are_iso_8601_or_how_long_ago(text: str, moment: int) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "-2w", "-h", "2h", "2025-13-01", "-9999999h", "١"])
async def test_what_is_no_place_is_refused_with_advice(text: str, log: SqliteLog, reader: LogReader) -> None:
    with pytest.raises(InvalidInput, match="-2h"):
        position_of(text, reader, lambda: NOW)


async def test_a_time_means_all_that_was_recorded_up_to_then(
    log: SqliteLog, clock: VirtualClock, reader: LogReader
) -> None:
    start = clock.now()
    await fill(log, clock, 10, step=1000)
    assert [position_at(reader, start + ms) for ms in (-1, 0, 1, 999, 1000, 4500, 9000, 99_999)] == [
        0, 1, 1, 1, 2, 5, 10, 10,
    ]  # fmt: skip
    assert position_of("now", reader, clock.now) == 10
    assert position_of("4", reader, clock.now) == 4
    assert position_of("-3s", reader, clock.now) == 8
    with pytest.raises(InvalidInput, match="ends at 10"):
        position_of("11", reader, clock.now)


def test_the_events_of_this_file_are_no_part_of_the_program() -> None:
    assert CarFlown.__name__ in EVENT_TYPES
    assert CarFlown.__name__ not in known_types()


def test_a_row_without_event_id_is_seen(codec: Codec) -> None:
    row = Row(1, "s", 1, "Nothing", None, b"", b"")
    assert see(row, codec).problem
