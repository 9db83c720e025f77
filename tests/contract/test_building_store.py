"""A store that is built aside: nothing of it counts until it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from events.errors import InvalidInput, Misconfigured
from projections.stores import building
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from tests.fakes.view_changes import DATABASE, change


async def test_a_store_that_was_not_built_to_its_end_is_not_opened(tmp_path: Path) -> None:
    store = BuildingStore.open(tmp_path / "userdb.sqlite")
    await store.write([change("a", 1)], 1, 1)
    shutil.copytree(tmp_path, tmp_path.with_name("crashed"), symlinks=True)
    with pytest.raises(Misconfigured, match=r"not built to its end.*mailio-node rebuild userdb"):
        EmbeddedStore.open(tmp_path.with_name("crashed") / "userdb.sqlite")
    await store.close()
    whole = EmbeddedStore.open(tmp_path / "userdb.sqlite")
    assert await whole.checkpoint() == 1
    await whole.close()


async def test_a_batch_that_is_refused_leaves_nothing_in_a_store_that_is_being_built(tmp_path: Path) -> None:
    store = BuildingStore.open(tmp_path / "userdb.sqlite")
    with pytest.raises(InvalidInput):
        await store.write([change("a", 1), change("b", 2, rev="malformed")], 2, 1)
    assert (await store.checkpoint(), await store.count()) == (0, 0)
    await store.write([change("a", 1)], 1, 1)
    await store.close()
    same = EmbeddedStore.open(tmp_path / "same")
    await same.write([change("a", 1)], 1, 1)
    built = EmbeddedStore.open(tmp_path / "userdb.sqlite")
    assert await built.digest() == await same.digest()
    await built.close()
    await same.close()


@pytest.mark.parametrize("most", [0, 10])
async def test_documents_are_found_while_they_are_built_and_when_building_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(building, "KNOWN_DOCUMENTS", most)
    for first in (1, 3):
        store = BuildingStore.open(tmp_path / "userdb.sqlite")
        assert (await store.get(DATABASE, "d1") is None) == (first == 1)
        for seq in (first, first + 1):
            await store.write([change(f"d{seq}", seq)], seq, 1)
        assert await store.get(DATABASE, "d9") is None
        for seq in range(1, first + 2):
            found = await store.get(DATABASE, f"d{seq}")
            assert found is not None
            assert found.seq == seq
        await store.close()
