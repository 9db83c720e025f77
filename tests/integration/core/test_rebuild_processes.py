"""Views of a large log are built in processes of their own, those of a small one in the process that asks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import Shape, write
from events.errors import Misconfigured, StorageUnavailable
from node import rebuild
from node.rebuild import VIEW_NAMES, rebuild_aside
from node.settings import NodeSettings, Settings
from node.views import aside_path, store_path
from projections.stores.embedded import EmbeddedStore


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A node with 20 mailboxes and 80 mails."""
    data = tmp_path_factory.mktemp("node") / "data"
    asyncio.run(write(data, Shape(200, 20)))
    return Settings(node=NodeSettings(data=data))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any log is taken for a large one."""
    monkeypatch.setattr(rebuild, "SMALL_LOG_BYTES", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def show(*state: Any) -> None:
    """Show nothing."""


async def _digest(path: Path) -> str:
    store = EmbeddedStore.open(path, readonly=True)
    try:
        return await store.digest()
    finally:
        await store.close()


def require_whole(settings: Settings, reports: list[dict[str, Any]]) -> None:
    """All views were built, and are the live ones to the byte."""
    views = settings.node.data / "views"
    assert [report["view"] for report in reports] == list(VIEW_NAMES)
    assert [report["differences"] for report in reports] == [0] * len(VIEW_NAMES)
    for name in VIEW_NAMES:
        assert asyncio.run(_digest(aside_path(views, name))) == asyncio.run(_digest(store_path(views, name)))


def test_a_small_log_needs_no_processes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "_processes", None)
    require_whole(settings, rebuild_aside(settings, VIEW_NAMES, show))


@pytest.mark.usefixtures("large")
def test_one_process_more_than_processors_builds_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = rebuild._processes

    def noted(workers: int) -> Any:
        begun.append(workers)
        return begin(workers)

    monkeypatch.setattr(rebuild, "_processes", noted)
    require_whole(settings, rebuild_aside(settings, VIEW_NAMES, show))
    assert begun == [3]


@pytest.mark.usefixtures("large")
def test_when_one_process_fails_nothing_is_left_of_the_others(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="no view is called nonsense"):
        rebuild_aside(settings, ("directory", "nonsense", "userdb"), show)
    views = settings.node.data / "views"
    assert [file.name for file in views.glob("*") if file.name.startswith(("directory.r", "userdb.r"))] == []


@pytest.mark.usefixtures("large")
def test_a_process_that_is_killed_ends_the_rebuild_and_leaves_nothing_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does when memory is short."""
    # So often that it sees one view grow before the last one is whole, however fast the machine.
    monkeypatch.setattr(rebuild, "LOOK_SECONDS", 0.001)

    def kill(*_: Any) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(StorageUnavailable, match="ended from outside"):
        rebuild_aside(settings, VIEW_NAMES, kill)
    assert [file.name for file in (settings.node.data / "views").glob("*.rebuilt*")] == []
    require_whole(settings, rebuild_aside(settings, VIEW_NAMES, show))
