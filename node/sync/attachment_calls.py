"""Attachments: one file of one document."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from node.sync.call import Call
from node.sync.document_calls import chosen, document_id, existing, stated_rev
from node.sync.incoming import (
    EMPTY,
    Incoming,
    SentAttachment,
    checked_content_type,
    checked_name,
    digest_of,
)
from node.sync.refusal import Refusal, conflict, not_found, too_large
from projections.view_store import Attachment, Document, Revision

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

SANDBOX = "sandbox; default-src 'none'"
"""Content-Security-Policy of attachments: what strangers mailed must not run as a page of this node."""


def attachment_name(call: Call) -> str:
    """The name that the path gives after the document's id; it may contain slashes."""
    return checked_name("/".join(call.path[2 if call.path[0] == "_design" else 1 :]), call.limits)


async def get_attachment(call: Call) -> web.StreamResponse:
    """`GET /{db}/{doc}/{attachment}`, whole or one range of bytes."""
    revision = await chosen(call, await existing(call, document_id(call)))
    file = _named(revision, attachment_name(call))
    if file is None:
        raise not_found("Document is missing attachment")
    etag = f'"{file.digest.removeprefix("md5-")}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-MD5": file.digest.removeprefix("md5-"),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": SANDBOX,
    }
    if call.request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={**call.headers, **headers})
    data = await call.blobs.read(file.blob)
    span = _span(call.request.headers.get("Range", ""), len(data))
    if span is None:
        return call.answer_bytes(data, file.content_type, headers)
    del headers["Content-MD5"]
    start, end = span
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    answer = call.answer_bytes(data[start:end], file.content_type, headers)
    answer.set_status(206)
    return answer


def _span(header: str, length: int) -> tuple[int, int] | None:
    """Read one range of bytes as (start, end); None for the whole (RFC 9110 section 14.2)."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(length - int(match[2]), 0), length
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else length, length)
    if start >= end:
        raise Refusal(416, "requested_range_not_satisfiable", "Requested range not satisfiable")
    return start, end


async def put_attachment(call: Call) -> web.StreamResponse:
    """`PUT /{db}/{doc}/{attachment}?rev=`."""
    name = attachment_name(call)
    data = await call.body()
    if len(data) > call.limits.attachment_bytes:
        raise too_large(f"an attachment has {call.limits.attachment_bytes} bytes at most")
    sent = SentAttachment(
        name=name,
        content_type=checked_content_type(call.request.headers.get("Content-Type")),
        data=data,
        digest=digest_of(data),
        revpos=0,
    )
    document = await call.database.get(document_id(call))
    return await _with_files(call, document, name, sent)


async def delete_attachment(call: Call) -> web.StreamResponse:
    """`DELETE /{db}/{doc}/{attachment}?rev=`."""
    document = await existing(call, document_id(call))
    name = attachment_name(call)
    if document.winner.deleted:
        raise not_found("deleted")
    answer = await _with_files(call, document, name, None)
    answer.set_status(200)
    return answer


async def _with_files(
    call: Call, document: Document | None, name: str, sent: SentAttachment | None
) -> web.Response:
    """Write the document again with one attachment put (`sent`) or left out."""
    rev = stated_rev(call)
    revision = await _current(call, document, rev)
    kept = [file for file in revision.attachments if file.name != name] if revision else []
    if revision and sent is None and len(kept) == len(revision.attachments):
        raise not_found("Document is missing attachment")
    files = [_as_stub(file) for file in kept] + ([sent] if sent else [])
    if sent and len(files) > call.limits.attachments_per_document:
        raise too_large(f"a document has {call.limits.attachments_per_document} attachments at most")
    written = await call.write_one(
        Incoming(
            id=document_id(call),
            rev=rev,
            path=(),
            deleted=False,
            members=_members(revision),
            body=revision.body if revision else EMPTY,
            attachments=tuple(files),
        )
    )
    return call.written(document_id(call), written)


async def _current(call: Call, document: Document | None, rev: str) -> Revision | None:
    """The leaf that is continued, None for a new document; raise `conflict` for anything else."""
    if document is None:
        if rev:
            raise conflict()
        return None
    if not rev:
        if not document.winner.deleted:
            raise conflict()
        return None
    revision = await call.database.leaf(document, rev)
    if revision is None:
        raise conflict()
    return revision


def _members(revision: Revision | None) -> dict[str, Any]:
    return msgspec.json.decode(revision.body, type=dict[str, Any]) if revision else {}


def _named(revision: Revision, name: str) -> Attachment | None:
    return next((file for file in revision.attachments if file.name == name), None)


def _as_stub(file: Attachment) -> SentAttachment:
    return SentAttachment(
        name=file.name,
        content_type=file.content_type,
        data=None,
        digest=file.digest,
        revpos=file.revpos,
    )
