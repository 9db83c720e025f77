"""`_find`, `_explain`, `_index`: Mango over HTTP."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.find import FOLDER_INDEX, Finder, Found, Mango, Sort, mango, picked, plan, sort_of
from node.sync.incoming import DESIGN, incoming
from node.sync.json_text import Json, canonical
from node.sync.refusal import Refusal, bad_request, not_found
from node.sync.rendering import Shown
from node.sync.selector import field_path
from node.sync.turns import Turns
from projections.view_store import Document

_SPECIAL = {
    "ddoc": None,
    "name": "_all_docs",
    "type": "special",
    "def": {"fields": [{"_id": "asc"}]},
}
_FOLDERS = {
    "ddoc": DESIGN + FOLDER_INDEX,
    "name": FOLDER_INDEX,
    "type": "json",
    "partitioned": False,
    "def": {"fields": [{"folder": "desc"}, {"created": "desc"}]},
}
MAX_INDEXES = 100
"""Index definitions in one design document."""


async def find(call: Call) -> web.StreamResponse:
    """`POST /{db}/_find`."""
    query = mango(await call.json_object(), call.limits)
    found = await Finder(call.database, call.limits).find(query)
    answer: dict[str, Any] = {
        "docs": await _all_shown(call, found, query),
        "bookmark": found.bookmark,
    }
    if found.warnings:
        answer["warning"] = "\n".join(found.warnings)
    if query.stats:
        answer["execution_stats"] = {
            "total_keys_examined": found.examined,
            "total_docs_examined": found.examined,
            "results_returned": len(found.documents),
        }
    return call.answer(answer)


async def _all_shown(call: Call, found: Found, query: Mango) -> list[Any]:
    turns = Turns()
    paths = [field_path(name) for name in query.fields]
    documents = []
    for document, members in found.documents:
        whole = await call.renderer.document(document, document.winner, Shown(conflicts=query.conflicts))
        if paths:
            made: tuple[str, ...] = ("_conflicts", "_attachments")
            whole = picked({**members, **{name: whole[name] for name in made if name in whole}}, paths)
        documents.append(whole)
        await turns.give()
    return documents


async def explain(call: Call) -> web.StreamResponse:
    """`POST /{db}/_explain`: which index a query would use."""
    query = mango(await call.json_object(), call.limits)
    chosen = plan(query)
    return call.answer(
        {
            "dbname": call.database.name,
            "index": _SPECIAL if chosen.folder is None else _FOLDERS,
            "partitioned": False,
            "selector": query.selector.source,
            "opts": {"use_index": [query.use_index] if query.use_index else [], "sort": _sort(query.sort)},
            "limit": query.limit,
            "skip": query.skip,
            "fields": list(query.fields) or "all_fields",
        }
    )


def _sort(sort: Sort) -> dict[str, str]:
    return dict.fromkeys(sort.fields, "desc" if sort.descending else "asc")


async def get_indexes(call: Call) -> web.StreamResponse:
    """`GET /{db}/_index`."""
    indexes = [_SPECIAL, _FOLDERS]
    async for document in call.database.in_range(DESIGN, DESIGN + "\U0010ffff", bodies=True):
        indexes += [entry for entry in _entries(document) if entry["ddoc"] != _FOLDERS["ddoc"]]
    return call.answer({"total_rows": len(indexes), "indexes": indexes})


def _entries(document: Document) -> list[dict[str, Any]]:
    body = msgspec.json.decode(document.winner.body, type=dict[str, Any])
    views = body.get("views")
    if body.get("language") != "query" or not isinstance(views, dict):
        return []
    entries = []
    for name, view in views.items():
        match view:
            case {"options": {"def": dict(definition)}}:
                entries.append(
                    {
                        "ddoc": document.id,
                        "name": name,
                        "type": "json",
                        "partitioned": False,
                        "def": definition,
                    }
                )
    return entries


async def post_index(call: Call) -> web.StreamResponse:
    """`POST /{db}/_index`: keep a definition, as CouchDB does, in a design document.

    Queries do not get faster by it: what they may look at is bounded anyway.
    """
    body = await call.json_object()
    fields = _fields(body)
    definition: dict[str, Json] = {"fields": fields}
    digest = hashlib.sha256(canonical(definition)).hexdigest()[:40]
    ddoc = body.get("ddoc", digest)
    name = body.get("name", digest)
    if not isinstance(ddoc, str) or not isinstance(name, str) or not ddoc or not name:
        raise Refusal(400, "invalid_index_name", "ddoc and name are texts")
    document_id = DESIGN + ddoc.removeprefix(DESIGN)
    if document_id == _FOLDERS["ddoc"] or fields == _FOLDERS["def"]:
        return call.answer({"result": "exists", "id": _FOLDERS["ddoc"], "name": FOLDER_INDEX})
    result = await _keep(call, document_id, name, definition)
    return call.answer({"result": result, "id": document_id, "name": name})


def _fields(body: dict[str, Json]) -> list[dict[str, str]]:
    index = body.get("index")
    if body.get("type", "json") != "json" or not isinstance(index, dict):
        raise bad_request("an index has type json, and index with fields")
    fields = index.get("fields")
    if not isinstance(fields, list) or not 0 < len(fields) <= 20:
        raise bad_request("an index has 1 to 20 fields")
    sort = sort_of(fields)
    return [{name: "desc" if sort.descending else "asc"} for name in sort.fields]


async def _keep(call: Call, document_id: str, name: str, definition: dict[str, Json]) -> str:
    stored = await call.database.get(document_id)
    body: dict[str, Any] = {"language": "query", "views": {}}
    rev = ""
    if stored is not None and not stored.winner.deleted:
        body = msgspec.json.decode(stored.winner.body, type=dict[str, Any])
        rev = stored.winner.rev
        if body.get("language") != "query" or not isinstance(body.get("views"), dict):
            raise bad_request("this design document is no index")
        if any(entry["name"] == name and entry["def"] == definition for entry in _entries(stored)):
            return "exists"
    if len(body["views"]) >= MAX_INDEXES:
        raise bad_request(f"{MAX_INDEXES} indexes at most")
    view = {"map": {"fields": {}}, "reduce": "_count", "options": {"def": definition}}
    view["map"] = {"fields": {key: way for field in definition["fields"] for key, way in field.items()}}
    changed = {**body, "views": {**body["views"], name: view}, **({"_rev": rev} if rev else {})}
    await call.write_one(incoming(changed, document_id, call.limits))
    return "created"


async def delete_index(call: Call) -> web.StreamResponse:
    """`DELETE /{db}/_index/{ddoc}/json/{name}`."""
    *ddoc, kind, name = call.path[1:] if len(call.path) > 3 else ("", "", "")
    document_id = DESIGN + "/".join(ddoc).removeprefix(DESIGN)
    stored = await call.database.get(document_id)
    if kind != "json" or stored is None or stored.winner.deleted:
        raise not_found("no such index")
    if not any(entry["name"] == name for entry in _entries(stored)):
        raise not_found("no such index")
    body = msgspec.json.decode(stored.winner.body, type=dict[str, Any])
    del body["views"][name]
    changed = {**body, "_rev": stored.winner.rev, **({} if body["views"] else {"_deleted": True})}
    await call.write_one(incoming(changed, document_id, call.limits))
    return call.answer({"ok": True})
