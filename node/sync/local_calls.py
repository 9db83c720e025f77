"""`_local` documents: how far a replication came. They are no events, and are not replicated."""

from __future__ import annotations

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.incoming import LOCAL
from node.sync.json_text import canonical
from node.sync.refusal import bad_request, conflict, illegal_docid, not_found, too_large
from projections.stores.local_documents import LocalDocument

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _name(call: Call) -> str:
    name = "/".join(call.path[1:])
    if not name or "\0" in name or len(name) > call.limits.id_bytes:
        raise illegal_docid("a local document has an id of reasonable length")
    return name


async def _stored(call: Call) -> LocalDocument:
    found = await call.database.get_local(_name(call))
    if found is None:
        raise not_found("missing")
    return found


async def get_local(call: Call) -> web.StreamResponse:
    """`GET /{db}/_local/{id}`."""
    found = await _stored(call)
    return call.answer({"_id": LOCAL + _name(call), "_rev": found.rev, **_members(found.body)})


async def put_local(call: Call) -> web.StreamResponse:
    """`PUT /{db}/_local/{id}`."""
    value = await call.json_object()
    if value.get("_id", LOCAL + _name(call)) != LOCAL + _name(call):
        raise bad_request("Document ID must match the id in the path")
    if value.get("_deleted") is True:
        return await _deleted(call, value.get("_rev"))
    body = canonical({name: each for name, each in value.items() if not name.startswith("_")})
    if len(body) > call.limits.local_bytes:
        raise too_large(f"a local document has {call.limits.local_bytes} bytes at most")
    rev = await call.database.put_local(_name(call), body, await _expected(call, value.get("_rev")))
    return call.answer({"ok": True, "id": LOCAL + _name(call), "rev": rev}, 201)


async def _expected(call: Call, stated: object) -> str | None:
    """The revision that the stored document must have, None when there must be none."""
    found = await call.database.get_local(_name(call))
    if stated is None:
        if found is not None:
            raise conflict()
        return None
    if not isinstance(stated, str):
        raise bad_request("Invalid rev format")
    if found is None and stated == "0-0":
        return None
    return stated


async def delete_local(call: Call) -> web.StreamResponse:
    """`DELETE /{db}/_local/{id}`."""
    return await _deleted(call, call.query.text("rev") if "rev" in call.query else None)


async def _deleted(call: Call, rev: object) -> web.StreamResponse:
    found = await _stored(call)
    if rev is not None and rev != found.rev:
        raise conflict()
    await call.database.delete_local(_name(call), found.rev)
    return call.answer({"ok": True, "id": LOCAL + _name(call), "rev": "0-0"})
