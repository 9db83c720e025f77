"""What lies between the two nodes: a DNS server, and the way to one of them, which can be cut in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final

from tests.servers.dns import DnsServer, dns_server

CHUNK: Final = 65_536
MESSAGE: Final = b"POST /api/v1/mtp/message "
"""How a request with a message begins."""


class Wire:
    """Passes connections on to a port of loopback.

    Once `cut_by` is set, the answer to the next message is swallowed: the hook is called, and both ends are
    cut. The message has arrived then, and its sender does not know. `swallowed` is how the answer began.
    """

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.messages = 0
        self.cut_by: Callable[[], None] | None = None
        self.was_cut = threading.Event()
        self.swallowed = b""

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        connection = _Connection(self)
        try:
            await _first(connection.asked(reader, back), connection.answered(there, writer))
        finally:
            back.close()
            writer.close()


class _Connection:
    """One connection on the wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._hook: Callable[[], None] | None = None

    async def asked(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if data.startswith(MESSAGE):
                self._wire.messages += 1
                self._hook, self._wire.cut_by = self._wire.cut_by, None
            back.write(data)
            await back.drain()

    async def answered(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(CHUNK):
            if self._hook is not None:
                self._hook()
                self._wire.swallowed = data
                self._wire.was_cut.set()
                return
            writer.write(data)
            await writer.drain()


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, or breaks, as connections do."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Between:
    """The DNS server and the wire, on a thread of their own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stack = AsyncExitStack()
        self.dns: DnsServer
        self.wire = Wire()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on that thread, and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def open(self) -> None:
        self.dns = await self._stack.enter_async_context(dns_server())
        server = await self.wire.open()
        self._stack.callback(server.close)

    async def publish(self, zone: str) -> None:
        self.dns.publish(zone)

    async def close(self) -> None:
        await self._stack.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def between() -> Iterator[Between]:
    """Run both while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="between the nodes", daemon=True)
    thread.start()
    found = Between(loop)
    try:
        found.run(found.open())
        yield found
    finally:
        found.run(found.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
