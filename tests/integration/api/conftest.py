"""A node with its HTTP door open, and two users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.api.harness import Node, User, running, settings_for


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(settings_for(tmp_path)) as node:
        yield node


@pytest.fixture
async def alice(node: Node) -> User:
    return await node.user("alice")


@pytest.fixture
async def mallory(node: Node) -> User:
    return await node.user("mallory")
