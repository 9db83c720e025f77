"""The logs that the runtime is tested on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.log.clock import VirtualClock
from events.log.log import Log
from events.log.sqlite_log import SqliteLog
from tests.fakes.memory_log import MemoryLog


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    """The port, by the fake and by the real thing."""
    if request.param == "memory":
        yield MemoryLog()
        return
    log = SqliteLog.open(tmp_path / "log.sqlite", VirtualClock(), "test")
    yield log
    await log.close()
