"""A node with its sync door open, and a user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.integration.sync.harness import Client, SyncNode, User, running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SyncNode]:
    async with running(tmp_path) as node:
        yield node


@pytest.fixture
def user(node: SyncNode) -> User:
    return node.add_user()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def client(session: ClientSession, node: SyncNode, user: User) -> Client:
    return Client(session, node, user)
