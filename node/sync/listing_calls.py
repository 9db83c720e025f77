"""`_all_docs`: documents in the order of their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.json_text import Json
from node.sync.query import Query
from node.sync.refusal import query_parse_error
from node.sync.rendering import Shown, encoded, shown
from projections.view_store import Document

_FIRST, _LAST = None, "\U0010ffff"
"""Ids sort after null, booleans and numbers, and before arrays and objects."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the rows are wanted; `limit` None: all."""

    skip: int
    limit: int | None

    def of(self, keys: list[str]) -> list[str]:
        """Return the part of a list."""
        return keys[self.skip :] if self.limit is None else keys[self.skip : self.skip + self.limit]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which ids a client asked for. `empty` when no id can lie in it."""

    startkey: str | None = None
    endkey: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    empty: bool = False


async def get_all_docs(call: Call) -> web.StreamResponse:
    """`GET /{db}/_all_docs`."""
    return await _all_docs(call, call.query)


async def post_all_docs(call: Call) -> web.StreamResponse:
    """`POST /{db}/_all_docs` with `keys` or any of the parameters."""
    return await _all_docs(call, call.query.over(await call.json_object()))


async def _all_docs(call: Call, query: Query) -> web.StreamResponse:
    total = (await call.database.info()).doc_count
    documents = shown(query, call.limits.revisions) if query.flag("include_docs") else None
    # All is read before the answer begins: a refusal behind its head would be a broken connection.
    page = Page(skip=query.number("skip") or 0, limit=query.number("limit"))
    keys = _keys(query, call.limits.documents_per_request)
    if keys is not None:
        rows, offset = _by_keys(call, keys, page, documents), 0
    else:
        asked = _range(query)
        offset = await call.database.count_before(asked.startkey, descending=asked.descending) + page.skip
        rows = _in_range(call, asked, page, documents)
    head: dict[str, Any] = {"total_rows": total, "offset": min(offset, total)}
    if query.flag("update_seq"):
        head["update_seq"] = call.database.numbering.sequence(await call.database.update_seq())
    return await _streamed(call, encoded(head)[:-1] + b',"rows":[\n', rows)


async def _streamed(call: Call, head: bytes, rows: AsyncIterator[bytes]) -> web.StreamResponse:
    response = await call.stream()
    buffer = bytearray(head)
    separator = b""
    async for row in rows:
        buffer += separator + row
        separator = b",\n"
        if len(buffer) > 65_536:
            await response.write(bytes(buffer))
            buffer.clear()
    await response.write(bytes(buffer) + b"\n]}\n")
    await response.write_eof()
    return response


def _range(query: Query) -> Range:
    descending = query.flag("descending")
    exact = query.json("key")
    start, end = query.json("startkey", "start_key"), query.json("endkey", "end_key")
    if "key" in query:
        start = end = exact
    startkey, start_out = _bound(start, "startkey" in query or "start_key" in query or "key" in query)
    endkey, end_out = _bound(end, "endkey" in query or "end_key" in query or "key" in query)
    # A bound of another type lies before or behind all ids; the range is empty if it shuts them out.
    empty = (start_out > 0) != descending if start_out else False
    empty = empty or ((end_out < 0) != descending if end_out else False)
    return Range(
        startkey=startkey,
        endkey=endkey,
        inclusive_end=query.flag("inclusive_end", default=True),
        descending=descending,
        empty=empty,
    )


def _bound(value: Json, given: bool) -> tuple[str | None, int]:
    if not given:
        return None, 0
    if isinstance(value, str):
        return value, 0
    return None, 1 if isinstance(value, list | dict) else -1


async def _in_range(call: Call, asked: Range, page: Page, documents: Shown | None) -> AsyncIterator[bytes]:
    if asked.empty or page.limit == 0:
        return
    place = 0
    async for document in call.database.in_range(
        asked.startkey,
        asked.endkey,
        inclusive_end=asked.inclusive_end,
        descending=asked.descending,
        bodies=documents is not None,
    ):
        place += 1
        if place <= page.skip:
            continue
        yield encoded(await _row(call, document, documents))
        if page.limit is not None and place >= page.skip + page.limit:
            return


def _keys(query: Query, most: int) -> list[str] | None:
    """Read `keys` in the order in which their rows come, None where a range is asked for."""
    keys = query.texts("keys", most)
    if keys is None:
        return None
    for name in ("startkey", "endkey", "start_key", "end_key", "key"):
        if name in query:
            raise query_parse_error(f"`keys` is incompatible with `{name}`")
    return keys[::-1] if query.flag("descending") else keys


async def _by_keys(call: Call, keys: list[str], page: Page, documents: Shown | None) -> AsyncIterator[bytes]:
    wanted = page.of(keys)
    found = await call.database.by_ids(wanted)
    for key, document in zip(wanted, found, strict=True):
        if document is None:
            yield encoded({"key": key, "error": "not_found"})
            continue
        whole = await call.database.get(key) if documents is not None else document
        yield encoded(await _row(call, whole or document, documents))


async def _row(call: Call, document: Document, documents: Shown | None) -> dict[str, Any]:
    value: dict[str, Any] = {"rev": document.winner.rev}
    row: dict[str, Any] = {"id": document.id, "key": document.id, "value": value}
    if document.winner.deleted:
        value["deleted"] = True
        if documents is not None:
            row["doc"] = None
    elif documents is not None:
        row["doc"] = await call.renderer.document(document, document.winner, documents)
    return row
