"""PouchDB on IndexedDB in headless Chromium syncs with the door from another origin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.integration.sync.harness import TESTS, SyncNode, running

BROWSER = Path(__file__).parent
SECONDS = 90


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """A web origin of its own: the page and PouchDB's browser build."""
    app = web.Application()
    app.router.add_get("/", _page)
    app.router.add_static("/pouchdb", TESTS / "node_modules" / "pouchdb" / "dist")
    server = web.AppRunner(app, access_log=None)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{server.addresses[0][1]}"
    finally:
        await server.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text='<script src="/pouchdb/pouchdb.min.js"></script>', content_type="text/html")


async def in_browser(name: str, *arguments: str) -> Any:
    """Run a Playwright script; return what it says as JSON."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(BROWSER / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=TESTS,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, err.decode()[-4000:]
    return json.loads(out.decode().strip().splitlines()[-1])


async def synced(node: SyncNode, origin: str) -> Any:
    user = node.add_user()
    return await in_browser("sync.mjs", origin, f"{node.url}/{user.database}", user.address, user.password)


async def test_a_page_of_an_allowed_origin_syncs_both_ways(tmp_path: Path) -> None:
    async with page_server() as origin, running(tmp_path, origins=[origin]) as node:
        said = await synced(node, origin)
    assert said["pushed"]["docs_written"] == 2
    assert said["second"] == ["from-live", "mail", "with-file"]
    assert said["text"] == "hello"
    assert said["adapter"] == "idb"
    assert said["back"] is True


async def test_a_page_of_another_origin_reads_and_writes_nothing(tmp_path: Path) -> None:
    async with page_server() as origin, running(tmp_path, origins=["https://mail.alpha.example"]) as node:
        said = await synced(node, origin)
        assert said["refused"]
        assert node.log.head == 0
