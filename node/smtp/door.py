"""The receiving SMTP door: listens, bounds the number of sessions, drains."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections import Counter

import structlog

from events.errors import Misconfigured
from events.log.log import Clock
from node.smtp import replies
from node.smtp.connection import Connection
from node.smtp.content import Memory
from node.smtp.counters import DoorCounters
from node.smtp.grammar import is_client_name
from node.smtp.limits import SmtpLimits
from node.smtp.ports import MailPorts
from node.smtp.replies import Reply
from node.smtp.session import Shared

SWEEP_SECONDS = 1.0
"""How often the sessions' times are looked at: one timer for all, instead of one re-armed per command."""

ABORT_SECONDS = 5.0
"""How long a cut connection may take to be gone: longer would be a fault of the event loop."""


_log = structlog.get_logger("smtp")


class SmtpDoor:
    """Receives mail on one address and port and hands it to `ports`.

    `clock` rules the time limits; call `sweep` after moving a virtual one. Raises Misconfigured for a
    host name that can't stand in a banner.
    """

    def __init__(
        self, ports: MailPorts, limits: SmtpLimits, tls: ssl.SSLContext | None, hostname: str, clock: Clock
    ) -> None:
        if not is_client_name(hostname):
            raise Misconfigured(f"smtp.hostname: {hostname!r}: give a host name in ASCII (IDNA, no spaces)")
        self.ports = ports
        self.tls = tls
        self.clock = clock
        self.counters = DoorCounters()
        self.shared = Shared(hostname, limits, ports.busy, Memory(limits.memory_bytes), tls is not None)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        self._per_client: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def sessions(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """Port that the door listens on; 0 when it does not."""
        sockets = self._server.sockets if self._server is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Port 0 takes a free one. Raises Misconfigured when the address can't be had."""
        loop = asyncio.get_running_loop()
        self.shared.detailed = bool(_log.is_enabled_for(logging.DEBUG))
        backlog = self.shared.limits.backlog
        try:
            self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=backlog)
        except OSError as error:
            raise Misconfigured(f"smtp.listen: {host}:{port}: {_why(error)}") from error
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep_again)

    async def drain(self, seconds: float) -> None:
        """Stop listening, send idle sessions away, let messages under way end; then cut what is left."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
            await self._all_gone()
        if self._tasks:
            # What the node is still storing for clients that left: their mail counts all the same.
            await asyncio.wait(self._tasks, timeout=max(0.0, end - loop.time()))
        if self._timer is not None:
            self._timer.cancel()

    def reload_tls(self, context: ssl.SSLContext | None) -> None:
        """Use another certificate for handshakes from now on; None stops offering STARTTLS."""
        self.tls = context
        self.shared.starttls = context is not None

    def sweep(self) -> None:
        """Look at every session's time limits."""
        now = self.clock.now()
        for connection in tuple(self._connections):
            connection.tick(now)

    # Called by connections

    def enter(self, connection: Connection) -> Reply | None:
        """Count a new connection; the reply says why it can't stay."""
        limits, key = self.shared.limits, connection.key
        self._connections.add(connection)
        self._per_client[key] += 1
        self._empty.clear()
        self.counters.connected += 1
        full: Reply | None = None
        if len(self._connections) > limits.connections:
            full = replies.TOO_MANY_CONNECTIONS
        elif self._per_client[key] > limits.connections_per_address:
            full = replies.TOO_MANY_FROM_ADDRESS
        if full is not None:
            self.counters.refused[full.reason] += 1
        return full

    def leave(self, connection: Connection, task: asyncio.Task[None] | None) -> None:
        """Forget a connection, but not what the node is still doing for it."""
        if task is not None and not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._connections.discard(connection)
        self._per_client[connection.key] -= 1
        if self._per_client[connection.key] <= 0:
            del self._per_client[connection.key]
        if not self._connections:
            self._empty.set()

    def farewell(self) -> int:
        """Time after which a client that does not take its last reply is cut off."""
        return self.clock.now() + self.shared.limits.farewell_seconds * 1000

    async def _all_gone(self) -> None:
        """Wait for the loop's next turns, in which transports tell of their loss."""
        try:
            await asyncio.wait_for(self._empty.wait(), ABORT_SECONDS)
        except TimeoutError:
            _log.error("connections left after abort", connections=self.sessions)

    def _sweep_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_again)
        self.sweep()


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "already in use; stop the other program or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not allowed; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return error.strerror or str(error)
