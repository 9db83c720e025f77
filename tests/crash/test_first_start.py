"""The power goes while a node starts for the first time: the next start makes what was half made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node.core import Core
from node.settings import load
from tests.daemon import Daemon
from tests.tampering import leave_half_made

FILES = (
    "log.sqlite",
    "keys/vault.sqlite",
    "snapshots.sqlite",
    "blobs/index.sqlite",
    "views/directory.sqlite",
    "views/userdb.sqlite",
)


@pytest.mark.parametrize("name", FILES)
def test_a_node_starts_on_a_database_that_a_power_loss_left_half_made(tmp_path: Path, name: str) -> None:
    settings = load(Daemon(tmp_path).file).settings

    async def life() -> None:
        core = Core(settings)
        await core.start()
        assert core.log.head >= 0
        await core.close()

    leave_half_made(settings.node.data / name)
    asyncio.run(life())
    assert not (settings.node.data / f"{name}-journal").exists()
