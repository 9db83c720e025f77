"""Starts that are broken off, and stops on a disk that fails: nothing hangs, and everything is let go of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from events.errors import StorageUnavailable
from node import daemon as daemon_module
from node.core import Core
from node.daemon import Daemon
from node.settings import HttpSettings, NodeSettings, Settings, SmtpSettings
from node.storage.index import BlobIndex
from node.views import Views


def settings_of(folder: Path) -> Settings:
    return Settings(
        node=NodeSettings(data=folder / "data"),
        smtp=SmtpSettings(listen="127.0.0.1:0"),
        http=HttpSettings(listen="127.0.0.1:0"),
    )


async def test_a_signal_during_a_long_start_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = asyncio.Event()

    async def takes_hours(_: Views) -> None:
        stop.set()
        await asyncio.Event().wait()

    settings = settings_of(tmp_path)
    with monkeypatch.context() as start:
        start.setattr(Views, "prepare", takes_hours)
        daemon = Daemon(settings)
        async with asyncio.timeout(20):
            assert not await daemon_module._started(daemon, stop)
            await daemon.stop()
    await Core(settings).close()


async def test_a_start_that_fails_says_why_and_one_that_succeeds_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Views) -> None:
        raise StorageUnavailable("no", "the disk is away")

    settings = settings_of(tmp_path)
    daemon = Daemon(settings)
    with monkeypatch.context() as start:
        start.setattr(Views, "prepare", fails)
        with pytest.raises(StorageUnavailable, match="away"):
            await daemon_module._started(daemon, asyncio.Event())
    await daemon.stop()
    daemon = Daemon(settings)
    assert await daemon_module._started(daemon, asyncio.Event())
    await daemon.stop(attest=True)


async def test_what_fails_at_a_stop_keeps_nothing_else_from_being_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: BlobIndex) -> None:
        raise StorageUnavailable("no room", "the disk is full")

    settings = settings_of(tmp_path)
    daemon = Daemon(settings)
    await daemon.start()
    with monkeypatch.context() as disk:
        disk.setattr(BlobIndex, "close_synced", full)
        with pytest.raises(StorageUnavailable, match="is full"):
            await daemon.stop()
    await Core(settings).close()
