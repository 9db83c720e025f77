"""The socket of a running daemon: `POST /<operation>`, answers as JSON lines.

Only the daemon's own user may open it (mode 0600), so it asks for no password.
"""

from __future__ import annotations

import contextlib
import stat

import msgspec
import structlog
from aiohttp import web

from events.errors import InvalidInput, MailioError, Misconfigured, NotFound
from node.admin.address import socket_path
from node.admin.operations import OPERATIONS
from node.core import Core

MAX_REQUEST = 65_536
"""Bytes of one request: the largest has a few keys and names."""

log = structlog.get_logger("admin")


class AdminDoor:
    """Serves the operations of one core on a Unix socket."""

    def __init__(self, core: Core) -> None:
        """Serve `core`; call `start`."""
        self._core = core
        self._path = socket_path(core.settings.node.data)
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_post("/{operation}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)

    async def start(self) -> None:
        """Listen. The log's lock says that no other daemon is alive, so a leftover socket goes."""
        await self._runner.setup()
        try:
            self._path.unlink(missing_ok=True)
            await web.UnixSite(self._runner, str(self._path)).start()
        except OSError as error:
            raise Misconfigured(f"{self._path}: the operator's socket can't be made: {error}") from error
        self._path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._runner.cleanup()
        with contextlib.suppress(OSError):
            self._path.unlink()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            await self._stream(request, response)
        except MailioError as error:
            await _line(response, {"error": {"kind": type(error).__name__, "text": str(error)}})
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("operation failed", operation=request.match_info["operation"])
            text = f"the daemon failed: {type(error).__name__}; its messages say more"
            await _line(response, {"error": {"kind": "Failure", "text": text}})
        await response.write_eof()
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        operation = OPERATIONS.get(request.match_info["operation"])
        if operation is None:
            raise NotFound("this daemon does not know that operation: is it an older version?")
        try:
            arguments = msgspec.json.decode(await request.read() or b"{}", type=dict)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"not a JSON object: {error}") from error
        async for answer in operation(self._core, arguments):
            await _line(response, {"answer": answer})


async def _line(response: web.StreamResponse, item: object) -> None:
    await response.write(msgspec.json.encode(item) + b"\n")
