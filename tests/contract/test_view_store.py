"""The contract of `ViewStore`: one suite for the embedded store and for CouchDB-protocol servers.

A real CouchDB is tested too when COUCHDB_URL is set (an administrator's address).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from events.errors import InvalidInput
from projections.stores.building import BuildingStore
from projections.stores.couchdb import CouchdbStore
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Document, Forget, ViewStore
from tests.fakes.view_changes import DATABASE, MemoryBlobs, change
from tests.servers.couchdb import couchdb_server

ADAPTERS = [
    "embedded",
    "embedded-building",
    "couchdb-protocol",
    *(["couchdb"] if os.environ.get("COUCHDB_URL") else []),
]


class Bench:
    """A store under test, its blobs, and a way to open it again."""

    def __init__(self, reopen: Callable[[], object], blobs: MemoryBlobs) -> None:
        self._reopen = reopen
        self.blobs = blobs
        self.store: ViewStore

    async def reopened(self) -> ViewStore:
        if hasattr(self, "store"):
            await self.store.close()
        opened = self._reopen()
        self.store = opened if isinstance(opened, EmbeddedStore) else await opened  # type: ignore[misc]
        return self.store

    @property
    def numbers_changes(self) -> bool:
        """Whether `seq` of a document is kept: a CouchDB server numbers its changes by itself."""
        return isinstance(self.store, EmbeddedStore)


@pytest.fixture(scope="module")
def protocol_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Start the npm server once, and only if a test asks for it."""
    with ExitStack() as stack:
        urls: list[str] = []

        def url() -> str:
            if not urls:
                urls.append(stack.enter_context(couchdb_server(tmp_path_factory.mktemp("couchdb"))))
            return urls[0]

        yield url


@pytest.fixture(params=ADAPTERS)
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, protocol_server: Callable[[], str]
) -> AsyncIterator[Bench]:
    blobs = MemoryBlobs()
    prefix = f"t{uuid.uuid4().hex[:12]}-"
    match request.param:
        case "embedded":
            bench = Bench(lambda: EmbeddedStore.open(tmp_path / "userdb.sqlite"), blobs)
        case "embedded-building":
            bench = Bench(lambda: BuildingStore.open(tmp_path / "userdb.sqlite"), blobs)
        case "couchdb-protocol":
            url = protocol_server()
            bench = Bench(lambda: CouchdbStore.connect(url, blobs, prefix=prefix), blobs)
        case _:
            bench = Bench(
                lambda: CouchdbStore.connect(os.environ["COUCHDB_URL"], blobs, prefix=prefix), blobs
            )
    await bench.reopened()
    yield bench
    await bench.store.close()


@pytest.fixture
def store(bench: Bench) -> ViewStore:
    return bench.store


async def got(store: ViewStore, id: str, database: str = DATABASE) -> Document:  # noqa: A002
    found = await store.get(database, id)
    assert found is not None
    return found


async def test_a_new_store_is_empty(store: ViewStore) -> None:
    assert await store.checkpoint() == 0
    assert await store.schema() == 0
    assert list(await store.databases()) == []
    assert await store.get(DATABASE, "a") is None
    assert [each async for each in store.documents(DATABASE)] == []


async def test_a_written_document_is_read_as_it_was(bench: Bench) -> None:
    one = change(
        "<a/b?c#d%20@example>", 7, folder="inbox", created=5, nested={"ü": ["\U0001f600", None, True, 1.5]}
    )
    await bench.store.write([one], 7, 1)
    found = await got(bench.store, one.id)
    assert found.id == one.id
    assert found.winner.rev == one.revisions[0]
    assert found.winner.body == one.body
    assert not found.winner.deleted
    assert found.winner.attachments == ()
    assert found.tree.leaves() == one.revisions
    if bench.numbers_changes:
        assert found.seq == 7


async def test_checkpoint_and_schema_come_with_the_changes(store: ViewStore) -> None:
    await store.write([change("a", 3)], 5, 2)
    assert (await store.checkpoint(), await store.schema()) == (5, 2)
    await store.write([], 9, 2)
    assert (await store.checkpoint(), await store.schema()) == (9, 2)


async def test_what_was_written_is_there_after_opening_again(bench: Bench) -> None:
    one = change("a", 3, x=1)
    await bench.store.write([one], 5, 2)
    store = await bench.reopened()
    assert (await store.checkpoint(), await store.schema()) == (5, 2)
    assert list(await store.databases()) == [DATABASE]
    assert (await got(store, "a")).winner.body == b'{"x":1}'


async def test_a_repeated_batch_changes_nothing(bench: Bench) -> None:
    first = change("a", 1, x=1)
    batch = [first, change("a", 2, *first.revisions, x=2), change("b", 3)]
    await bench.store.write(batch, 3, 1)
    before = [each async for each in bench.store.documents(DATABASE)]
    await bench.store.write(batch, 3, 1)
    await bench.store.write(batch[:1], 1, 1)
    assert [each async for each in bench.store.documents(DATABASE)] == before
    assert await bench.store.checkpoint() == 3


async def test_a_new_revision_replaces_its_parent(bench: Bench) -> None:
    first = change("a", 1, isRead=False)
    second = change("a", 2, *first.revisions, isRead=True)
    await bench.store.write([first], 1, 1)
    await bench.store.write([second], 2, 1)
    found = await got(bench.store, "a")
    assert found.winner.body == b'{"isRead":true}'
    assert found.tree.ancestry(found.winner.rev) == second.revisions
    if bench.numbers_changes:
        assert found.seq == 2


async def test_several_revisions_of_one_document_in_one_batch(store: ViewStore) -> None:
    first = change("a", 1, n=1)
    second = change("a", 2, *first.revisions, n=2)
    third = change("a", 3, *second.revisions, n=3)
    await store.write([first, second, third], 3, 1)
    found = await got(store, "a")
    assert found.winner.body == b'{"n":3}'
    assert found.tree.ancestry(found.winner.rev) == third.revisions


async def test_a_conflict_keeps_both_leaves_and_couchdbs_winner(store: ViewStore) -> None:
    root = change("a", 1, n=0)
    low = change("a", 2, *root.revisions, rev="2-" + "a" * 32, who="low")
    high = change("a", 3, *root.revisions, rev="2-" + "b" * 32, who="high")
    await store.write([root, high], 2, 1)
    await store.write([low], 3, 1)
    found = await got(store, "a")
    assert found.winner.body == b'{"who":"high"}'
    assert found.tree.leaves() == (high.revisions[0], low.revisions[0])
    assert found.tree.conflicts() == (low.revisions[0],)


async def test_deleting_the_winner_brings_the_other_leaf_back(store: ViewStore) -> None:
    root = change("a", 1)
    high = change("a", 2, *root.revisions, rev="2-" + "b" * 32, who="high")
    low = change("a", 3, *root.revisions, rev="2-" + "a" * 32, who="low")
    gone = change("a", 4, *high.revisions, deleted=True)
    await store.write([root, high, low, gone], 4, 1)
    found = await got(store, "a")
    assert found.winner.rev == low.revisions[0]
    assert found.winner.body == b'{"who":"low"}'
    assert found.tree.deleted_conflicts() == (gone.revisions[0],)


async def test_a_deleted_document_is_still_known(store: ViewStore) -> None:
    first = change("a", 1, x=1)
    gone = change("a", 2, *first.revisions, deleted=True)
    await store.write([first, gone], 2, 1)
    found = await got(store, "a")
    assert found.winner.deleted
    assert found.winner.rev == gone.revisions[0]
    assert [each.id async for each in store.documents(DATABASE)] == ["a"]


async def test_a_document_can_come_back_after_its_deletion(store: ViewStore) -> None:
    first = change("a", 1, x=1)
    gone = change("a", 2, *first.revisions, deleted=True)
    back = change("a", 3, *gone.revisions, x=2)
    await store.write([first, gone, back], 3, 1)
    found = await got(store, "a")
    assert not found.winner.deleted
    assert found.winner.body == b'{"x":2}'


async def test_history_that_arrives_out_of_order_finds_together(store: ViewStore) -> None:
    await store.write([change("a", 1, "2-b", "1-a", rev="3-c", n=3)], 1, 1)
    await store.write([change("a", 2, "1-a", rev="2-b", n=2)], 2, 1)
    found = await got(store, "a")
    assert found.winner.body == b'{"n":3}'
    assert found.tree.leaves() == ("3-c",)


async def test_documents_come_in_id_order_from_many_pages(store: ViewStore) -> None:
    ids = [f"{n * 37 % 251:03}" for n in range(251)] + ["Z", "z", "é", "\U0001f600", "\uffee"]
    await store.write([change(name, seq) for seq, name in enumerate(ids, 1)], len(ids), 1)
    assert [each.id async for each in store.documents(DATABASE)] == sorted(ids)


async def test_databases_do_not_mix(store: ViewStore) -> None:
    await store.write(
        [
            change("a", 1, database="userdb-62", n=2),
            change("a", 2, database="userdb-61", n=1),
            change("b", 3, database="directory"),
        ],
        3,
        1,
    )
    assert list(await store.databases()) == ["directory", "userdb-61", "userdb-62"]
    assert (await got(store, "a", "userdb-61")).winner.body == b'{"n":1}'
    assert (await got(store, "a", "userdb-62")).winner.body == b'{"n":2}'
    assert [each.id async for each in store.documents("directory")] == ["b"]


async def test_attachments_keep_their_descriptors(bench: Bench) -> None:
    files = (
        bench.blobs.attachment("a b/ü.txt", b"text " * 500, "text/plain"),
        bench.blobs.attachment("z.bin", bytes(range(256))),
    )
    first = change("a", 1, x=1, attachments=files)
    second = change("a", 2, *first.revisions, x=2, attachments=files[:1])
    await bench.store.write([first], 1, 1)
    assert (await got(bench.store, "a")).winner.attachments == files
    await bench.store.write([second], 2, 1)
    found = await got(bench.store, "a")
    assert found.winner.attachments == files[:1]
    assert found.winner.body == b'{"x":2}'
    assert [each async for each in bench.store.documents(DATABASE)] == [found]


async def test_parked_records_are_kept_until_they_are_taken_up(bench: Bench) -> None:
    store = bench.store
    assert isinstance(store, EmbeddedStore | CouchdbStore)
    await store.park(10, "no such folder")
    await store.park(9, "first reason")
    await store.park(9, "bad body")
    assert list((await store.parked()).items()) == [(9, "bad body"), (10, "no such folder")]
    assert await store.unpark(9)
    assert not await store.unpark(9)
    assert await store.parked() == {10: "no such folder"}
    await store.park(9, "again")
    assert await store.parked() == {9: "again", 10: "no such folder"}


async def test_a_body_of_a_megabyte_is_no_trouble(store: ViewStore) -> None:
    big = change("a", 1, text="é" * 500_000)
    await store.write([big], 1, 1)
    assert (await got(store, "a")).winner.body == big.body


async def test_a_long_history_is_kept(store: ViewStore) -> None:
    path = [f"{n}-{n:032x}" for n in range(900, 0, -1)]
    await store.write([change("a", 1, *path[1:], rev=path[0])], 1, 1)
    assert (await got(store, "a")).tree.ancestry(path[0]) == tuple(path)


@pytest.mark.parametrize("revisions", [(), ("x",), ("2-a", "2-b"), ("3-a", "1-a")])
async def test_a_malformed_history_is_refused_and_nothing_is_written(
    store: ViewStore, revisions: tuple[str, ...]
) -> None:
    good = change("good", 1)
    bad = change("bad", 2)
    with pytest.raises(InvalidInput):
        await store.write([good, type(bad)(database=DATABASE, id="bad", seq=2, revisions=revisions)], 2, 1)
    assert await store.checkpoint() == 0
    assert await store.get(DATABASE, "good") is None


async def test_two_batches_give_the_same_as_one(bench: Bench) -> None:
    first = change("a", 1, folder="inbox", created=1)
    changes = [first, change("b", 2), change("a", 3, *first.revisions, folder="trash", created=1)]
    await bench.store.write(changes[:1], 1, 1)
    await bench.store.write(changes[1:], 3, 1)
    parts = [each async for each in bench.store.documents(DATABASE)]
    copies = [
        msg.__class__(**{f: getattr(msg, f) for f in msg.__struct_fields__} | {"database": "userdb-62"})
        for msg in changes
    ]
    await bench.store.write(copies, 3, 1)
    assert [each async for each in bench.store.documents("userdb-62")] == parts


# Forgetting


async def ids(store: ViewStore, database: str) -> list[str]:
    """Ids of the documents that are not deleted: some servers can't forget a deletion."""
    return [d.id async for d in store.documents(database) if not d.winner.deleted]


async def test_a_database_is_forgotten_with_everything_in_it(bench: Bench) -> None:
    file = bench.blobs.attachment("a.txt", b"text")
    first = change("a", 1, n=0)
    second = change("a", 2, *first.revisions, n=1, attachments=(file,))
    other = change("b", 3, database="userdb-62", n=2)
    await bench.store.write([first, second, other], 3, 1)
    for _ in range(2):  # a repeated batch changes nothing
        await bench.store.write([Forget(database=DATABASE)], 4, 1)
        assert await bench.store.get(DATABASE, "a") is None
        assert await ids(bench.store, DATABASE) == []
        assert await bench.store.databases() == ["userdb-62"]
        assert await ids(bench.store, "userdb-62") == ["b"]
    assert await (await bench.reopened()).databases() == ["userdb-62"]
    assert await bench.store.checkpoint() == 4


async def test_documents_are_forgotten_by_id_and_by_the_end_of_their_ids(bench: Bench) -> None:
    changes = [change(id_, seq, n=seq) for seq, id_ in enumerate(("x:1", "y:1", "x:2", "one", "two"), 1)]
    await bench.store.write(changes, 5, 1)
    await bench.store.write([Forget(database=DATABASE, id="one")], 6, 1)
    assert await ids(bench.store, DATABASE) == ["two", "x:1", "x:2", "y:1"]
    await bench.store.write([Forget(database=DATABASE, ending=":1")], 7, 1)
    assert await ids(bench.store, DATABASE) == ["two", "x:2"]
    await bench.store.write([Forget(database="userdb-63", id="nothing there")], 8, 1)
    assert await bench.store.checkpoint() == 8
