"""The conversation with a peer alone: a door on aiohttp and uvloop that verifies, signs, and stores nothing.

What is left of the node's door without log, blobs, policy, filing and limits. `python -m benchmarks.mtp_door`
serves, and prints its port.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from benchmarks.mtp_load import KEYS
from node.mtp.envelope import MESSAGE, open_request, sign_reply
from node.mtp.message import read_request, receipt


async def _message(request: web.Request) -> web.Response:
    """Answer a message as the node does, and forget it."""
    opened = open_request(MESSAGE, await request.read())
    if not opened.is_signed_by((KEYS.public_key,)):
        raise web.HTTPBadRequest
    opened.require_covered()
    taken = read_request(opened.payload)
    reply = sign_reply(MESSAGE, receipt(taken.did_comm_message.id, taken.timestamp), KEYS, "door.example")
    return web.Response(status=202, body=reply, content_type="application/json")


async def _serve() -> None:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post(MESSAGE.path, _message)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


@contextmanager
def door() -> Iterator[int]:
    """Serve in a process of its own while the block runs; give the port."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.mtp_door"], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
