"""A view's file after somebody was erased: no free page, no write-ahead log and no copy holds what was."""

from __future__ import annotations

from pathlib import Path

from projections.stores.embedded import EmbeddedStore
from projections.view_store import Forget
from tests.fakes.view_changes import DATABASE, change

OTHER = "userdb-62"
WORD = b"distinctive"


def holding(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and WORD in path.read_bytes()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def rights_of_others(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o077 for path in folder.iterdir() if not path.is_symlink()}


async def filled(path: Path) -> EmbeddedStore:
    store = EmbeddedStore.open(path)
    for seq in range(1, 400, 2):
        text = f"{WORD.decode()} {'x' * (seq * 37 % 900)}"
        one = change(f"d{seq * 7919 % 400}", seq, text=text)
        await store.write([one, change(f"o{seq}", seq + 1, database=OTHER, text="kept " * 20)], seq + 1, 1)
    await store.put_local(DATABASE, "mark", b'{"text":"distinctive"}')
    await store.put_local(OTHER, "mark", b"{}")
    return store


async def test_nothing_is_left_in_any_file_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    store = await filled(tmp_path / "userdb.sqlite")
    before = await store.digest(OTHER)
    await store.write([Forget(database=DATABASE)], 500, 1)
    await store.scrub()
    assert holding(tmp_path) == set()
    assert await store.digest() == before
    assert await store.databases() == [OTHER]
    assert await store.checkpoint() == 500
    assert await store.get_local(DATABASE, "mark") is None
    assert await store.get_local(OTHER, "mark") is not None
    assert not any(name.endswith(".copy") for name in names(tmp_path))
    await store.write([change("new", 501, database=OTHER)], 501, 1)
    await store.close()
    again = EmbeddedStore.open(tmp_path / "userdb.sqlite")
    assert await again.checkpoint() == 501
    assert rights_of_others(tmp_path) == {0}
    await again.close()


async def test_a_database_that_comes_again_begins_from_nothing(tmp_path: Path) -> None:
    store = await filled(tmp_path / "userdb.sqlite")
    await store.write([Forget(database=DATABASE), change("fresh", 601)], 601, 1)
    assert [document.id async for document in store.documents(DATABASE)] == ["fresh"]
    assert await store.update_seq(DATABASE) == 601
    await store.close()
