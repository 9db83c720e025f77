"""A node whose door for peers is open, and somebody on it whom peers write to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.api.harness import User
from tests.integration.mtp import harness
from tests.integration.mtp.harness import Receiver


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with harness.receiver(tmp_path) as found:
        yield found


@pytest.fixture
async def alice(receiver: Receiver) -> User:
    return await receiver.node.user("alice")
