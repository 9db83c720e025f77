"""The database as a whole: what it is, and what nobody may do to it through this door."""

from __future__ import annotations

from aiohttp import web

from node.sync.call import Call
from node.sync.changes import JAVASCRIPT
from node.sync.refusal import Refusal, forbidden
from projections.revision import REVS_LIMIT


async def get_database(call: Call) -> web.StreamResponse:
    """`GET /{db}`."""
    info = await call.database.info()
    return call.answer(
        {
            "db_name": call.database.name,
            "doc_count": info.doc_count,
            "doc_del_count": info.doc_del_count,
            "update_seq": call.database.numbering.sequence(info.update_seq),
            "purge_seq": 0,
            "compact_running": False,
            "sizes": {"file": info.used_bytes, "external": info.used_bytes, "active": info.used_bytes},
            "instance_start_time": "0",
            "disk_format_version": 8,
            "props": {},
        }
    )


async def put_database(call: Call) -> web.StreamResponse:
    """`PUT /{db}`: a user's database is there as soon as the user is."""
    raise Refusal(412, "file_exists", "The database could not be created, the file already exists.")


async def delete_database(call: Call) -> web.StreamResponse:
    """`DELETE /{db}`: an account is closed elsewhere."""
    raise forbidden("a user's database goes with the account")


async def get_security(call: Call) -> web.StreamResponse:
    """`GET /{db}/_security`: as CouchDB's `couch_peruser` sets it (wire spec section 6.3)."""
    mine = {"names": [call.address], "roles": []}
    return call.answer({"admins": mine, "members": mine})


async def get_revs_limit(call: Call) -> web.StreamResponse:
    """`GET /{db}/_revs_limit`."""
    return call.answer(REVS_LIMIT)


async def ensure_full_commit(call: Call) -> web.StreamResponse:
    """`POST /{db}/_ensure_full_commit`: every write is synced before it is answered."""
    await call.body()
    return call.answer({"ok": True, "instance_start_time": "0"}, 201)


async def compact(call: Call) -> web.StreamResponse:
    """`POST /{db}/_compact`: the store keeps no old revisions; what is remembered of them goes."""
    call.database.superseded.forget(call.database.name)
    return call.answer({"ok": True}, 202)


async def operators_only(call: Call) -> web.StreamResponse:
    """Maintenance and rights: the node's own affair."""
    raise forbidden(f"{call.path[0]} is the operator's affair")


async def no_javascript(call: Call) -> web.StreamResponse:
    """Functions of design documents: stored like any document, never run."""
    raise forbidden(JAVASCRIPT)
