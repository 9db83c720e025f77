"""`_changes`: the four ways to deliver the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.changes import JAVASCRIPT, Changes, Row, wanted
from node.sync.feeds import Beat, pace
from node.sync.incoming import DESIGN
from node.sync.json_text import Json
from node.sync.refusal import bad_request, forbidden, not_found

Follow = AsyncIterator[Row | Beat]
"""What a live feed sends."""

CHUNK = 65_536
"""Bytes of rows collected before they are sent."""


async def get_changes(call: Call) -> web.StreamResponse:
    """`GET /{db}/_changes`."""
    return await _changes(call, {})


async def post_changes(call: Call) -> web.StreamResponse:
    """`POST /{db}/_changes` with `doc_ids` or `selector`."""
    return await _changes(call, await call.json_object())


async def _changes(call: Call, body: dict[str, Json]) -> web.StreamResponse:
    feed = call.query.text("feed", "normal")
    since = call.request.headers.get("Last-Event-ID") if feed == "eventsource" else None
    query = call.query if since is None else call.query.over({"since": since})
    await _require_no_javascript(call)
    database = call.database
    asked = wanted(query, body, await database.update_seq(), call.limits, database.numbering)
    changes = Changes(call.database, call.renderer, asked)
    match feed:
        case "normal":
            return await _normal(call, changes)
        case "longpoll" | "continuous" | "eventsource":
            speed = pace(call.query, call.limits)
            with call.feeds.place(call.address):
                follow = call.feeds.follow(
                    call.request, call.database, changes, speed, once=feed == "longpoll"
                )
                return await _LIVE[feed](call, changes, follow)
        case _:
            raise bad_request("feed is normal, longpoll, continuous or eventsource")


async def _require_no_javascript(call: Call) -> None:
    """Refuse filters of design documents: 404 if it isn't there, 403 if it would have to run."""
    name = call.query.text("filter", "")
    section = "views" if name == "_view" else "filters"
    if name == "_view" and "view" not in call.query:
        raise bad_request("`view` filter parameter is not provided.")
    design, _, function = (call.query.text("view", "") if name == "_view" else name).partition("/")
    if not function:
        return
    document = await call.database.get(DESIGN + design)
    if document is None or document.winner.deleted:
        raise not_found("missing")
    functions = msgspec.json.decode(document.winner.body, type=dict[str, Json]).get(section)
    if not isinstance(functions, dict):
        raise not_found(f"missing json key: {section}")
    known = functions.get(function)
    if known is None or (section == "views" and not (isinstance(known, dict) and "map" in known)):
        raise not_found(f"missing json key: {function[:100]}")
    raise forbidden(JAVASCRIPT)


async def _normal(call: Call, changes: Changes) -> web.StreamResponse:
    # The answer begins when there is something to send: a filter may have to be refused before that.
    response = await call.stream() if call.request.method == "HEAD" else None
    buffer = bytearray(b'{"results":[\n')
    separator = b""
    async for row in changes.rows():
        buffer += separator + row.json
        separator = b",\n"
        if len(buffer) > CHUNK:
            response = response or await call.stream()
            await response.write(bytes(buffer))
            buffer.clear()
    response = response or await call.stream()
    await response.write(bytes(buffer) + await _end(call, changes))
    await response.write_eof()
    return response


async def _end(call: Call, changes: Changes) -> bytes:
    pending = await call.database.pending(changes.seen) if changes.left == 0 else 0
    return b'\n],\n"last_seq":%d,"pending":%d}\n' % (changes.last_seq, pending)


async def _longpoll(call: Call, changes: Changes, follow: Follow) -> web.StreamResponse:
    response = await call.stream()
    # The first line goes out at once: proxies and clients see that the request was taken.
    await response.write(b'{"results":[\n')
    separator = b""
    async for each in follow:
        if isinstance(each, Beat):
            await response.write(b"\n")
            continue
        await response.write(separator + each.json)
        separator = b",\n"
    await response.write(await _end(call, changes))
    await response.write_eof()
    return response


async def _continuous(call: Call, changes: Changes, follow: Follow) -> web.StreamResponse:
    response = await call.stream()
    async for each in follow:
        await response.write(b"\n" if isinstance(each, Beat) else each.json + b"\n")
    pending = await call.database.pending(changes.seen) if changes.left == 0 else 0
    await response.write(b'{"last_seq":%d,"pending":%d}\n' % (changes.last_seq, pending))
    await response.write_eof()
    return response


async def _eventsource(call: Call, changes: Changes, follow: Follow) -> web.StreamResponse:
    response = await call.stream("text/event-stream")
    async for each in follow:
        if isinstance(each, Beat):
            await response.write(b"event: heartbeat\ndata: \n\n")
        else:
            await response.write(b"data: %s\nid: %d\n\n" % (each.json, each.seq))
    await response.write_eof()
    return response


_LIVE = {"longpoll": _longpoll, "continuous": _continuous, "eventsource": _eventsource}
