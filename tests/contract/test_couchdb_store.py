"""The CouchDB store when its server, the network or the rights fail; and what it leaves on the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from events.errors import InvalidInput, MailioError, Misconfigured, StorageUnavailable
from projections.stores.couchdb import FOLDER_INDEX, CouchdbStore
from tests.fakes.view_changes import DATABASE, MemoryBlobs, change
from tests.servers.couchdb import couchdb_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with couchdb_server(tmp_path_factory.mktemp("couchdb")) as url:
        yield url


class FaultyNetwork:
    """A proxy before a real server. `fault` looks at each request and may name what goes wrong with it:

    `refuse` (503, not forwarded), `drop` (connection closed, not forwarded), `lose` (forwarded, answer lost).
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self.fault: Callable[[str, str], str] = lambda _method, _path: ""
        self.requests: list[tuple[str, str]] = []

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        fault = self.fault(request.method, request.path)
        if fault == "refuse":
            return web.json_response({"error": "unavailable"}, status=503)
        if fault == "drop":
            return self._cut(request)
        url = URL(self._server + request.raw_path, encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                url,
                data=await request.read(),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            ) as answer,
        ):
            body = await answer.read()
        return self._cut(request) if fault == "lose" else web.Response(body=body, status=answer.status)

    def _cut(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


async def serving(handler: Callable[[web.Request], object]) -> TestServer:
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.fixture
async def network(server: str) -> AsyncIterator[tuple[FaultyNetwork, str]]:
    faulty = FaultyNetwork(server)
    proxy = await serving(faulty.pass_on)
    yield faulty, str(proxy.make_url("")).rstrip("/")
    await proxy.close()


PREFIXES = iter(f"p{n}-" for n in range(10_000))


async def test_what_fails_once_is_tried_again(network: tuple[FaultyNetwork, str]) -> None:
    faulty, url = network
    store = await CouchdbStore.connect(url, MemoryBlobs(), prefix=next(PREFIXES), retry_delays=[0, 0])
    for kind in ("refuse", "drop", "lose"):
        failed: set[tuple[str, str]] = set()

        def once(method: str, path: str, kind: str = kind, failed: set[tuple[str, str]] = failed) -> str:
            known = (method, path) in failed
            failed.add((method, path))
            return "" if known else kind

        faulty.fault = once
        number = ("refuse", "drop", "lose").index(kind) + 1
        await store.write([change(kind, number, n=1)], number, 1)
        assert await store.checkpoint() == number
        found = await store.get(DATABASE, kind)
        assert found is not None
        assert len(found.tree) == 1
        assert len(failed) >= 3
    await store.close()


async def test_a_failure_before_the_checkpoint_is_completed_by_the_same_batch(
    network: tuple[FaultyNetwork, str],
) -> None:
    faulty, url = network
    store = await CouchdbStore.connect(url, MemoryBlobs(), prefix=next(PREFIXES), retry_delays=[0])
    faulty.fault = lambda method, path: "drop" if method == "PUT" and "_local" in path else ""
    batch = [change("a", 1, n=1), change("b", 2, n=1, database="directory")]
    with pytest.raises(StorageUnavailable):
        await store.write(batch, 2, 1)
    assert await store.checkpoint() == 0
    faulty.fault = lambda _method, _path: ""
    await store.write(batch, 2, 1)
    assert await store.checkpoint() == 2
    found = await store.get(DATABASE, "a")
    assert found is not None
    assert found.tree.leaves() == batch[0].revisions
    await store.close()


async def test_a_database_that_stays_away_does_not_move_the_checkpoint(
    network: tuple[FaultyNetwork, str],
) -> None:
    faulty, url = network
    store = await CouchdbStore.connect(url, MemoryBlobs(), prefix=next(PREFIXES), retry_delays=[0])
    faulty.fault = lambda _method, path: "refuse" if "userdb-62" in path else ""
    with pytest.raises(StorageUnavailable):
        await store.write([change("a", 1), change("a", 2, database="userdb-62")], 2, 1)
    assert await store.checkpoint() == 0
    await store.close()


async def test_an_unreachable_server_is_a_storage_failure_that_tells_no_password() -> None:
    with pytest.raises(StorageUnavailable) as caught:
        await CouchdbStore.connect("http://admin:geheim@127.0.0.1:9", MemoryBlobs(), retry_delays=[0])
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "attempts"),
    [
        (401, Misconfigured, 1),
        (403, Misconfigured, 1),
        (500, StorageUnavailable, 3),
        (429, StorageUnavailable, 3),
        (418, InvalidInput, 1),
    ],
)
async def test_each_refusal_has_its_error(status: int, error: type[MailioError], attempts: int) -> None:
    asked = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"error": "no", "reason": "because"}, status=status)

    server = await serving(refuse)
    with pytest.raises(error, match="because"):
        await CouchdbStore.connect(str(server.make_url("")), MemoryBlobs(), retry_delays=[0, 0])
    assert len(asked) == attempts
    await server.close()


async def test_something_else_than_couchdb_is_a_wrong_configuration() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    server = await serving(page)
    with pytest.raises(Misconfigured):
        await CouchdbStore.connect(str(server.make_url("")), MemoryBlobs(), retry_delays=[])
    await server.close()


@pytest.mark.parametrize("url", ["", "couchdb", "ftp://host/", "http://", "http://host:port/"])
async def test_an_address_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        await CouchdbStore.connect(url, MemoryBlobs())


async def test_credentials_of_the_address_are_sent() -> None:
    seen = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({}, status=401)

    server = await serving(note)
    with pytest.raises(Misconfigured):
        await CouchdbStore.connect(str(server.make_url("").with_user("a").with_password("b")), MemoryBlobs())
    assert seen == ["Basic YTpi"]
    await server.close()


async def test_a_request_that_takes_too_long_is_given_up() -> None:
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    server = await serving(hang)
    with pytest.raises(StorageUnavailable):
        await CouchdbStore.connect(str(server.make_url("")), MemoryBlobs(), retry_delays=[0], timeout=0.05)
    never.set()
    await server.close()


async def test_attachment_bytes_and_the_folder_index_are_on_the_server(server: str) -> None:
    prefix, blobs = next(PREFIXES), MemoryBlobs()
    store = await CouchdbStore.connect(server, blobs, prefix=prefix)
    file = blobs.attachment("note.bin", bytes(range(256)) * 40)
    await store.write([change("a", 1, attachments=(file,)), change("x", 2, database="directory")], 1, 1)
    async with aiohttp.ClientSession(server) as session:
        async with session.get(f"/{prefix}{DATABASE}/a/note.bin") as answer:
            assert await answer.read() == blobs.content[file.blob]
        async with session.get(f"/{prefix}{DATABASE}/_index") as answer:
            assert FOLDER_INDEX in {
                index["name"] for index in (await answer.json(content_type=None))["indexes"]
            }
        async with session.get(f"/{prefix}directory/_index") as answer:
            assert FOLDER_INDEX not in {
                index["name"] for index in (await answer.json(content_type=None))["indexes"]
            }
    assert [each.id async for each in store.documents(DATABASE)] == ["a"]
    await store.close()


async def test_a_database_that_is_there_already_is_used(server: str) -> None:
    prefix = next(PREFIXES)
    async with aiohttp.ClientSession(server) as session:
        assert (await session.put(f"/{prefix}{DATABASE}")).status == 201
        assert (await session.put(f"/{prefix}{DATABASE}/theirs", json={"x": 1})).status == 201
    store = await CouchdbStore.connect(server, MemoryBlobs(), prefix=prefix)
    await store.write([change("ours", 1)], 1, 1)
    assert [each.id async for each in store.documents(DATABASE)] == ["ours", "theirs"]
    await store.close()


async def test_what_a_client_attached_by_itself_has_no_blob(server: str) -> None:
    prefix = next(PREFIXES)
    store = await CouchdbStore.connect(server, MemoryBlobs(), prefix=prefix)
    await store.write([change("ours", 1)], 1, 1)
    document = {"_attachments": {"f": {"content_type": "image/png", "data": "aGVsbG8="}}}
    async with aiohttp.ClientSession(server) as session:
        assert (await session.put(f"/{prefix}{DATABASE}/theirs", json=document)).status == 201
    found = await store.get(DATABASE, "theirs")
    assert found is not None
    assert [(file.name, file.length, file.blob) for file in found.winner.attachments] == [("f", 5, "")]
    await store.close()


async def test_two_views_on_one_server_know_their_own_databases_only(server: str) -> None:
    prefix = next(PREFIXES)
    one = await CouchdbStore.connect(server, MemoryBlobs(), prefix=prefix, view="userdb")
    other = await CouchdbStore.connect(server, MemoryBlobs(), prefix=prefix, view="directory")
    await one.write([change("a", 1)], 1, 1)
    await other.write([change("b", 2, database="domains")], 2, 7)
    assert (await one.databases(), await other.databases()) == ([DATABASE], ["domains"])
    assert (await one.checkpoint(), await other.checkpoint()) == (1, 2)
    await one.close()
    await other.close()


async def test_a_large_batch_goes_in_several_requests(network: tuple[FaultyNetwork, str]) -> None:
    faulty, url = network
    store = await CouchdbStore.connect(url, MemoryBlobs(), prefix=next(PREFIXES))
    changes = [change(f"m{n}", n, text="x" * 900_000) for n in range(1, 13)]
    await store.write(changes, 12, 1)
    assert sum(path.endswith(f"{DATABASE}/_bulk_docs") for _, path in faulty.requests) == 2
    assert len([each async for each in store.documents(DATABASE)]) == 12
    await store.close()


def test_a_missing_node_or_package_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"Node\.js 20"), couchdb_server(tmp_path):
        pass
