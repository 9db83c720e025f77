"""Single documents: reading with all of CouchDB's options, writing, deleting."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from node.sync.call import Call
from node.sync.incoming import Incoming, checked_id, checked_rev, incoming
from node.sync.json_text import Json, parsed
from node.sync.multipart import Part, attachment_headers, boundary_of, joined, parts
from node.sync.refusal import bad_request, conflict, not_found
from node.sync.rendering import Shown, encoded, following, shown
from projections.revision import RevisionTree
from projections.view_store import Document, Revision

OpenRevision = tuple[str, Revision | None]
"""A revision asked for, and its content if it is stored."""


def document_id(call: Call) -> str:
    """The id that the path names."""
    parts_of_id = call.path[:2] if call.path[0] == "_design" else call.path[:1]
    return checked_id("/".join(parts_of_id), call.limits)


async def existing(call: Call, name: str) -> Document:
    """Return a document; raise `not_found` when it never was."""
    document = await call.database.get(name)
    if document is None:
        raise not_found("missing")
    return document


def latest_of(tree: RevisionTree, rev: str) -> tuple[str, ...]:
    """Leaves that descend from a revision (`latest=true`), best first; none for an unknown one."""
    if tree.is_leaf(rev):
        return (rev,)
    return tuple(leaf for leaf in tree.leaves() if rev in tree.ancestry(leaf)) if rev in tree else ()


async def get_document(call: Call) -> web.StreamResponse:
    """`GET /{db}/{doc}`."""
    if "open_revs" in call.query:
        return await _open_revisions(call)
    document = await existing(call, document_id(call))
    revision = await chosen(call, document)
    wanted = shown(call.query, call.limits.revisions)
    # As in CouchDB: a conflict is no new revision of the winner, so a revision can't mark such an answer.
    etag = {} if wanted.tells_more else {"ETag": f'"{revision.rev}"'}
    if etag and call.request.headers.get("If-None-Match") == etag["ETag"]:
        return web.Response(status=304, headers={**call.headers, **etag})
    if wanted.inlines and revision.attachments and _accepts(call, "multipart/related"):
        part = await document_part(call, document, revision, wanted)
        return call.answer_bytes(part.content, part.content_type, etag)
    return call.answer(await call.renderer.document(document, revision, wanted), headers=etag)


async def chosen(call: Call, document: Document) -> Revision:
    """The revision that `rev` (and `latest`) names, else the winner unless that is deleted."""
    if "rev" not in call.query:
        if document.winner.deleted:
            raise not_found("deleted")
        return document.winner
    rev = checked_rev(call.query.text("rev"))
    if call.query.flag("latest"):
        rev = next(iter(latest_of(document.tree, rev)), rev)
    revision = await call.database.leaf(document, rev)
    if revision is None:
        raise not_found("missing")
    return revision


def _accepts(call: Call, media_type: str) -> bool:
    """Whether the client asks for this very type: `*/*` means JSON, as in CouchDB."""
    accepted = call.request.headers.get("Accept", "")
    return media_type in {each.partition(";")[0].strip() for each in accepted.split(",")}


# Several revisions at once


async def _open_revisions(call: Call) -> web.StreamResponse:
    document = await call.database.get(document_id(call))
    asked = call.query.json("open_revs") if call.query.text("open_revs") != "all" else "all"
    wanted = shown(call.query, call.limits.revisions)
    if document is None:
        if asked == "all":
            raise not_found("missing")
        found: list[OpenRevision] = [(rev, None) for rev in _revs(asked, call)]
    else:
        found = await open_revisions(call, document, asked, latest=call.query.flag("latest"))
    if _accepts(call, "multipart/mixed"):
        content = [await _open_part(call, document, each, wanted) for each in found]
        boundary = secrets.token_hex(16)
        media_type = f'multipart/mixed; boundary="{boundary}"'
        return call.answer_bytes(joined(content, boundary), media_type, {})
    return call.answer([await _open_row(call, document, each, wanted) for each in found])


def _revs(asked: Json, call: Call) -> list[str]:
    if not isinstance(asked, list) or len(asked) > call.limits.revisions:
        raise bad_request("open_revs is `all` or an array of revisions")
    return [checked_rev(rev) for rev in asked]


async def open_revisions(call: Call, document: Document, asked: Json, *, latest: bool) -> list[OpenRevision]:
    """Leaves of a document: all of them, or those asked for (with `latest`: what they became)."""
    if asked == "all":
        revs: Sequence[str] = document.tree.leaves()
    else:
        revs = _revs(asked, call)
        if latest:
            revs = [leaf for rev in revs for leaf in latest_of(document.tree, rev) or (rev,)]
    return [(rev, await call.database.leaf(document, rev)) for rev in dict.fromkeys(revs)]


async def _open_row(
    call: Call, document: Document | None, found: OpenRevision, wanted: Shown
) -> dict[str, Any]:
    rev, revision = found
    if document is None or revision is None:
        return {"missing": rev}
    return {"ok": await call.renderer.document(document, revision, wanted)}


async def _open_part(call: Call, document: Document | None, found: OpenRevision, wanted: Shown) -> Part:
    rev, revision = found
    if document is None or revision is None:
        return Part('application/json; error="true"', encoded({"missing": rev}))
    return await document_part(call, document, revision, wanted)


async def document_part(call: Call, document: Document, revision: Revision, wanted: Shown) -> Part:
    """Write a revision as a part: JSON alone, or `multipart/related` with the bytes of its attachments."""
    files = following(document, revision, wanted)
    if not files:
        return Part("application/json", encoded(await call.renderer.document(document, revision, wanted)))
    wanted = Shown(**{**_options(wanted), "follows": True})
    boundary = secrets.token_hex(16)
    content = [Part("application/json", encoded(await call.renderer.document(document, revision, wanted)))]
    for file in files:
        data = await call.blobs.read(file.blob)
        content.append(Part(file.content_type, data, attachment_headers(file.name, len(data))))
    return Part(f'multipart/related; boundary="{boundary}"', joined(content, boundary))


def _options(wanted: Shown) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__struct_fields__}


# Writing


async def put_document(call: Call) -> web.StreamResponse:
    """`PUT /{db}/{doc}`: JSON, or multipart/related with the attachments that follow."""
    name = document_id(call)
    new_edits = call.query.flag("new_edits", default=True)
    document = await _sent(call, name)
    if not new_edits:
        return call.written(name, await call.write_one(document, new_edits=False))
    return call.written(name, await call.write_one(document))


async def _sent(call: Call, name: str) -> Incoming:
    following_data: dict[str, bytes] = {}
    if call.request.content_type == "multipart/related":
        value, following_data = _related(call, await call.body())
    else:
        value = await call.json()
    if not isinstance(value, dict):
        raise bad_request("Document must be a JSON object")
    if value.get("_id", name) != name:
        raise bad_request("Document ID must match the id in the path")
    rev = stated_rev(call, value.get("_rev"))
    if rev:
        value = {**value, "_rev": rev}
    return incoming(value, name, call.limits, following_data)


def stated_rev(call: Call, in_body: Json = None) -> str:
    """The parent revision by body, `rev` or If-Match, "" for none; raise when they differ."""
    stated = [
        in_body,
        call.query.text("rev") if "rev" in call.query else None,
        (call.request.headers.get("If-Match") or "").strip('"') or None,
    ]
    revs = {checked_rev(rev) for rev in stated if rev is not None}
    if len(revs) > 1:
        raise bad_request("Document rev from request body, query string and etag have different values")
    return revs.pop() if revs else ""


def _related(call: Call, body: bytes) -> tuple[Json, dict[str, bytes]]:
    """Read a document with following attachments, in the order in which the document names them."""
    head, *rest = parts(body, boundary_of(call.request.headers["Content-Type"]))
    value = parsed(head.content, call.limits.json_depth)
    entries = value.get("_attachments") if isinstance(value, dict) else None
    names = [
        name
        for name, entry in (entries.items() if isinstance(entries, dict) else ())
        if isinstance(entry, dict) and entry.get("follows") is True
    ]
    if len(names) != len(rest):
        raise bad_request("the parts do not match the attachments that follow")
    stated = [dict(part.headers).get("filename") for part in rest]
    if set(stated) == set(names):
        return value, {str(name): part.content for name, part in zip(stated, rest, strict=True)}
    return value, {name: part.content for name, part in zip(names, rest, strict=True)}


async def delete_document(call: Call) -> web.StreamResponse:
    """`DELETE /{db}/{doc}?rev=`."""
    name = document_id(call)
    document = await existing(call, name)
    rev = stated_rev(call)
    if document.winner.deleted and (not rev or document.tree.is_deleted(rev)):
        raise not_found("deleted")
    if not rev:
        raise conflict()
    deletion = incoming({"_deleted": True, "_rev": rev}, name, call.limits)
    written_rev = await call.write_one(deletion)
    return call.answer({"ok": True, "id": name, "rev": written_rev}, 200, {"ETag": f'"{written_rev}"'})


async def post_document(call: Call) -> web.StreamResponse:
    """`POST /{db}`: a document that names its own id, or gets one."""
    value = await call.json_object()
    name = checked_id(value.get("_id", secrets.token_hex(16)), call.limits)
    return call.written(name, await call.write_one(incoming(value, name, call.limits)))
