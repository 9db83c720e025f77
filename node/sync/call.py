"""One request to the sync door after authentication, and the ways to answer it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from node.sync.database import Database
from node.sync.feeds import Feeds
from node.sync.incoming import Incoming
from node.sync.inflating import encoding_of, inflated
from node.sync.intake import ClientWrites, Outcome
from node.sync.json_text import Json, parsed
from node.sync.limits import SyncLimits
from node.sync.ports import Blobs
from node.sync.query import Query
from node.sync.refusal import Refusal, bad_request, too_large
from node.sync.rendering import Renderer, encoded

DEVICE_LENGTH = 160
"""Characters kept of a client's address and User-Agent: an address and the name of a browser."""


def peer_of(request: web.Request) -> str:
    """Name the client of a request by the address of its socket."""
    return request.remote or ""


class HeadAnswered(Exception):
    """A HEAD request has its whole answer (RFC 9110 section 9.3.2): more would be taken for the next one."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What all calls of the door share. `client_of` names the client of a request."""

    blobs: Blobs
    writes: ClientWrites
    feeds: Feeds
    limits: SyncLimits
    client_of: Callable[[web.Request], str] = peer_of


class Call:
    """A request of one user to their own database. `path` holds the decoded segments after its name."""

    def __init__(
        self,
        request: web.Request,
        address: str,
        path: tuple[str, ...],
        *,
        database: Database,
        room: Room,
        headers: Mapping[str, str],
    ) -> None:
        self.request = request
        self.address = address
        self.path = path
        self.database = database
        self.blobs = room.blobs
        self.feeds = room.feeds
        self.limits = room.limits
        self.headers = {"Cache-Control": "must-revalidate", **headers}
        self.streaming: web.StreamResponse | None = None
        self.query = Query(request.query)
        self.renderer = Renderer(database, room.blobs)
        self._writes = room.writes
        self._client_of = room.client_of

    # Reading

    async def body(self) -> bytes:
        """Read the body, decompressed, up to the limit and the ratio. Raises `too_large`."""
        return await read_body(self.request, self.limits)

    async def json(self) -> Json:
        """Read a JSON body; an empty one is an empty object. Raises refusals."""
        named = "Content-Type" in self.request.headers and self.request.can_read_body
        if named and self.request.content_type not in {"application/json", "text/json"}:
            raise Refusal(415, "bad_content_type", "Content-Type must be application/json")
        body = await self.body()
        return parsed(body, self.limits.json_depth) if body else {}

    async def json_object(self) -> dict[str, Json]:
        """Read a JSON body that must be an object."""
        value = await self.json()
        if not isinstance(value, dict):
            raise bad_request("Request body must be a JSON object")
        return value

    # Writing

    async def write(self, documents: list[Incoming], *, new_edits: bool = True) -> list[Outcome]:
        """Write documents as this user."""
        return await self._writes.write(
            self.address, self.database, documents, new_edits=new_edits, device=self._device()
        )

    def _device(self) -> str:
        """Say who writes, for the log: the client's address and what it calls itself."""
        agent = self.request.headers.get("User-Agent", "")
        told = f"{self._client_of(self.request)} {agent}"
        return "".join(char for char in told if char.isprintable())[:DEVICE_LENGTH].strip()

    async def write_one(self, document: Incoming, *, new_edits: bool = True) -> str:
        """Write one document; return its revision, raise its refusal."""
        (outcome,) = await self.write([document], new_edits=new_edits)
        if outcome.refusal is not None:
            raise outcome.refusal
        return outcome.rev

    # Answering

    def answer(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        """Answer with JSON."""
        return json_answer(value, status, {**self.headers, **(headers or {})})

    def answer_bytes(self, body: bytes, content_type: str, headers: Mapping[str, str]) -> web.Response:
        """Answer with anything else."""
        return web.Response(body=body, headers={**self.headers, **headers, "Content-Type": content_type})

    def written(self, document_id: str, rev: str) -> web.Response:
        """Answer that a revision was written."""
        return self.answer({"ok": True, "id": document_id, "rev": rev}, 201, {"ETag": f'"{rev}"'})

    async def stream(self, content_type: str = "application/json") -> web.StreamResponse:
        """Begin an answer of unknown length. Raises HeadAnswered when the request wants only its head."""
        response = web.StreamResponse(headers={**self.headers, "Content-Type": content_type})
        await response.prepare(self.request)
        self.streaming = response
        if self.request.method == "HEAD":
            await response.write_eof()
            raise HeadAnswered
        return response


def json_answer(value: Any, status: int, headers: Mapping[str, str]) -> web.Response:
    """Build a JSON answer as CouchDB does, with a line feed at the end."""
    return web.Response(
        body=encoded(value) + b"\n",
        status=status,
        headers={**headers, "Content-Type": "application/json", "X-Content-Type-Options": "nosniff"},
    )


async def read_body(request: web.Request, limits: SyncLimits) -> bytes:
    """Read a body while counting it: bombs end at the limit or the ratio, not in memory."""
    limit = limits.body_bytes
    if (request.content_length or 0) > limit:
        raise too_large(f"a request has {limit} bytes at most")
    encoding = encoding_of(request.headers.get("Content-Encoding", ""))
    arriving = _counted(request, limit)
    if encoding:
        return await inflated(arriving, encoding, ratio=limits.inflate_ratio, limit=limit)
    body = bytearray()
    async for chunk in arriving:
        body += chunk
    return bytes(body)


async def _counted(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """Give the body as it comes. Raises `too_large`, and `bad_request` when it breaks its own form."""
    received = 0
    try:
        async for chunk in request.content.iter_any():
            received += len(chunk)
            if received > limit:
                raise too_large(f"a request has {limit} bytes at most")
            yield chunk
    except web.RequestPayloadError as error:
        raise bad_request("the body is not what its headers say", str(error)) from None
