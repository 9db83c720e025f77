"""Many documents at once: `_bulk_docs`, `_bulk_get`, `_revs_diff`, `_missing_revs`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from events.errors import MailioError
from node.sync.call import Call
from node.sync.document_calls import OpenRevision, document_part, existing, open_revisions
from node.sync.incoming import LOCAL, Incoming, checked_id, checked_rev, incoming
from node.sync.intake import Outcome
from node.sync.json_text import Json
from node.sync.local_calls import checked_local, write_local
from node.sync.multipart import Part, end, piece
from node.sync.refusal import Refusal, bad_request, not_found, refusal_of, too_large
from node.sync.rendering import Shown, encoded, shown
from node.sync.turns import Turns
from projections.view_store import Document


async def bulk_docs(call: Call) -> web.StreamResponse:
    """`POST /{db}/_bulk_docs`: one row per document; without `new_edits` only those refused."""
    body = await call.json_object()
    documents = _list(body, "docs", call)
    new_edits = body.get("new_edits", True)
    if not isinstance(new_edits, bool):
        raise bad_request("new_edits is true or false")
    turns = Turns()
    read = []
    for document in documents:
        read.append(_read(document, call, new_edits))
        await turns.give()
    written = iter(
        await call.write([each for each in read if isinstance(each, Incoming)], new_edits=new_edits)
    )
    outcomes = [
        next(written)
        if isinstance(each, Incoming)
        else await _local(call, each)
        if isinstance(each, dict)
        else each
        for each in read
    ]
    rows = [outcome.row for outcome in outcomes if new_edits or outcome.refusal is not None]
    return call.answer(rows, 201)


def _list(body: dict[str, Json], name: str, call: Call) -> list[Json]:
    values = body.get(name)
    if not isinstance(values, list):
        raise bad_request(f"`{name}` must be an array.")
    if len(values) > call.limits.documents_per_request:
        raise too_large(f"{name} has {call.limits.documents_per_request} entries at most")
    return values


def _read(document: Json, call: Call, new_edits: bool) -> Incoming | Outcome | dict[str, Json]:
    """Take one document apart. A local one is left as it is; one that breaks a limit gets its own row.

    As in CouchDB, a document that can't be one refuses the whole request.
    """
    if not isinstance(document, dict):
        raise bad_request("Document must be a JSON object")
    name = document.get("_id", secrets.token_hex(16))
    if isinstance(name, str) and name.startswith(LOCAL):
        return document
    if not new_edits and "_rev" not in document and "_revisions" not in document:
        raise bad_request("a revision is required when new_edits is false")
    checked_id(name, call.limits)
    try:
        return incoming(document, name, call.limits)
    except Refusal as refusal:
        if refusal.error == "doc_validation":
            raise
        return Outcome(name, refusal=refusal)


async def _local(call: Call, document: dict[str, Json]) -> Outcome:
    name = document["_id"]
    try:
        return Outcome(name, await write_local(call, checked_local(call, name.removeprefix(LOCAL)), document))
    except MailioError as error:
        return Outcome(name, refusal=refusal_of(error))


async def bulk_get(call: Call) -> web.StreamResponse:
    """`POST /{db}/_bulk_get`: revisions of many documents, as JSON or multipart/mixed."""
    asked = _list(await call.json_object(), "docs", call)
    wanted = shown(call.query, call.limits.revisions)
    accepted = call.request.headers.get("Accept", "")
    if "multipart/mixed" in accepted or "multipart/related" in accepted:
        return await _bulk_get_parts(call, asked, wanted)
    return await _bulk_get_rows(call, asked, wanted)


async def _bulk_get_rows(call: Call, asked: list[Json], wanted: Shown) -> web.StreamResponse:
    response = await call.stream()
    await response.write(b'{"results":[')
    separator = b""
    for entry in asked:
        row = {"id": _text(entry, "id"), "docs": await _opened(call, entry, wanted)}
        await response.write(separator + encoded(row))
        separator = b",\n"
    await response.write(b"]}\n")
    await response.write_eof()
    return response


def _text(entry: Json, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


async def _opened(call: Call, entry: Json, wanted: Shown) -> list[dict[str, Any]]:
    name, rev = _text(entry, "id"), _text(entry, "rev")
    try:
        wanted = _since(entry, wanted, call)
        document, found = await _found(call, entry)
        rows = []
        for found_rev, revision in found:
            if revision is None:
                rows.append(_error(name, found_rev, not_found("missing")))
            else:
                rows.append({"ok": await call.renderer.document(document, revision, wanted)})
    except MailioError as error:
        return [_error(name, rev, refusal_of(error))]
    return rows


async def _found(call: Call, entry: Json) -> tuple[Document, list[OpenRevision]]:
    """Return the document that an entry names, and the revisions of it. Raises refusals."""
    name, rev = _text(entry, "id"), _text(entry, "rev")
    document = await existing(call, checked_id(name, call.limits))
    asked: Json = [rev] if rev else "all"
    return document, await open_revisions(call, document, asked, latest=call.query.flag("latest"))


def _since(entry: Json, wanted: Shown, call: Call) -> Shown:
    since = entry.get("atts_since") if isinstance(entry, dict) else None
    if since is None:
        return wanted
    if not isinstance(since, list) or len(since) > call.limits.revisions:
        raise bad_request("atts_since is an array of revisions")
    return msgspec.structs.replace(wanted, atts_since=tuple(checked_rev(rev) for rev in since))


def _error(name: str, rev: str, refusal: Refusal) -> dict[str, Any]:
    return {"error": {"id": name, "rev": rev or "undefined", **refusal.row}}


async def _bulk_get_parts(call: Call, asked: list[Json], wanted: Shown) -> web.StreamResponse:
    boundary = secrets.token_hex(16)
    response = await call.stream(f'multipart/mixed; boundary="{boundary}"')
    for entry in asked:
        async for part in _parts(call, entry, wanted):
            await response.write(piece(part, boundary))
    await response.write(end(boundary))
    await response.write_eof()
    return response


async def _parts(call: Call, entry: Json, wanted: Shown) -> AsyncIterator[Part]:
    name, rev = _text(entry, "id"), _text(entry, "rev")
    try:
        document, found = await _found(call, entry)
        wanted = _since(entry, wanted, call)
    except MailioError as error:
        yield _error_part(name, rev, refusal_of(error))
        return
    for each, revision in found:
        if revision is None:
            yield _error_part(name, each, not_found("missing"))
        else:
            yield await document_part(call, document, revision, wanted)


def _error_part(name: str, rev: str, refusal: Refusal) -> Part:
    return Part('application/json; error="true"', encoded(_error(name, rev, refusal)["error"]))


async def revs_diff(call: Call) -> web.StreamResponse:
    """`POST /{db}/_revs_diff`: which of these revisions are not known here."""
    answer = {}
    turns = Turns()
    for name, revs in (await _asked_revs(call)).items():
        absent = await call.database.missing(name, revs)
        await turns.give()
        if absent.missing:
            row = {"missing": absent.missing}
            if absent.possible_ancestors:
                row["possible_ancestors"] = absent.possible_ancestors
            answer[name] = row
    return call.answer(answer)


async def missing_revs(call: Call) -> web.StreamResponse:
    """`POST /{db}/_missing_revs`: the same question in CouchDB's older form."""
    found = {}
    turns = Turns()
    for name, revs in (await _asked_revs(call)).items():
        if absent := (await call.database.missing(name, revs)).missing:
            found[name] = absent
        await turns.give()
    return call.answer({"missing_revs": found})


async def _asked_revs(call: Call) -> dict[str, list[str]]:
    body = await call.json_object()
    if len(body) > call.limits.documents_per_request:
        raise too_large(f"{call.limits.documents_per_request} documents at most")
    asked = {}
    turns = Turns()
    for name, revs in body.items():
        if not isinstance(revs, list) or len(revs) > call.limits.revisions:
            raise bad_request("revisions come as an array")
        asked[name] = [checked_rev(rev) for rev in revs]
        await turns.give()
    return asked
