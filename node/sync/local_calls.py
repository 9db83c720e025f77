"""`_local` documents: how far a replication came. They are no events, and are not replicated."""

from __future__ import annotations

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.incoming import LOCAL
from node.sync.json_text import Json, canonical
from node.sync.refusal import bad_request, conflict, illegal_docid, not_found, too_large
from projections.stores.local_documents import NONE

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _name(call: Call) -> str:
    if len(call.path) > 2:
        raise bad_request("_local documents do not accept attachments.")
    return checked_local(call, "".join(call.path[1:]))


def checked_local(call: Call, name: str) -> str:
    """Return a name, without `_local/`, that a local document may have."""
    if not name or "\0" in name or len(name) > call.limits.id_bytes:
        raise illegal_docid("a local document has an id of reasonable length")
    return name


async def get_local(call: Call) -> web.StreamResponse:
    """`GET /{db}/_local/{id}`."""
    found = await call.database.get_local(_name(call))
    if found is None:
        raise not_found("missing")
    return call.answer({"_id": LOCAL + _name(call), "_rev": found.rev, **_members(found.body)})


async def put_local(call: Call) -> web.StreamResponse:
    """`PUT /{db}/_local/{id}`."""
    name = _name(call)
    value = await call.json_object()
    if value.get("_id", LOCAL + name) != LOCAL + name:
        raise bad_request("Document ID must match the id in the path")
    rev = await write_local(call, name, value)
    return call.answer({"ok": True, "id": LOCAL + name, "rev": rev}, 201)


async def write_local(call: Call, name: str, value: dict[str, Json]) -> str:
    """Write or delete (`_deleted`) a local document; return its rev, `NONE` for none.

    Raises refusals, and Conflict when the rev in it is not that of the stored one.
    """
    if value.get("_deleted") is True:
        return await _delete(call, name, value.get("_rev"))
    body = canonical({member: each for member, each in value.items() if not member.startswith("_")})
    if len(body) > call.limits.local_bytes:
        raise too_large(f"a local document has {call.limits.local_bytes} bytes at most")
    stated = value.get("_rev", NONE)
    if not isinstance(stated, str):
        raise bad_request("Invalid rev format")
    return await call.database.put_local(name, body, stated)


async def delete_local(call: Call) -> web.StreamResponse:
    """`DELETE /{db}/_local/{id}`."""
    name = _name(call)
    rev = await _delete(call, name, call.query.text("rev") if "rev" in call.query else None)
    return call.answer({"ok": True, "id": LOCAL + name, "rev": rev})


async def _delete(call: Call, name: str, rev: Json) -> str:
    found = await call.database.get_local(name)
    if found is None:
        raise not_found("missing")
    if rev is not None and rev != found.rev:
        raise conflict()
    await call.database.delete_local(name, found.rev)
    return NONE
