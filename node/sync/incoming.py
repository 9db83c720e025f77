"""What a client sends as a document, taken apart and checked: special members, attachments, revision path."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from events.errors import MailioError
from node.sync.json_text import Json, canonical
from node.sync.limits import SyncLimits
from node.sync.refusal import Refusal, bad_request, doc_validation, illegal_docid, too_large
from projections.revision import parse

_SPECIAL = frozenset(
    {
        "_id", "_rev", "_deleted", "_attachments", "_revisions", "_revs_info", "_conflicts",
        "_deleted_conflicts", "_local_seq",
    }
)  # fmt: skip
"""Members with a meaning in CouchDB. Others that begin with an underscore are refused, as there."""

_KEPT = frozenset(
    {
        "_replication_id", "_replication_state", "_replication_state_reason", "_replication_state_time",
        "_replication_stats",
    }
)  # fmt: skip
"""Members that CouchDB's replicator writes into documents: kept like any other."""

DESIGN = "_design/"
LOCAL = "_local/"
EMPTY = b"{}"


class SentAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment as sent: with its bytes, or (`data` None) naming a stored one of the same document."""

    name: str
    content_type: str
    data: bytes | None
    digest: str
    revpos: int


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A document as sent. `path` is newest first and empty when the client names no history."""

    id: str
    rev: str
    path: tuple[str, ...]
    deleted: bool
    members: dict[str, Json]
    body: bytes
    attachments: tuple[SentAttachment, ...]


def checked_id(document_id: Json, limits: SyncLimits) -> str:
    """Return an id that a replicated document may have; raise `illegal_docid` for any other."""
    if not isinstance(document_id, str):
        raise illegal_docid("Document id must be a string")
    if not document_id:
        raise illegal_docid("Document id must not be empty")
    try:
        length = len(document_id.encode())
    except UnicodeEncodeError:
        raise illegal_docid("Document id must be Unicode text") from None
    if length > limits.id_bytes:
        raise illegal_docid("Document id is too long")
    if "\0" in document_id:
        raise illegal_docid("Document id must not contain NUL")
    if document_id.startswith("_") and not document_id.startswith(DESIGN):
        raise illegal_docid("Only reserved document ids may start with underscore.")
    return document_id


def incoming(
    document: Json, document_id: str, limits: SyncLimits, following: Mapping[str, bytes] | None = None
) -> Incoming:
    """Take a document apart; `following` holds the bytes of attachments sent beside it, by name.

    Raises refusals.
    """
    if not isinstance(document, dict):
        raise bad_request("Document must be a JSON object")
    reserved = (name for name in document if name.startswith("_") and name not in _KEPT)
    unknown = next((name for name in reserved if name not in _SPECIAL), None)
    if unknown is not None:
        raise doc_validation(f"Bad special document member: {unknown[:100]}")
    members = {name: value for name, value in document.items() if name not in _SPECIAL}
    body = canonical(members)
    if len(body) > limits.document_bytes:
        raise Refusal(413, "document_too_large", f"a document has {limits.document_bytes} bytes at most")
    rev = _rev(document.get("_rev"))
    return Incoming(
        id=document_id,
        rev=rev,
        path=_path(document.get("_revisions"), rev, limits),
        deleted=_deleted(document),
        members=members,
        body=body,
        attachments=_attachments(document.get("_attachments"), following or {}, limits),
    )


def _deleted(document: Mapping[str, Json]) -> bool:
    deleted = document.get("_deleted", False)
    if not isinstance(deleted, bool):
        raise doc_validation("_deleted must be a boolean")
    return deleted


def _rev(rev: Json) -> str:
    return "" if rev is None else checked_rev(rev)


def checked_rev(rev: Json) -> str:
    """Return a well-formed revision; raise a refusal for anything else."""
    if not isinstance(rev, str):
        raise bad_request("Invalid rev format")
    try:
        parse(rev)
    except MailioError:
        raise bad_request("Invalid rev format") from None
    return rev


def _path(revisions: Json, rev: str, limits: SyncLimits) -> tuple[str, ...]:
    match revisions:
        case None:
            return ()
        case {"start": int(start), "ids": list(ids)} if ids and all(isinstance(each, str) for each in ids):
            pass
        case _:
            raise doc_validation("_revisions must have start and ids")
    if len(ids) > limits.revisions:
        ids = ids[: limits.revisions]
    if start < len(ids):
        raise doc_validation("RevId count must match start")
    path = tuple(checked_rev(f"{start - below}-{each}") for below, each in enumerate(ids))
    if not rev or path[0] == rev:
        return path
    if start == parse(rev)[0] - 1:
        # PouchDB sends the parent's history when parent and child have the same hash.
        return (rev, *path)
    raise doc_validation("_rev and _revisions contradict each other")


def _attachments(
    entries: Json, following: Mapping[str, bytes], limits: SyncLimits
) -> tuple[SentAttachment, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, dict):
        raise bad_request("Attachments property must be an object")
    if len(entries) > limits.attachments_per_document:
        raise too_large(f"a document has {limits.attachments_per_document} attachments at most")
    return tuple(_attachment(name, entry, following, limits) for name, entry in entries.items())


def checked_name(name: str, limits: SyncLimits) -> str:
    """Return a name that an attachment may have."""
    if name.startswith("_"):
        raise bad_request(f"Attachment name '{name[:100]}' starts with prohibited underscore '_'")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise bad_request("Attachment name is not UTF-8 encoded") from None
    if not name or "\0" in name or length > limits.id_bytes:
        raise bad_request("Attachment name is empty, too long or contains NUL")
    return name


def _attachment(name: str, entry: Json, following: Mapping[str, bytes], limits: SyncLimits) -> SentAttachment:
    checked_name(name, limits)
    if not isinstance(entry, dict):
        raise bad_request("Attachment must be an object")
    data = _data(name, entry, following)
    if data is not None and len(data) > limits.attachment_bytes:
        raise too_large(f"an attachment has {limits.attachment_bytes} bytes at most")
    revpos = entry.get("revpos", 0)
    return SentAttachment(
        name=name,
        content_type=checked_content_type(entry.get("content_type")),
        data=data,
        digest=str(entry.get("digest", "")) if data is None else digest_of(data),
        revpos=revpos if type(revpos) is int else 0,
    )


def checked_content_type(value: Json) -> str:
    """Return a media type that may stand in a header; raise a refusal for control characters."""
    if value is None:
        return "application/octet-stream"
    if not isinstance(value, str) or len(value) > 255 or not (value.isascii() and value.isprintable()):
        raise bad_request("Attachment content_type is not a media type")
    return value


def _data(name: str, entry: Mapping[str, Any], following: Mapping[str, bytes]) -> bytes | None:
    if entry.get("stub") is True:
        return None
    if entry.get("follows") is True:
        if name not in following:
            raise bad_request(f"the bytes of attachment {name[:100]} did not follow")
        return following[name]
    data = entry.get("data")
    if not isinstance(data, str):
        raise bad_request("Attachment has no data")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("Invalid attachment data: base64 expected") from None


def digest_of(data: bytes) -> str:
    """`md5-<base64>`, CouchDB's name for the content of an attachment. Not used for security."""
    return "md5-" + base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
