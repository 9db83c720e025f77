"""One node, with a certificate, for all attacks: none of them may hinder the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.integration.api import harness
from tests.integration.api.harness import Node, User
from tests.integration.smtp.support import make_certificate

ORIGIN = "https://mail.alpha.example"
"""The one web origin that may call."""


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node in a process of its own, behind both its doors."""
    folder = tmp_path_factory.mktemp("attacked")
    certificate, key = make_certificate(folder, "mx.alpha.example")
    settings = {"smtp__certificate": str(certificate), "smtp__private_key": str(key)}
    with running(folder, **settings) as started:
        yield started
        assert "Traceback" not in started.printed(), "an attack made the node fail"


@pytest.fixture(scope="session")
def victim(daemon: Daemon) -> str:
    """Email of somebody who has an account."""
    email: str = daemon.account("victim@alpha.example")["email"]
    return email


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose HTTP door alone is open, in this process."""
    async with harness.running(harness.settings_for(tmp_path, origins=(ORIGIN,))) as node:
        yield node


@pytest.fixture
async def alice(node: Node) -> User:
    return await node.user("alice")


@pytest.fixture
async def mallory(node: Node) -> User:
    return await node.user("mallory")
