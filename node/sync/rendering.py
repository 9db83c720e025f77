"""Documents as CouchDB shows them: `_id`, `_rev`, `_attachments`, and what else was asked for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from node.sync.database import Database
from node.sync.json_text import Json
from node.sync.ports import Blobs
from node.sync.query import Query
from projections.revision import RevisionTree, order, parse
from projections.view_store import Attachment, Document, Revision

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Which extras of a document a client asked for; names as in CouchDB."""

    revs: bool = False
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    attachments: bool = False
    atts_since: tuple[str, ...] | None = None
    follows: bool = False

    @property
    def tells_more(self) -> bool:
        """Whether the answer says what may change while the revision stays the same."""
        return self.revs_info or self.conflicts or self.deleted_conflicts or self.local_seq

    @property
    def inlines(self) -> bool:
        """Whether the bytes of attachments are part of the answer."""
        return self.attachments or self.atts_since is not None


def shown(query: Query, limit: int) -> Shown:
    """Read the parameters of a document request; `limit` bounds `atts_since`."""
    meta = query.flag("meta")
    since = query.texts("atts_since", limit)
    return Shown(
        revs=query.flag("revs"),
        revs_info=query.flag("revs_info") or meta,
        conflicts=query.flag("conflicts") or meta,
        deleted_conflicts=query.flag("deleted_conflicts") or meta,
        local_seq=query.flag("local_seq"),
        attachments=query.flag("attachments"),
        atts_since=None if since is None else tuple(since),
    )


class Renderer:
    """Makes JSON of stored revisions. Bodies are taken over as stored: their numbers keep their form."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def document(self, document: Document, revision: Revision, wanted: Shown) -> dict[str, Any]:
        """Show one revision of a document as a JSON-ready dict (values may be raw JSON)."""
        head: dict[str, Any] = {"_id": document.id, "_rev": revision.rev}
        if revision.deleted:
            head["_deleted"] = True
        tail: dict[str, Any] = {}
        if revision.attachments:
            tail["_attachments"] = await self._attachments(document, revision, wanted)
        self._add_history(tail, document, revision.rev, wanted)
        return {**head, **_members(revision.body), **tail}

    async def _attachments(self, document: Document, revision: Revision, wanted: Shown) -> dict[str, Json]:
        horizon = _horizon(document.tree, revision.rev, wanted)
        entries = {}
        for file in revision.attachments:
            entry: dict[str, Json] = {
                "content_type": file.content_type,
                "revpos": file.revpos,
                "digest": file.digest,
            }
            if file.revpos <= horizon:
                entry |= {"length": file.length, "stub": True}
            elif wanted.follows:
                entry |= {"length": file.length, "follows": True}
            else:
                entry["data"] = base64.b64encode(await self._blobs.read(file.blob)).decode()
            entries[file.name] = entry
        return entries

    def _add_history(self, tail: dict[str, Any], document: Document, rev: str, wanted: Shown) -> None:
        tree = document.tree
        if wanted.revs or wanted.revs_info:
            path = tree.ancestry(rev)
            if wanted.revs:
                tail["_revisions"] = revisions(path)
            if wanted.revs_info:
                tail["_revs_info"] = [{"rev": each, "status": self._status(document, each)} for each in path]
        if wanted.conflicts and (others := tree.conflicts()):
            tail["_conflicts"] = others
        if wanted.deleted_conflicts and (gone := tree.deleted_conflicts()):
            tail["_deleted_conflicts"] = gone
        if wanted.local_seq:
            tail["_local_seq"] = self._database.numbering.sequence(document.seq)

    def _status(self, document: Document, rev: str) -> str:
        if document.tree.is_leaf(rev):
            return "deleted" if document.tree.is_deleted(rev) else "available"
        kept = self._database.superseded.get(self._database.name, document.id, rev)
        return "available" if kept else "missing"


def following(document: Document, revision: Revision, wanted: Shown) -> Sequence[Attachment]:
    """Attachments whose bytes follow the document in a multipart answer, in order."""
    horizon = _horizon(document.tree, revision.rev, wanted)
    return [file for file in revision.attachments if file.revpos > horizon]


def _horizon(tree: RevisionTree, rev: str, wanted: Shown) -> int:
    """Attachments up to this `revpos` are shown as stubs."""
    if not wanted.inlines:
        return 2**53
    path = tree.ancestry(rev)
    return max((parse(known)[0] for known in wanted.atts_since or () if known in path), default=0)


def revisions(path: Sequence[str]) -> dict[str, Json]:
    """Write a path of revisions, newest first, as `_revisions`."""
    return {"start": order(path[0])[0], "ids": [rev.partition("-")[2] for rev in path]}


def encoded(value: Any) -> bytes:
    """Encode what `Renderer` gives; raw JSON inside stays as it is."""
    return _encode(value)
