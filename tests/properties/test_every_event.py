"""What holds for every type of event there is, and for those that come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import UnknownEventType
from events.event import Event, Metadata, Recorded
from events.log.chain import GENESIS, Row, record_hash
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mail import stream
from tests.daemon import Daemon
from tests.golden.record import sample
from tests.strategies import EVENT_TYPES, events, metadata

WRITER = "mailio-node/9.9.0"


def stored(event: Event, described: Metadata, schema: int | None = None) -> Row:
    """The record that the log would keep."""
    codec = Codec()
    payload, _ = codec.payload(event)
    state = codec.encode(payload, schema or event.schema, described)
    fields = (1, "stream", 1, type(event).__name__, bytes.fromhex(described.id), state)
    return Row(*fields, record_hash(GENESIS, *fields))


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_every_event_is_read_as_it_was_written(kind: type[Event], data: st.DataObject) -> None:
    event, described = data.draw(events(kind)), data.draw(metadata)
    row = stored(event, described)
    assert Codec().decode(row) == Recorded(
        position=1, stream="stream", version=1, event=event, metadata=described, hash=row.hash
    )


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_an_event_of_a_newer_schema_names_the_program_that_is_needed(kind: type[Event]) -> None:
    described = Metadata(id="01" * 16, at=5, actor="smtp", correlation="01" * 16, software=WRITER)
    row = stored(sample(kind), described, schema=kind.schema + 1)
    with pytest.raises(UnknownEventType) as refusal:
        Codec().decode(row)
    for part in (kind.__name__, f"schema {kind.schema + 1}", "position 1", WRITER):
        assert part in str(refusal.value)


class MailTeleported(Event, frozen=True):
    """What a program of the future might write."""

    to: str


NEWER: dict[str, type[Event]] = {"MailTeleported": MailTeleported}
"""The event types of that program."""


async def write_by_a_newer_program(log_file: Path, event: Event) -> None:
    log = SqliteLog.open(log_file, SystemClock(), WRITER, codec=Codec(NEWER))
    await log.append(Write(stream("future"), (event,)), origin=Origin(actor="smtp"))
    await log.close()


def test_a_node_does_not_run_on_a_log_that_it_cannot_read(tmp_path: Path) -> None:
    """It skips nothing: it says which program is needed, and ends."""
    daemon = Daemon(tmp_path)
    # The node has lived before, or it would miss its keys.
    daemon.command("account", "list")
    asyncio.run(write_by_a_newer_program(daemon.data / "log.sqlite", MailTeleported(to="x")))
    ended = daemon.command("run", check=False)
    assert ended.returncode != 0
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("mailio-node: the log holds an event of a newer program")
    assert WRITER in last
    assert "position 1" in last
