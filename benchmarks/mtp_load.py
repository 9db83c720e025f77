"""Federation load: signed messages of one peer over connections side by side, each waiting for every receipt.

All are signed before the clock starts. Run it in a process of its own:
`python -m benchmarks.mtp_load PORT SESSIONS MESSAGES BYTES HOST RECIPIENT` prints the result as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import sys
import time
from collections import deque
from functools import partial

import msgspec

from benchmarks.smtp_load import LoadResult, UnexpectedReply
from node.crypto.keys import ServerKeys
from node.mtp.envelope import MESSAGE, sign_request
from node.mtp.message import (
    ENCRYPTED,
    INTENT_MESSAGE,
    DidCommMessage,
    DidCommRequest,
    Jwe,
    JweRecipient,
    KeyHeader,
)

PEER = "mio.load.example"
KEYS = ServerKeys(b"load" * 8, 0)
AUTHOR = f"did:web:{PEER}#{KEYS.address}"


def zone() -> str:
    """Give the zone of the peer, as zone-file text."""
    key = base64.b64encode(KEYS.public_key).decode()
    return f'mailio._mailiokey.{PEER}. 3600 IN TXT "v=MAILIO1; k=ed25519; p={key}"\n{PEER}. 3600 IN MX 0 .\n'


def request(number: int, size: int, host: str, address: str) -> bytes:
    """Make a signed HTTP request that holds `size` bytes of ciphertext for a user of `host`."""
    kids = (AUTHOR, f"did:web:{host}#{address}")
    message = DidCommMessage(
        type=ENCRYPTED,
        id=f"{number}-{secrets.token_hex(8)}",
        from_=AUTHOR,
        to=[kids[1]],
        intent=INTENT_MESSAGE,
        body=Jwe(
            aad="YWFk",
            ciphertext="x" * size,
            iv="aXYtaXYtaXYtaXYt",
            recipients=[JweRecipient("a" * 54, KeyHeader(kid)) for kid in kids],
            tag="dGFnLXRhZy10YWctdGFn",
            protected="eyJlbmMiOiJBMjU2R0NNIn0",
        ),
    )
    payload = DidCommRequest(timestamp=int(time.time() * 1000), did_comm_message=message)
    body = sign_request(MESSAGE, payload, KEYS, PEER)
    head = f"POST {MESSAGE.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Client(asyncio.Protocol):
    """One connection that sends what is left, one request after the other."""

    def __init__(self, requests: deque[bytes]) -> None:
        self._requests = requests
        self._reply = b""
        self._began = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if not self._requests:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(self._requests.popleft())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._reply += data
        head, found, body = self._reply.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not found or len(body) < int(length):
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self.done.set_exception(UnexpectedReply(self._reply.decode("ascii", "replace")[:500]))
            self._transport.close()
            return
        self._reply = b""
        self.latencies.append(time.perf_counter() - self._began)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(UnexpectedReply(f"connection lost: {exc}"))


async def load(port: int, sessions: int, requests: list[bytes]) -> LoadResult:
    """Send all requests. Raises UnexpectedReply."""
    loop, left = asyncio.get_running_loop(), deque(requests)
    began = time.perf_counter()
    made = await asyncio.gather(
        *(loop.create_connection(partial(_Client, left), "127.0.0.1", port) for _ in range(sessions))
    )
    clients = [client for _, client in made]
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    return LoadResult(len(requests), seconds, [one for client in clients for one in client.latencies])


def main() -> None:
    """Run one load from the command line."""
    import uvloop

    port, sessions, messages, size, host, recipient = sys.argv[1:]
    requests = [request(number, int(size), host, recipient) for number in range(int(messages))]
    result = uvloop.run(load(int(port), int(sessions), requests))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
