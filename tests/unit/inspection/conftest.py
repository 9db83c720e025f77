"""A small log on disk, written by the log itself and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from events.log.clock import VirtualClock
from events.log.codec import Codec
from events.log.reading import LogReader
from events.log.sqlite_log import SqliteLog
from events.types import known_types


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=1_760_000_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
async def log(path: Path, clock: VirtualClock) -> AsyncIterator[SqliteLog]:
    log = SqliteLog.open(path, clock, "mailio-node/1.0")
    yield log
    await log.close()


@pytest.fixture
def reader(log: SqliteLog, path: Path) -> Iterator[LogReader]:
    """A reader beside the writing log."""
    with LogReader.open(path) as reader:
        yield reader


@pytest.fixture
def codec() -> Codec:
    return Codec(known_types())
