"""A small HTTPS server on loopback that answers with exactly the bytes that a test gives it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.smtp.support import make_certificate, trusting


class HttpsServer:
    """Answers every request with `pieces`, then closes; `requests` has the heads that came."""

    def __init__(self) -> None:
        self.pieces: Iterable[bytes] = ()
        self.stays_open = False
        self.requests: list[str] = []
        self.connections = 0
        self.port = 0
        self.trust = ssl.create_default_context()
        self._ended = asyncio.Event()

    def answer(self, body: bytes = b"{}", status: str = "200 OK", **headers: str) -> None:
        """Answer with a whole response; underscores in header names are hyphens."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.pieces = [f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                if self.stays_open:
                    await self._ended.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def end(self) -> None:
        self._ended.set()


@asynccontextmanager
async def https_server(folder: Path, name: str, *, plain: bool = False) -> AsyncIterator[HttpsServer]:
    """Run a server with a certificate for `name`, which its `trust` accepts; `plain`: without TLS."""
    server, context = HttpsServer(), None
    if not plain:
        chain, key = make_certificate(folder, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        server.trust = trusting(chain)
    server.answer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.end()
        listening.close()
