"""A view that only a newer program can read is rebuilt by that program, and put in its place, without a daemon."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import Shape, write
from node import views
from node.core import Core
from node.rebuild import rebuild_aside
from node.settings import NodeSettings, Settings
from node.views import aside_path, store_path
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore

VIEW = "userdb"


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    """A node whose `userdb` an older program has left."""
    data = tmp_path / "data"
    await write(data, Shape(40, 4))
    with sqlite3.connect(store_path(data / "views", VIEW)) as store:
        store.execute("UPDATE meta SET value = value - 1 WHERE name = 'schema'")
    store.close()
    return Settings(node=NodeSettings(data=data))


async def digest(path: Path) -> str:
    store = EmbeddedStore.open(path, readonly=True)
    try:
        return await store.digest()
    finally:
        await store.close()


async def swap(settings: Settings) -> None:
    """Do what `rebuild` does without a daemon once the view is built."""
    core = Core(settings)
    try:
        await core.start()
        assert await core.views.swap(VIEW) == core.log.head
    finally:
        await core.close()


def built(settings: Settings) -> list[dict[str, Any]]:
    return rebuild_aside(settings, [VIEW], lambda *state: None)


async def test_what_was_built_is_put_in_its_place_and_not_built_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings.node.data / "views"
    before = await digest(store_path(folder, VIEW))
    (report,) = await asyncio.to_thread(built, settings)
    monkeypatch.setattr(views, "BuildingStore", None)
    await swap(settings)
    assert report["differences"] == 0
    assert await digest(store_path(folder, VIEW)) == before
    assert not aside_path(folder, VIEW).exists()


async def test_a_half_built_view_is_not_put_there(settings: Settings) -> None:
    folder = settings.node.data / "views"
    before = await digest(store_path(folder, VIEW))
    path = aside_path(folder, VIEW)
    building = BuildingStore.open(path)
    half = path.read_bytes()
    await building.close()
    path.write_bytes(half)
    await swap(settings)
    assert await digest(store_path(folder, VIEW)) == before
