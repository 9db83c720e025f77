"""The embedded store beyond the port: what the sync door and a rebuild ask of it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.errors import Conflict, InvalidInput, Misconfigured, StorageUnavailable
from projections.stores import local_documents
from projections.stores.embedded import EmbeddedStore
from projections.stores.reading import Missing
from projections.view_store import Change
from tests.fakes.view_changes import DATABASE, MemoryBlobs, change
from tests.tampering import leave_half_made

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore.open(tmp_path / "userdb.sqlite")
    yield store
    await store.close()


def history(count: int = 300) -> list[Change]:
    """A mixed history: documents, edits, deletions, conflicts, attachments, several databases."""
    blobs = MemoryBlobs()
    changes: list[Change] = []
    for seq in range(1, count + 1):
        database, name = f"userdb-{seq % 3}", f"m{seq * 7 % 40}"
        before = [c for c in changes if (c.database, c.id) == (database, name)]
        # Every fifth edit starts from an older revision: a conflict.
        parents = before[-2 if seq % 5 == 0 and len(before) > 1 else -1].revisions if before else ()
        files = (blobs.attachment(f"f{seq}", b"x" * seq),) if seq % 11 == 0 else ()
        changes.append(
            change(
                name, seq, *parents, database=database, deleted=seq % 9 == 0, attachments=files,
                folder=f"folder-{seq % 4}", created=seq, isRead=seq % 2 == 0,
            )
        )  # fmt: skip
    return changes


async def filled(path: Path, changes: list[Change], batch: int = 500) -> EmbeddedStore:
    store = EmbeddedStore.open(path)
    for first in range(0, len(changes), batch):
        part = changes[first : first + batch]
        await store.write(part, part[-1].seq, 1)
    return store


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def rights_of_others(folder: Path) -> set[int]:
    return {file.stat().st_mode & 0o077 for file in folder.iterdir()}


# Revisions and feeds


async def test_leaf_bodies_are_kept_and_superseded_ones_dropped(store: EmbeddedStore) -> None:
    root = change("a", 1, n=0)
    high = change("a", 2, *root.revisions, rev="2-b", n=1)
    low = change("a", 3, *root.revisions, rev="2-a", n=2)
    await store.write([root, high, low], 3, 1)
    won, lost = await store.revision(DATABASE, "a", "2-b"), await store.revision(DATABASE, "a", "2-a")
    assert won is not None
    assert lost is not None
    assert (won.body, lost.body) == (b'{"n":1}', b'{"n":2}')
    assert await store.revision(DATABASE, "a", root.revisions[0]) is None
    assert await store.revision(DATABASE, "a", "9-z") is None
    assert await store.revision(DATABASE, "b", "1-a") is None


async def test_the_changes_feed_names_each_document_once_at_its_last_change(store: EmbeddedStore) -> None:
    first = change("a", 1, n=1)
    await store.write([first, change("b", 2), change("a", 5, *first.revisions, n=2), change("c", 6)], 9, 1)
    feed = await store.documents_since(DATABASE)
    assert [(each.id, each.seq) for each in feed] == [("b", 2), ("a", 5), ("c", 6)]
    assert [each.id for each in await store.documents_since(DATABASE, 2)] == ["a", "c"]
    assert [each.id for each in await store.documents_since(DATABASE, 2, 1)] == ["a"]
    assert [each.id for each in await store.documents_since(DATABASE, limit=2, descending=True)] == ["c", "a"]
    assert (await store.documents_since(DATABASE, 2, bodies=False))[0].winner.body == b""
    assert await store.update_seq(DATABASE) == 6


async def test_a_known_or_inner_revision_does_not_move_the_sequence(store: EmbeddedStore) -> None:
    first = change("a", 1, n=1)
    second = change("a", 2, *first.revisions, n=2)
    await store.write([first, second], 2, 1)
    before = await store.digest()
    again = msgspec.structs.replace(second, seq=8)
    inner = msgspec.structs.replace(first, seq=9)
    await store.write([again, inner], 9, 1)
    assert await store.digest() == before
    assert await store.update_seq(DATABASE) == 2


async def test_a_link_that_arrives_late_moves_the_leaves_but_not_the_sequence(store: EmbeddedStore) -> None:
    await store.write([change("a", 1, rev="2-a", n=2), change("a", 2, "3-a", rev="4-a", n=4)], 2, 1)
    assert (await store.documents_since(DATABASE))[0].tree.leaves() == ("4-a", "2-a")
    await store.write([change("a", 3, "3-a", "2-a", rev="4-a", n=4)], 3, 1)
    (found,) = await store.documents_since(DATABASE)
    assert (found.seq, found.tree.leaves()) == (2, ("4-a",))
    assert await store.revision(DATABASE, "a", "2-a") is None
    assert await store.used_bytes(DATABASE) == len(b'{"n":4}')


async def test_a_batch_may_be_repeated_although_its_revisions_are_forgotten(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path / "v", revs_limit=1)
    first = change("a", 1, n=1)
    second = change("a", 2, *first.revisions, n=2)
    third = change("a", 3, *second.revisions, n=3)
    await store.write([first, second, third], 3, 1)
    before = await store.digest()
    await store.write([first, second, third], 3, 1)
    assert await store.digest() == before
    await store.write([change("a", 4, rev="1-new", n=4)], 4, 1)
    found = await store.get(DATABASE, "a")
    assert found is not None
    assert found.tree.leaves() == (third.revisions[0], "1-new")
    await store.close()


async def test_two_documents_with_one_sequence_number_are_refused(store: EmbeddedStore) -> None:
    with pytest.raises(InvalidInput, match="sequence number"):
        await store.write([change("a", 1), change("b", 1)], 1, 1)
    assert await store.get(DATABASE, "a") is None


async def test_an_id_that_is_not_unicode_text_is_refused(store: EmbeddedStore) -> None:
    with pytest.raises(InvalidInput):
        await store.write([change("\ud800", 1)], 1, 1)


async def test_all_docs_ranges_are_those_of_couchdb(store: EmbeddedStore) -> None:
    gone = change("c", 3)
    await store.write(
        [change("a", 1), change("b", 2), gone, change("d", 4), change("c", 5, *gone.revisions, deleted=True)],
        5,
        1,
    )

    async def ids(**options: object) -> str:
        return "".join(each.id for each in await store.all_docs(DATABASE, **options))  # type: ignore[arg-type]

    assert await ids() == "abd"
    assert await ids(descending=True) == "dba"
    assert await ids(startkey="b") == "bd"
    assert await ids(startkey="a", endkey="b") == "ab"
    assert await ids(startkey="a", endkey="b", inclusive_end=False) == "a"
    assert await ids(startkey="d", endkey="b", descending=True) == "db"
    assert await ids(startkey="d", endkey="b", descending=True, inclusive_end=False) == "d"
    assert await ids(skip=1, limit=1) == "b"
    asked = await store.by_ids(DATABASE, ["d", "c", "x", "d"])
    assert [each and (each.id, each.winner.deleted) for each in asked] == [
        ("d", False),
        ("c", True),
        None,
        ("d", False),
    ]


async def test_folders_list_newest_first_and_count_unread(store: EmbeddedStore) -> None:
    moved = change("a", 1, folder="inbox", created=10)
    await store.write(
        [
            moved,
            change("b", 2, folder="inbox", created=30, isRead=True),
            change("c", 3, folder="inbox", created=20),
            change("no-created", 4, folder="inbox"),
            change("odd", 5, folder=["inbox"], created=1),
            change("huge", 6, folder="inbox", created=2**80),
            change("d", 7, folder="inbox", created=25.5),
        ],
        7,
        1,
    )

    async def ids(**options: object) -> list[str]:
        return [each.id for each in await store.in_folder(DATABASE, "inbox", **options)]  # type: ignore[arg-type]

    assert await ids() == ["b", "d", "c", "a"]
    assert await ids(descending=False) == ["a", "c", "d", "b"]
    assert await ids(created_from=20, created_to=25) == ["d", "c"]
    assert await ids(skip=1, limit=1) == ["d"]
    assert await store.folder_counts(DATABASE) == {"inbox": (4, 3)}
    await store.write([change("a", 8, *moved.revisions, folder="trash", created=10)], 8, 1)
    assert await store.folder_counts(DATABASE) == {"inbox": (3, 2), "trash": (1, 1)}


async def test_revs_diff_tells_what_is_missing(store: EmbeddedStore) -> None:
    await store.write([change("a", 1, rev="1-a")], 1, 1)
    asked = {"a": ["1-a", "2-x"], "b": ["1-b"], "same": []}
    assert await store.missing(DATABASE, asked) == {
        "a": Missing(("2-x",), ("1-a",)),
        "b": Missing(("1-b",), ()),
    }


async def test_counters_equal_a_recount(tmp_path: Path) -> None:
    store = await filled(tmp_path / "v.sqlite", history(), 7)
    for database in await store.databases():
        info = await store.info(database)
        documents = [each async for each in store.documents(database)]
        used = 0
        for each in documents:
            for rev in each.tree.leaves():
                leaf = await store.revision(database, each.id, rev)
                assert leaf is not None
                used += len(leaf.body) + sum(file.length for file in leaf.attachments)
        assert info.doc_count == sum(not each.winner.deleted for each in documents)
        assert info.doc_del_count == sum(each.winner.deleted for each in documents)
        assert info.update_seq == max(each.seq for each in documents)
        assert await store.used_bytes(database) == used
    await store.close()


# The same events, the same bytes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 60), min_size=1))
async def test_batches_of_any_size_give_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    changes = history(120)
    folder = tmp_path_factory.mktemp("batches")
    whole = await filled(folder / "one.sqlite", changes)
    parts = EmbeddedStore.open(folder / "two.sqlite")
    done = 0
    while done < len(changes):
        part = changes[done : done + cuts[done % len(cuts)]]
        done += len(part)
        await parts.write(part, part[-1].seq, 1)
    assert await parts.digest() == await whole.digest()
    assert await different(parts, whole) == []
    await whole.close()
    await parts.close()


async def different(one: EmbeddedStore, other: EmbeddedStore) -> list[tuple[str, str]]:
    """What a comparison names, sorted."""
    return sorted([place async for part in one.differences(other) for place in part])


async def test_comparing_names_what_differs_or_is_absent(tmp_path: Path) -> None:
    changes = history()
    one, other = await filled(tmp_path / "one", changes), await filled(tmp_path / "other", changes)
    assert await different(one, other) == []
    await one.write([change("only-left", 1001, database="userdb-1")], 1001, 1)
    await other.write(
        [change("only-right", 1002, database="a-new-one"), change("m0", 1003, n=1, database="userdb-0")],
        1003,
        1,
    )
    assert await different(one, other) == [
        ("a-new-one", "only-right"),
        ("userdb-0", "m0"),
        ("userdb-1", "only-left"),
    ]
    assert await one.digest("userdb-2") == await other.digest("userdb-2")
    assert await one.digest("userdb-0") != await other.digest("userdb-0")
    await one.close()
    await other.close()


async def test_digest_and_comparison_see_the_body_of_a_losing_leaf(tmp_path: Path) -> None:
    one, other = [
        await filled(tmp_path / f"{n}", [change("a", 1, rev="1-b"), change("a", 2, rev="1-a", n=n)])
        for n in (1, 2)
    ]
    assert await one.digest() != await other.digest()
    assert await different(one, other) == await different(other, one) == [(DATABASE, "a")]
    await one.close()
    await other.close()


# Waiting


async def test_thousands_wait_for_one_database_and_are_woken_by_its_commit(store: EmbeddedStore) -> None:
    waiting = [asyncio.create_task(store.wait_for_change(DATABASE, 0)) for _ in range(5000)]
    other = asyncio.create_task(store.wait_for_change("userdb-62", 0))
    await asyncio.sleep(0)
    await store.write([change("a", 4)], 4, 1)
    assert set(await asyncio.gather(*waiting)) == {4}
    assert not other.done()
    other.cancel()
    with suppress(asyncio.CancelledError):
        await other
    assert len(store._waiting) == 0


async def test_who_asks_for_an_old_change_does_not_wait(store: EmbeddedStore) -> None:
    await store.write([change("a", 4)], 4, 1)
    assert await store.wait_for_change(DATABASE, 3) == 4


async def test_closing_tells_those_who_wait(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path / "v.sqlite")
    waiting = asyncio.create_task(store.wait_for_change(DATABASE, 0))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StorageUnavailable):
        await waiting
    with pytest.raises(StorageUnavailable):
        await store.write([], 1, 1)
    await store.close()


async def test_readers_see_a_batch_whole_or_not_at_all(store: EmbeddedStore) -> None:
    batch = [change(f"m{n}", n) for n in range(1, 1001)]
    writing = asyncio.create_task(store.write(batch, 1000, 1))
    seen = []
    while not writing.done():
        seen.append((await store.info(DATABASE)).doc_count)
        await asyncio.sleep(0)
    await writing
    seen.append((await store.info(DATABASE)).doc_count)
    assert seen == sorted(seen)
    assert set(seen) == {0, 1000}
    assert await store.checkpoint() == 1000


async def test_a_write_that_is_cancelled_while_it_commits_ends_when_the_commit_has(
    store: EmbeddedStore,
) -> None:
    gate = threading.Event()
    store._thread.submit(gate.wait)
    writing = asyncio.create_task(store.write([change("a", 1)], 1, 1))
    for _ in range(3):
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.sleep(0)
        assert not writing.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await store.checkpoint() == 1


async def test_a_cancelled_write_leaves_all_or_nothing_and_the_store_usable(store: EmbeddedStore) -> None:
    batch = [change(f"m{n}", n) for n in range(1, 501)]
    for turns in range(14):
        writing = asyncio.create_task(store.write(batch, 500, 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        assert (await store.checkpoint(), (await store.info(DATABASE)).doc_count) in {(0, 0), (500, 500)}
    await store.write([*batch, change("last", 501)], 501, 1)
    assert (await store.info(DATABASE)).doc_count == 501


# `_local` documents and parked records


async def test_local_documents_are_written_read_and_deleted(store: EmbeddedStore) -> None:
    assert await store.get_local(DATABASE, "c") is None
    assert await store.put_local(DATABASE, "c", b'{"n":1}') == "0-1"
    assert await store.put_local(DATABASE, "c", b'{"n":2}', "0-1") == "0-2"
    with pytest.raises(Conflict):
        await store.put_local(DATABASE, "c", b"{}", "0-1")
    with pytest.raises(Conflict):
        await store.put_local(DATABASE, "new", b"{}", "0-1")
    found = await store.get_local(DATABASE, "c")
    assert found is not None
    assert (found.rev, found.body) == ("0-2", b'{"n":2}')
    assert await store.get_local("userdb-62", "c") is None
    assert list(await store.databases()) == []
    assert await store.delete_local(DATABASE, "c", "0-2")
    assert not await store.delete_local(DATABASE, "c")


async def test_the_local_document_unused_for_longest_is_forgotten_first(store: EmbeddedStore) -> None:
    for n in range(local_documents.LIMIT):
        await store.put_local(DATABASE, f"c{n}", b"{}")
    await store.put_local(DATABASE, "c0", b'{"used":1}')
    await store.put_local(DATABASE, "new", b"{}")
    assert await store.get_local(DATABASE, "c0") is not None
    assert await store.get_local(DATABASE, "c1") is None
    assert await store.get_local(DATABASE, "c2") is not None


# Files


async def test_a_rebuilt_store_takes_the_place_while_readers_and_waiters_go_on(tmp_path: Path) -> None:
    live = await filled(tmp_path / "userdb.sqlite", history(50))
    await live.put_local("userdb-0", "c", b'{"last_seq":9}')
    rebuilt = await filled(tmp_path / "userdb.rebuild.sqlite", history(120), 13)
    await rebuilt.put_local("userdb-0", "stale", b"{}")
    expected = await rebuilt.digest()
    await rebuilt.close()
    listing = live.documents("userdb-0")
    await anext(listing)
    waiting = asyncio.create_task(live.wait_for_change("userdb-0", 60))
    await asyncio.sleep(0)
    await live.swap_in(tmp_path / "userdb.rebuild.sqlite")
    assert await waiting == 120
    assert len([each async for each in listing]) > 1
    assert await live.digest() == expected
    assert await live.checkpoint() == 120
    assert await live.get_local("userdb-0", "c") is not None
    assert await live.get_local("userdb-0", "stale") is None
    await live.write([change("after", 121, database="userdb-0")], 121, 1)
    await live.close()
    assert names(tmp_path) == ["userdb.sqlite", "userdb.sqlite.g2"]
    again = EmbeddedStore.open(tmp_path / "userdb.sqlite")
    assert await again.get("userdb-0", "after") is not None
    await again.close()


async def test_a_store_can_be_swapped_again_and_again(tmp_path: Path) -> None:
    live = await filled(tmp_path / "v", history(10))
    for count in (20, 30, 40):
        rebuilt = await filled(tmp_path / "aside", history(count))
        await rebuilt.close()
        await live.swap_in(tmp_path / "aside")
        assert await live.checkpoint() == count
    await live.close()
    assert names(tmp_path) == ["v", "v.g4"]


async def test_what_an_interrupted_swap_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    await (await filled(tmp_path / "v", history(10))).close()
    for name in ("v.g2", "v.g2-wal", "v.g10", "v.g10-shm", "v.link"):
        (tmp_path / name).write_bytes(b"left over")
    store = EmbeddedStore.open(tmp_path / "v")
    assert await store.checkpoint() == 10
    await store.close()
    assert names(tmp_path) == ["v", "v.g1"]


async def test_a_damaged_rebuild_is_not_swapped_in(tmp_path: Path) -> None:
    live = await filled(tmp_path / "v", history(10))
    (tmp_path / "aside").write_bytes(b"no database at all, only text" * 100)
    with pytest.raises(Misconfigured):
        await live.swap_in(tmp_path / "aside")
    assert await live.checkpoint() == 10
    await live.write([change("z", 11)], 11, 1)
    await live.close()


async def test_a_reader_sees_the_store_of_a_running_writer_and_cannot_write(tmp_path: Path) -> None:
    store = await filled(tmp_path / "v", history(10))
    reader = EmbeddedStore.open(tmp_path / "v", readonly=True)
    assert await reader.checkpoint() == 10
    await store.write([change("z", 11)], 11, 1)
    assert await reader.checkpoint() == 11
    with pytest.raises(StorageUnavailable):
        await reader.write([], 12, 1)
    await reader.close()
    await store.close()


async def test_batches_survive_the_death_of_the_process(tmp_path: Path) -> None:
    program = """if True:
        import asyncio, os, signal, sys
        from pathlib import Path
        from projections.stores.embedded import EmbeddedStore
        from tests.fakes.view_changes import change

        async def main():
            store = EmbeddedStore.open(Path(sys.argv[1]))
            for n in range(1, 2000, 50):
                await store.write([change(f"m{k}", k) for k in range(n, n + 50)], n + 49, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "v"), cwd=ROOT
    )
    assert await process.wait() == -signal.SIGKILL
    for readonly in (True, False):
        store = EmbeddedStore.open(tmp_path / "v", readonly=readonly)
        assert await store.checkpoint() == 2000
        assert (await store.info(DATABASE)).doc_count == len(await store.documents_since(DATABASE)) == 2000
        await store.close()


def test_a_missing_store_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        EmbeddedStore.open(tmp_path / "v", readonly=True)
    assert list(tmp_path.iterdir()) == []


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = await filled(tmp_path / "v", history(10))
    assert rights_of_others(tmp_path) == {0}
    await store.close()


async def test_a_newer_format_asks_for_the_newer_program(tmp_path: Path) -> None:
    await (await filled(tmp_path / "v", history(10))).close()
    with sqlite3.connect(tmp_path / "v") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Misconfigured, match="newer"):
        EmbeddedStore.open(tmp_path / "v")


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "v")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = (tmp_path / "v").read_bytes()
    with pytest.raises(Misconfigured, match="not a view store"):
        EmbeddedStore.open(tmp_path / "v")
    assert (tmp_path / "v").read_bytes() == before


async def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "v")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with pytest.raises(Misconfigured, match="still empty"):
        EmbeddedStore.open(tmp_path / "v", readonly=True)
    store = await filled(tmp_path / "v", history(10))
    assert await store.checkpoint() == 10
    await store.close()


def test_a_file_that_is_no_database_asks_for_a_rebuild(tmp_path: Path) -> None:
    (tmp_path / "userdb.sqlite").write_bytes(b"something else entirely " * 50)
    with pytest.raises(Misconfigured, match="mailio-node rebuild userdb"):
        EmbeddedStore.open(tmp_path / "userdb.sqlite")


async def test_a_page_that_was_overwritten_asks_for_a_rebuild(tmp_path: Path) -> None:
    await (await filled(tmp_path / "userdb.sqlite", history(2000))).close()
    file = tmp_path / "userdb.sqlite.g1"
    data = bytearray(file.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(Misconfigured, match="mailio-node rebuild userdb"):  # noqa: PT012 - whichever read meets it
        store = EmbeddedStore.open(tmp_path / "userdb.sqlite")
        try:
            await store.documents_since("userdb-0")
        finally:
            await store.close()


async def test_a_store_whose_making_a_power_loss_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "userdb.sqlite"
    leave_half_made(path)
    store = await filled(path, history(20))
    assert await store.checkpoint() == 20
    await store.close()
