"""A peer that answers as a test says: its DID documents are right, its answers to messages are anything."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from node.crypto.did_documents import ServerEndpoints, server_document, user_document
from node.crypto.keys import ServerKeys, UserKeys
from node.mtp.envelope import MESSAGE, open_request, sign_reply
from node.mtp.message import receipt

Answerer = Callable[["ScriptedPeer", web.Request, bytes], Any]


class ScriptedPeer:
    """`answer` makes the response to a message; `taken` has the ids that were acknowledged."""

    def __init__(self, domain: str, port: int) -> None:
        self.domain = domain
        self.port = port
        self.keys = ServerKeys(b"\xe1" * 32, 0)
        self.user = UserKeys(b"\xe2" * 32, b"\xe3" * 32)
        self.requests = 0
        self.came: list[str] = []
        self.taken: list[str] = []
        self.answer: Answerer = receipt_of
        self.released = asyncio.Event()

    @property
    def did(self) -> str:
        return f"did:web:{self.domain}#{self.user.address}"

    @property
    def record(self) -> str:
        key = base64.b64encode(self.keys.public_key).decode()
        text = f'mailio._mailiokey.{self.domain}. 300 IN TXT "v=MAILIO1; k=ed25519; p={key}"\n'
        return text + f"{self.domain}. 300 IN MX 0 .\n"

    async def documents(self, request: web.Request) -> web.Response:
        endpoints = ServerEndpoints(self.domain)
        if "address" in request.match_info:
            if request.match_info["address"] != self.user.address:
                return web.json_response({"code": 404, "message": "did not found"}, status=404)
            document = user_document(
                self.user.public_key, self.user.agreement_public_key, self.keys.address, endpoints
            )
        else:
            document = server_document(self.keys.public_key, endpoints)
        return web.json_response(document)

    async def message(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        self.came.append(id_of(body))
        found = self.answer(self, request, body)
        response: web.StreamResponse = await found if asyncio.iscoroutine(found) else found
        return response


def id_of(body: bytes) -> str:
    ident: str = open_request(MESSAGE, body).payload["didCommMessage"]["id"]
    return ident


def signed_receipt(peer: ScriptedPeer, ident: str, keys: ServerKeys | None = None) -> bytes:
    return sign_reply(MESSAGE, receipt(ident, 1_760_000_000_000), keys or peer.keys, peer.domain)


def receipt_of(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.Response:
    """An honest receipt; the message itself is forgotten."""
    peer.taken.append(id_of(body))
    return web.Response(status=202, body=signed_receipt(peer, id_of(body)), content_type="application/json")


def saying(status: int, body: bytes = b"", **headers: str) -> Answerer:
    """Answer with this status and body; underscores in header names are hyphens."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda peer, request, sent: web.Response(
        status=status, body=body, headers={"Content-Type": "application/json", **fields}
    )


@asynccontextmanager
async def scripted_peer(domain: str, port: int) -> AsyncIterator[ScriptedPeer]:
    """Serve a peer on a port of loopback while the block runs."""
    peer = ScriptedPeer(domain, port)
    app = web.Application(client_max_size=1 << 27)
    app.router.add_get("/.well-known/did.json", peer.documents)
    app.router.add_get("/{address}/did.json", peer.documents)
    app.router.add_post(MESSAGE.path, peer.message)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield peer
    finally:
        peer.released.set()
        await runner.cleanup()
