from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.errors import Misconfigured, StorageUnavailable
from events.log.snapshots import SqliteSnapshots


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[SqliteSnapshots]:
    store = SqliteSnapshots(tmp_path / "snapshots.db")
    yield store
    store.close()


async def test_the_last_snapshot_saved_is_loaded(snapshots: SqliteSnapshots) -> None:
    assert await snapshots.load("mailbox/a", 1) is None
    await snapshots.save("mailbox/a", 10, 1, b"ten")
    await snapshots.save("mailbox/a", 20, 1, b"twenty")
    await snapshots.save("mailbox/b", 5, 1, b"")
    assert await snapshots.load("mailbox/a", 1) == (20, b"twenty")
    assert await snapshots.load("mailbox/b", 1) == (5, b"")


async def test_a_snapshot_of_another_state_schema_is_not_loaded(snapshots: SqliteSnapshots) -> None:
    await snapshots.save("mailbox/a", 10, 1, b"ten")
    assert await snapshots.load("mailbox/a", 2) is None


async def test_snapshots_survive_a_reopening(snapshots: SqliteSnapshots, tmp_path: Path) -> None:
    await snapshots.save("mailbox/a", 10, 1, b"ten")
    snapshots.close()
    again = SqliteSnapshots(tmp_path / "snapshots.db")
    assert await again.load("mailbox/a", 1) == (10, b"ten")
    again.close()


async def test_a_snapshot_whose_bytes_rotted_is_not_loaded(
    snapshots: SqliteSnapshots, tmp_path: Path
) -> None:
    await snapshots.save("mailbox/a", 10, 1, b"ten")
    with sqlite3.connect(tmp_path / "snapshots.db") as raw:
        raw.execute("UPDATE snapshots_1 SET state = x'00'")
    raw.close()
    assert await snapshots.load("mailbox/a", 1) is None


@pytest.mark.parametrize("content", [b"rubbish " * 1_000, b"SQLite format 3\0" + b"\xff" * 8_000])
async def test_a_damaged_file_is_replaced_by_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "snapshots.db").write_bytes(content)
    store = SqliteSnapshots(tmp_path / "snapshots.db")
    assert await store.load("mailbox/a", 1) is None
    await store.save("mailbox/a", 1, 1, b"one")
    assert await store.load("mailbox/a", 1) == (1, b"one")
    store.close()


async def test_damage_found_while_running_is_replaced_too(tmp_path: Path) -> None:
    path = tmp_path / "snapshots.db"
    store = SqliteSnapshots(path)
    for n in range(300):
        await store.save(f"mailbox/{n}", 1, 1, b"x" * 500)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    store = SqliteSnapshots(path)
    assert await store.load("mailbox/7", 1) is None
    await store.save("mailbox/7", 2, 1, b"new")
    assert await store.load("mailbox/7", 1) == (2, b"new")
    store.close()


async def test_a_full_disk_is_reported_and_nothing_is_thrown_away(snapshots: SqliteSnapshots) -> None:
    await snapshots.save("mailbox/a", 1, 1, b"small")
    snapshots._connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(StorageUnavailable):
        await snapshots.save("mailbox/a", 2, 1, b"x" * 100_000)
    assert await snapshots.load("mailbox/a", 1) == (1, b"small")


def test_a_missing_folder_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        SqliteSnapshots(tmp_path / "nowhere" / "snapshots.db")


async def test_snapshots_come_back_after_a_disk_that_failed_while_they_were_cleared(
    snapshots: SqliteSnapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    await snapshots.save("mailbox/a", 10, 1, b"ten")

    def refused(*_: object, **__: object) -> None:
        raise OSError(5, "the disk is away")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", refused)
        with pytest.raises(StorageUnavailable):
            await snapshots.clear()
        with pytest.raises(StorageUnavailable):
            await snapshots.load("mailbox/a", 1)
    assert await snapshots.load("mailbox/a", 1) is None
    await snapshots.save("mailbox/a", 20, 1, b"twenty")
    assert await snapshots.load("mailbox/a", 1) == (20, b"twenty")


async def test_closed_snapshots_stay_closed(snapshots: SqliteSnapshots) -> None:
    snapshots.close()
    with pytest.raises(StorageUnavailable):
        await snapshots.save("mailbox/a", 1, 1, b"one")
