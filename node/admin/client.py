"""Carrying out operations from a command: through the daemon's socket, or on the stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from events import errors
from events.errors import MailioError
from node.admin.operations import OPERATIONS, Answer
from node.admin.server import socket_path
from node.core import Core
from node.settings import Settings

Progress = Callable[[Answer], None]


class DaemonFailure(MailioError):
    """The daemon could not carry out an operation."""


def _ignore(_: Answer) -> None:
    pass


def carry_out(
    settings: Settings, operation: str, arguments: Mapping[str, Any], progress: Progress = _ignore
) -> Answer:
    """Carry out one operation and return its result; reports on the way go to `progress`.

    Raises the MailioError that the operation raised, wherever it ran.
    """
    return asyncio.run(carry_out_async(settings, operation, arguments, progress))


async def carry_out_async(
    settings: Settings, operation: str, arguments: Mapping[str, Any], progress: Progress = _ignore
) -> Answer:
    """Do what `carry_out` does, on a running loop."""
    if socket_path(settings.node.data).exists():
        try:
            return await _last(_through_socket(settings, operation, arguments), progress)
        except aiohttp.ClientConnectorError:
            # A socket that nobody serves is what a killed daemon leaves; the log's lock decides.
            pass
    return await _on_stores(settings, operation, arguments, progress)


async def _through_socket(
    settings: Settings, operation: str, arguments: Mapping[str, Any]
) -> AsyncIterator[Answer]:
    connector = aiohttp.UnixConnector(str(socket_path(settings.node.data)))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.post(f"http://node/{operation}", data=msgspec.json.encode(arguments)) as response,
    ):
        async for line in response.content:
            item = msgspec.json.decode(line)
            if "error" in item:
                raise _error(item["error"])
            yield item["answer"]


def _error(error: Mapping[str, str]) -> MailioError:
    kind = getattr(errors, error["kind"], None)
    simple = isinstance(kind, type) and issubclass(kind, MailioError) and "__init__" not in vars(kind)
    return kind(error["text"]) if simple and kind else DaemonFailure(error["text"])


async def _on_stores(
    settings: Settings, operation: str, arguments: Mapping[str, Any], progress: Progress
) -> Answer:
    core = Core(settings)
    await core.start()
    try:
        return await _last(OPERATIONS[operation](core, arguments), progress)
    finally:
        await core.close()


async def _last(answers: AsyncIterator[Answer], progress: Progress) -> Answer:
    last: Answer = {}
    first = True
    async for answer in answers:
        if not first:
            progress(last)
        first, last = False, answer
    return last
