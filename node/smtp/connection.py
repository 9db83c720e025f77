"""A session on a socket: bytes to the state machine, its actions to transport, ports and log."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import structlog

from events.errors import StorageUnavailable
from events.log import failpoints
from events.log.log import Clock
from events.mail import Recipient
from node.smtp.actions import DETAILS, Accept, Action, Admit, Close, Note, Send, StartTls, Transition
from node.smtp.counters import DoorCounters
from node.smtp.pace import Phase
from node.smtp.ports import MailPorts
from node.smtp.replies import Reply, printable
from node.smtp.session import Shared, SmtpSession

BUFFERED_BYTES = 65_536
"""Input kept for a session that waits for an answer; above it nothing more is read from the socket."""

_log = structlog.get_logger("smtp")


def client_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)


class Reception(Protocol):
    """What a connection needs of the door that made it."""

    ports: MailPorts
    tls: ssl.SSLContext | None
    clock: Clock
    counters: DoorCounters
    shared: Shared

    def enter(self, connection: Connection) -> Reply | None:
        """Count the connection in; a reply is the reason to turn it away."""

    def leave(self, connection: Connection, task: asyncio.Task[None] | None) -> None:
        """Count it out; `task` is what it is still waiting for."""

    def farewell(self) -> int:
        """Return the time (ms) at which a connection that was told goodbye is cut."""


class Connection(asyncio.Protocol):
    """One client's connection. Made by the door for each accepted socket."""

    def __init__(self, door: Reception) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: SmtpSession | None = None
        self._logger: Any = _log
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0
        self._cut_at: int | None = None
        self._reading = True
        self._choked = self._unanswered = False
        self._handing_over = self._gone = False
        self._decrypted = b""
        self._greeting: asyncio.TimerHandle | None = None
        self.key = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, unless there are too many already."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        client = str(peer[0]) if peer else ""
        self.key = client_key(client)
        full = self._door.enter(self)
        if full is not None:
            self._transport.write(full.wire)
            self._cut_at = self._door.farewell()
            self._transport.close()
            return
        clock = self._door.clock
        self._session = SmtpSession(self._door.shared, clock.event_id(), client, clock.now())
        self._logger = _log.bind(session=self._session.identity)
        self._log(Transition.CONNECTED, client=client)
        delay = self._door.shared.limits.greeting_delay_ms
        if delay:
            self._greeting = self._loop.call_later(delay / 1000, self._greet)
        else:
            self._greet()

    def data_received(self, data: bytes) -> None:
        """Feed the session."""
        session = self._session
        if session is None:
            return
        if self._handing_over:
            self._decrypted += data
            return
        self._drive(session.receive, data)
        if session.buffered > BUFFERED_BYTES and session.waiting:
            self._pause()

    def eof_received(self) -> bool:
        """Stay only as long as an answer is owed."""
        session = self._session
        if session is None or not session.waiting or self._transport is None:
            return False
        # asyncio does not let a TLS transport stay half-open; then the answer is lost, the mail is not.
        return self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the door. A message that is being accepted goes on being accepted."""
        if self._gone:
            return
        self._gone = True
        self._transport = None
        if self._greeting is not None:
            self._greeting.cancel()
        self._door.leave(self, self._task)
        session = self._session
        if session is not None:
            session.lost()
            self._log(Transition.CLOSED, why=session.ending, mails=session.mails)

    def pause_writing(self) -> None:
        """The client does not read: listen to it no longer."""
        self._choked = True
        self._pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._choked = False
        self._resume()

    # Called by the door

    def tick(self, now: int) -> None:
        """Look at the time, once a second."""
        session, limits = self._session, self._door.shared.limits
        if self._cut_at is not None:
            if now > self._cut_at and self._transport is not None:
                self._transport.abort()
        elif session is not None:
            late = session.waiting and now - self._asked_at > limits.answer_seconds * 1000
            if late and self._task is not None:
                self._unanswered = True
                self._task.cancel()
            self._drive(session.tick)

    def stop(self) -> None:
        """End as soon as no message is under way."""
        if self._session is not None:
            self._perform(self._session.stop())

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    # Actions

    def _greet(self) -> None:
        if self._session is not None:
            self._drive(self._session.greet)

    def _drive(self, step: Callable[..., list[Action]], *arguments: object) -> None:
        """Take one step of the session. A fault of ours ends it: 421 for the client, a log line for us."""
        try:
            self._perform(step(*arguments, self._door.clock.now()))
        except Exception as error:  # noqa: BLE001 - reported in `_fault`
            self._fault(error)

    def _perform(self, actions: list[Action]) -> None:
        out: list[bytes] = []
        for action in actions:
            if isinstance(action, Send):
                out.append(action.data)
            elif isinstance(action, Note):
                self._record(action)
            else:
                self._write(out)
                out = []
                self._carry_out(action)
        self._write(out)

    def _carry_out(self, action: Admit | Accept | StartTls | Close) -> None:
        ports = self._door.ports
        if isinstance(action, Admit):
            self._ask(ports.admit(action.facts, action.sender, action.recipient, action.size), action)
        elif isinstance(action, Accept):
            self._ask(ports.accept(action.facts, action.sender, action.recipients, action.raw), action)
        elif isinstance(action, StartTls):
            self._pause()
            self._task = self._loop.create_task(self._start_tls())
        else:
            self._close(action)

    def _close(self, action: Close) -> None:
        transport = self._transport
        if transport is None:
            return
        self._cut_at = self._door.farewell()
        if action.linger and transport.get_extra_info("sslcontext") is None:
            # Closing with unread input resets the connection, and the client may lose our last reply.
            transport.write_eof()
        else:
            transport.close()

    def _write(self, lines: list[bytes]) -> None:
        """Send the replies to one segment in one segment (RFC 2920 section 3.2)."""
        if lines and self._transport is not None:
            self._transport.write(b"".join(lines))

    def _ask(self, question: Awaitable[Recipient | str], action: Admit | Accept) -> None:
        self._asked_at = self._door.clock.now()
        self._task = self._loop.create_task(self._answer(question, type(action).__name__.lower()))

    @failpoints.after("session-answered")
    async def _answer(self, question: Awaitable[Recipient | str], port: str) -> None:
        """Await a port and bring its outcome to the session."""
        outcome: Recipient | str | Exception
        try:
            outcome = await question
        except asyncio.CancelledError:
            if not self._unanswered:
                raise
            self._unanswered = False
            outcome = StorageUnavailable("temporary failure", f"{port}: no answer in time")
        except Exception as error:  # noqa: BLE001 - reported: the session decides, the operator reads
            outcome = error
        if isinstance(outcome, Exception):
            self._report(outcome, port)
        session = self._session
        if session is None:
            return
        self._drive(session.answer, outcome)
        self._resume()

    async def _start_tls(self) -> None:
        session, transport, context = self._session, self._transport, self._door.tls
        if session is None or transport is None or context is None or session.phase is Phase.CLOSED:
            return
        # From here on the loop decrypts: what comes in while the handshake ends is the client's first
        # command over TLS. What came before the next line was plain text, and ended the session.
        self._handing_over = True
        timeout = self._door.shared.limits.handshake_seconds
        try:
            secure = await self._loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=timeout
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends the session and is in its last line
            self._fail_tls(str(error) or type(error).__name__)
            return
        if secure is None:
            self._fail_tls("connection lost")
            return
        self._transport, self._reading, self._handing_over = secure, True, False
        self._drive(session.secured, describe_tls(secure))
        if self._decrypted:
            data, self._decrypted = self._decrypted, b""
            self.data_received(data)

    def _fail_tls(self, why: str) -> None:
        self._door.counters.tls_failures += 1
        if self._session is not None:
            self._session.ending = self._session.ending or f"TLS handshake failed: {why}"
        self.abort()
        # asyncio does not tell the protocol when a connection is lost during the handshake.
        self.connection_lost(None)

    def _pause(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        session, transport = self._session, self._transport
        if self._reading or self._choked or session is None or transport is None or transport.is_closing():
            return
        if session.phase is not Phase.HANDSHAKE and session.buffered <= BUFFERED_BYTES:
            self._reading = True
            transport.resume_reading()

    # Telling

    def _record(self, note: Note) -> None:
        counters = self._door.counters
        if note.transition is Transition.ACCEPTED:
            counters.accepted += 1
        elif note.transition is Transition.REFUSED:
            counters.refused[str(note.fields["reason"])] += 1
        self._log(note.transition, **note.fields)

    def _log(self, transition: Transition, **fields: str | int) -> None:
        write = self._logger.debug if transition in DETAILS else self._logger.info
        escaped = {k: printable(v) if isinstance(v, str) else v for k, v in fields.items()}
        write(transition.value, **escaped)

    def _report(self, error: Exception, port: str) -> None:
        """Tell the operator about what is not the client's fault."""
        private = getattr(error, "private", None)
        if private is None:
            self._door.counters.faults += 1
            self._logger.error("port failed", port=port, exc_info=error)
        elif private:
            self._logger.warning("port refused", port=port, why=printable(str(error)))

    def _fault(self, error: Exception) -> None:
        session = self._session
        self._door.counters.faults += 1
        self._logger.error("session failed", exc_info=error)
        if session is not None:
            self._perform(session.fail())


def describe_tls(transport: asyncio.BaseTransport) -> str:
    """Protocol version and cipher of a TLS transport, as in `TLSv1.3 TLS_AES_256_GCM_SHA384`."""
    connection = transport.get_extra_info("ssl_object")
    cipher = transport.get_extra_info("cipher")
    version = connection.version() if connection is not None else None
    return " ".join(filter(None, (version, cipher[0] if cipher else None))) or "TLS"
