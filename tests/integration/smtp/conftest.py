from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from events.log.clock import VirtualClock
from node.smtp.door import SmtpDoor
from node.smtp.limits import SmtpLimits
from node.smtp.tls import load_tls
from tests.integration.smtp.support import MemoryNode, make_certificate

OpenDoor = Callable[..., Coroutine[Any, Any, SmtpDoor]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here runs on both loops."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def node() -> MemoryNode:
    return MemoryNode()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "mx.alpha.example")


@pytest.fixture
async def open_door(node: MemoryNode, clock: VirtualClock, pem: tuple[Path, Path]) -> AsyncIterator[OpenDoor]:
    """Open doors on free ports with the limits given; `tls=True` offers STARTTLS."""
    doors: list[SmtpDoor] = []

    async def open_one(*, tls: bool = False, **limits: Any) -> SmtpDoor:
        context = load_tls(*pem) if tls else None
        door = SmtpDoor(node, SmtpLimits(**limits), context, "mx.alpha.example", clock)
        await door.start("127.0.0.1", 0)
        doors.append(door)
        return door

    yield open_one
    for door in doors:
        await door.drain(0.1)
        assert door.sessions == 0
        assert door.shared.memory.held == 0
