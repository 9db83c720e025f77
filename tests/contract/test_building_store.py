"""A store that is built aside: nothing of it counts until it is whole."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from events.errors import InvalidInput, Misconfigured, StorageUnavailable
from projections.stores import building, loading
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from projections.stores.schema import INDEXES
from projections.view_store import Effect, Forget
from tests.fakes.view_changes import DATABASE, MemoryBlobs, change


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


FILE = MemoryBlobs().attachment("note.txt", b"note")
FIRST = change("a", 1, folder="inbox", created=1)
SECOND = change("a", 4, *FIRST.revisions, folder="trash", created=2)
STORIES: dict[str, list[Sequence[Effect]]] = {
    "only new documents": [[FIRST, change("b", 2)], [change("a", 2, database="other"), change("c", 3)]],
    "changed in the same batch": [[FIRST, change("b", 2), SECOND, change("c", 5)]],
    "changed in another batch": [[FIRST], [change("b", 2)], [SECOND, change("b", 9, deleted=True)]],
    "a conflict": [[FIRST], [change("a", 2, rev="1-other"), SECOND], [change("c", 5)]],
    "the same again": [[FIRST, change("b", 2)], [FIRST, change("b", 2)], [SECOND]],
    "numbers in no order": [[change("b", 7)], [change("c", 3), change("d", 9)], [FIRST, SECOND]],
    "nothing to forget": [[FIRST], [Forget(database="other"), SECOND]],
    "something forgotten": [[FIRST, change("b", 2)], [Forget(database=DATABASE, id="a")], [change("c", 3)]],
    "rows of every kind": [
        [change("a", 1, attachments=(FILE,)), change("b", 2, folder="inbox", created=1), change("c", 3)],
        [change("d", 4, folder="inbox", created=2, attachments=(FILE,)), change("e", 5, deleted=True)],
    ],
    "a database forgotten": [[FIRST], [change("b", 2), Forget(database=DATABASE)], [change("c", 3)]],
}


@pytest.mark.parametrize("same_keys", [False, True])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_what_is_built_is_what_a_live_store_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: list[Sequence[Effect]], same_keys: bool
) -> None:
    if same_keys:
        monkeypatch.setattr(loading, "_key", lambda database, id: 7)  # noqa: A006 - CouchDB's word
    built = BuildingStore.open(tmp_path / "built.sqlite")
    live = EmbeddedStore.open(tmp_path / "live.sqlite")
    for position, batch in enumerate(story, 1):
        for store in (built, live):
            await store.write(batch, position, 1)
        for name in "abcd":
            assert await built.get(DATABASE, name) == await live.get(DATABASE, name)
    await built.close()
    whole = EmbeddedStore.open(tmp_path / "built.sqlite")
    assert await whole.digest() == await live.digest()
    for database in (DATABASE, "other"):
        assert await whole.info(database) == await live.info(database)
        assert await whole.folder_counts(database) == await live.folder_counts(database)
    await whole.close()
    await live.close()
    assert indexes(tmp_path / "built.sqlite") == set(INDEXES)


def indexes(path: Path) -> set[str]:
    """Names of the indexes of a closed store's documents."""
    with closing(sqlite3.connect(path.resolve())) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return {name for (name,) in rows}


async def test_two_documents_with_one_number_are_refused_while_building(tmp_path: Path) -> None:
    store = BuildingStore.open(tmp_path / "v.sqlite")
    await store.write([change("a", 1)], 1, 1)
    with pytest.raises(InvalidInput, match="same sequence number"):
        await store.write([change("b", 2), change("c", 2)], 2, 1)
    assert (await store.count(), await store.checkpoint()) == (1, 1)
    await store.close()


async def test_an_id_that_is_no_text_is_refused_while_building(tmp_path: Path) -> None:
    store = BuildingStore.open(tmp_path / "v.sqlite")
    with pytest.raises(InvalidInput, match="not Unicode"):
        await store.write([change("a", 1), change("\ud800", 2)], 2, 1)
    await store.write([change("a", 1)], 1, 1)
    await store.close()


async def test_indexes_that_can_not_be_made_are_made_at_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BuildingStore.open(tmp_path / "v.sqlite")
    await store.write([FIRST], 1, 1)
    with monkeypatch.context() as patch:
        patch.setitem(INDEXES, "document_folder", "CREATE INDEX nonsense ON nothing (nothing)")
        with pytest.raises(StorageUnavailable):
            await store.count()
    await store.write([SECOND], 4, 1)
    assert await store.count() == 1
    await store.close()
    assert indexes(tmp_path / "v.sqlite") == set(INDEXES)
