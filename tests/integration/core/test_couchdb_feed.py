"""A CouchDB that begins to refuse the node: its views wait there, mail does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from node import views as views_module
from node.views import Views
from projections.runner import RunnerLimits
from tests.factories import ORIGIN, Blobs, interest_shown, writes
from tests.fakes.memory_log import MemoryLog

ASKED_IN_VAIN = 6
"""Questions for the checkpoint, two each time, after which the feed has begun again."""


class Server:
    """Answers what a view without documents asks; `refuses` says how many requests meet a 401 from now on."""

    def __init__(self) -> None:
        self.refuses = 0
        self.refused = asyncio.Event()
        self.asked = 0
        self.progress: dict[str, int] = {}

    async def answer(self, request: web.Request) -> web.Response:
        if self.refuses:
            self.refuses -= 1
            self.refused.set()
            return web.json_response({"error": "unauthorized"}, status=401)
        if not request.path.endswith("/checkpoint"):
            return web.json_response({"rows": []})
        self.asked += 1
        if request.method == "PUT":
            self.progress = await request.json()
        return web.json_response(self.progress)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield server, f"http://{host}:{port}"
    await runner.cleanup()


@pytest.mark.parametrize("refusal", ["password", "schema"])
async def test_a_couchdb_that_refuses_the_node_is_asked_again_and_ends_nothing(
    tmp_path: Path, served: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(views_module, "COUCHDB_PAUSE_MOST_SECONDS", 0.01)
    server, url = served
    if refusal == "schema":
        server.progress = {"position": 0, "schema": 77}
    log = MemoryLog()
    views = Views(tmp_path / "views", log, Blobs(), RunnerLimits(checkpoint_events=1))
    feed = asyncio.create_task(views.feed_couchdb("userdb", url, ""))
    try:
        async with asyncio.timeout(10):
            while "couchdb/userdb" not in views.runners:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
            if refusal == "password":
                server.refuses = 3
                await log.append(*writes([interest_shown()]), origin=ORIGIN)
                await server.refused.wait()
            else:
                while server.asked < ASKED_IN_VAIN:
                    assert not feed.done()
                    await asyncio.sleep(0.01)
                server.progress = {}
            await log.append(*writes([interest_shown()]), origin=ORIGIN)
            while server.progress.get("position", 0) < log.head:
                assert not feed.done()
                await asyncio.sleep(0.01)
    finally:
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)
        await views.close()
