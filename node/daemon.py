"""The daemon: a core with its doors before it. Read `Daemon` and you know what runs.

Start: stores → actors and views → operator's socket → HTTP → SMTP. End: the same backwards; what was
accepted is finished or stays in the log for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import TextIO, cast

import structlog
import uvloop
from aiohttp import web

from events.errors import Misconfigured
from node.admin.server import AdminDoor
from node.api.app import SERVER, build_app
from node.core import Core
from node.settings import LoggingSettings, Settings, SmtpSettings, host_and_port
from node.smtp.door import SmtpDoor
from node.smtp.tls import load_tls

_messages = structlog.get_logger("node")

GC_THRESHOLDS = (20_000, 20, 20)
"""Allocations before each generation is collected: 95 of 830 us of a mail went there with the defaults."""

DRAIN_SECONDS = 30.0
"""How long running SMTP transfers may take to end after SIGTERM; systemd waits 90 s before it kills."""

HTTP_DRAIN_SECONDS = 3.0
"""How long HTTP requests may take to end; live feeds are told to end at once."""


class Daemon:
    """One running node."""

    def __init__(self, settings: Settings) -> None:
        """Open the stores. Raises Misconfigured, CorruptRecord."""
        self.settings = settings
        self.core = Core(settings)
        self.smtp = SmtpDoor(
            self.core.acceptance,
            settings.smtp.limits,
            tls=tls_context(settings.smtp),
            hostname=settings.smtp.hostname or settings.node.server_domain,
            clock=self.core.clock,
        )
        self.app = build_app(self.core, self.smtp)
        self.http = web.AppRunner(self.app, shutdown_timeout=HTTP_DRAIN_SECONDS, **SERVER)
        self.admin = AdminDoor(self.core)

    async def start(self) -> None:
        """Open the doors. Raises Misconfigured when an address can't be had."""
        await self.core.start()
        await self.admin.start()
        await self.http.setup()
        host, port = host_and_port("http.listen", self.settings.http.listen)
        await _listen(self.http, host, port)
        await self.smtp.start(*host_and_port("smtp.listen", self.settings.smtp.listen))
        await self.core.federation.open(self.core.log.head)

    def reload(self) -> None:
        """Read the certificate again (SIGHUP); a bad one is reported and the old one stays."""
        try:
            self.smtp.reload_tls(tls_context(self.settings.smtp))
        except Misconfigured as error:
            _messages.error("the old certificate stays", error=str(error))
        else:
            _messages.info("certificate reloaded")

    async def stop(self, *, attest: bool = False) -> None:
        """Close the doors, finish what was begun, release the stores; `attest` signs the log as it ends."""
        async with contextlib.AsyncExitStack() as last_first:
            last_first.push_async_callback(self.core.close, attest=attest)
            last_first.push_async_callback(self.admin.close)
            last_first.push_async_callback(self.http.cleanup)
            await self.smtp.drain(DRAIN_SECONDS)


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise Misconfigured(
            f"http.listen: {host}:{port} can't be had: {error.strerror}; "
            "stop what uses it, or set another address"
        ) from error


def tls_context(settings: SmtpSettings) -> ssl.SSLContext | None:
    """Return the context for STARTTLS, None when no certificate is set. Raises Misconfigured."""
    if settings.certificate is None:
        return None
    return load_tls(settings.certificate, settings.private_key or settings.certificate)


class Patient:
    """A stream whose failures are nobody's: mail must not wait because a message can't be printed."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream` as long as it takes something."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose the text when the disk is full or the reader has gone."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or don't."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logging(settings: LoggingSettings) -> None:
    """Send the daemon's messages to standard error, as text or JSON lines. Raises Misconfigured."""
    level = logging.getLevelNamesMapping().get(settings.level.upper())
    if level is None:
        raise Misconfigured(f"logging.level: {settings.level}: use debug, info, warning or error")
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Patient(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def _renderer(settings: LoggingSettings) -> structlog.typing.Processor:
    """Choose the form of messages. Plain pairs cost a third of the coloured ones, and each mail has one."""
    if settings.json:
        return structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"))


def serve(settings: Settings, file: Path) -> None:
    """Run a daemon until SIGINT or SIGTERM; SIGHUP reloads the certificate.

    Raises Misconfigured, and whatever stops the node.
    """
    configure_logging(settings.logging)
    uvloop.run(_serve(settings, file))


async def _serve(settings: Settings, file: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(settings)
    # What start-up made stays; without this the collector walks all of it again and again under load.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    clean = False
    try:
        if await _started(daemon, stop):
            print(welcome(daemon, file), flush=True)  # noqa: T201 - for the person who started it
            await _until(stop, daemon.core)
            clean = True
        print("stopping: what was begun is finished first", flush=True)  # noqa: T201 - as above
    finally:
        # A node that could not go on does not vouch for its log.
        await daemon.stop(attest=clean)


async def _started(daemon: Daemon, stop: asyncio.Event) -> bool:
    """Open the doors; False when `stop` came first: making a view again may take minutes."""
    starting = asyncio.create_task(daemon.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _until(stop: asyncio.Event, core: Core) -> None:
    """Wait for a signal, or for a part of the node to fail."""
    failed = asyncio.create_task(core.failed())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if failed.done():
        failed.result()
    failed.cancel()


def welcome(daemon: Daemon, file: Path) -> str:
    """Say where the node listens, and what to try next."""
    settings = daemon.settings
    domain = settings.node.email_domains[0]
    command = ".venv/bin/mailio-node" if Path(".venv/bin/mailio-node").exists() else "mailio-node"
    return "\n".join(
        (
            f"Mailio node {settings.node.server_domain} is running (configuration {file}, Ctrl-C ends it)",
            f"  SMTP  {settings.smtp.listen}",
            f"  HTTP  http://{settings.http.listen}",
            "Try next, in another terminal:",
            f"  {command} account add someone@{domain}",
            f"  {command} send-test someone@{domain}",
            f"  {command} mailbox someone@{domain}",
        )
    )
