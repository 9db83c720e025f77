"""Carrying out operations from a command: through the daemon's socket, or on the stores themselves.

With a daemon, neither the node nor an HTTP library is imported: that would be most of a command's time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final

import msgspec

from events import errors
from events.errors import MailioError
from node.admin.address import socket_path
from node.settings import Settings

Answer = dict[str, Any]
Progress = Callable[[Answer], None]

CONNECT_SECONDS: Final = 5.0
"""How long a daemon may take to take a connection; an operation may then take as long as it takes."""


PIECE: Final = 1 << 20
"""Bytes that are read at once."""


class DaemonFailure(MailioError):
    """The daemon could not carry out an operation."""


class _Unserved(Exception):
    """Nobody listens at the socket."""


class _Connection(HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("node")
        self._path = path

    def connect(self) -> None:
        """Connect; raises _Unserved."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        try:
            self.sock.connect(str(self._path))
        except OSError as error:
            self.sock.close()
            raise _Unserved from error
        self.sock.settimeout(None)


class _Told:
    """What was answered: the last answer is the result, those before it are reports of progress."""

    def __init__(self, progress: Progress) -> None:
        self.last: Answer = {}
        self._progress = progress
        self._count = 0

    def take(self, answer: Answer) -> None:
        """Take one more; the one before it was a report, then."""
        if self._count:
            self._progress(self.last)
        self.last, self._count = answer, self._count + 1


def _ignore(_: Answer) -> None:
    pass


def carry_out(
    settings: Settings, operation: str, arguments: Mapping[str, Any], progress: Progress = _ignore
) -> Answer:
    """Carry out one operation and return its result; reports on the way go to `progress`.

    Raises the MailioError that the operation raised, wherever it ran; DaemonFailure when the daemon failed or
    went away meanwhile.
    """
    told = _Told(progress)
    path = socket_path(settings.node.data)
    if path.exists():
        try:
            for answer in _through_socket(path, operation, arguments):
                told.take(answer)
        except _Unserved:
            # A socket that nobody serves is what a killed daemon leaves; the log's lock decides.
            pass
        else:
            return told.last
    asyncio.run(_on_stores(settings, operation, arguments, told))
    return told.last


def _through_socket(path: Path, operation: str, arguments: Mapping[str, Any]) -> Iterator[Answer]:
    with closing(_Connection(path)) as connection:
        try:
            connection.request("POST", f"/{operation}", msgspec.json.encode(arguments))
            for line in _lines(connection.getresponse()):
                item = msgspec.json.decode(line)
                if "error" in item:
                    raise _error(item["error"])
                yield item["answer"]
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            raise DaemonFailure(
                "the daemon went away before it had answered: its messages say more, "
                "and `mailio-node status` whether it is back"
            ) from error


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    """Lines as they come. Raises HTTPException when the answer is cut off.

    The response's own `readline` takes one that ends between two chunks for whole.
    """
    if not response.chunked:
        raise HTTPException(f"status {response.status}, not in chunks as the daemon answers")
    line = bytearray()
    while piece := response.read1(PIECE):
        first, *others = piece.split(b"\n")
        line += first
        for other in others:
            yield bytes(line)
            line = bytearray(other)


def _error(error: Mapping[str, str]) -> MailioError:
    kind = getattr(errors, error["kind"], None)
    simple = isinstance(kind, type) and issubclass(kind, MailioError) and "__init__" not in vars(kind)
    return kind(error["text"]) if simple and kind else DaemonFailure(error["text"])


async def _on_stores(settings: Settings, operation: str, arguments: Mapping[str, Any], told: _Told) -> None:
    # Imported here: with a daemon, this process needs no node of its own.
    from node.admin.operations import OPERATIONS
    from node.core import Core

    core = Core(settings)
    await core.start()
    try:
        async for answer in OPERATIONS[operation](core, arguments):
            told.take(answer)
    finally:
        await core.close()
