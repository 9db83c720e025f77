"""The changes feed without HTTP: which documents, which revisions of them, in which rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from node.sync.database import Database
from node.sync.incoming import DESIGN
from node.sync.json_text import Json
from node.sync.limits import SyncLimits
from node.sync.numbering import Numbering
from node.sync.query import Query
from node.sync.refusal import bad_request, forbidden
from node.sync.rendering import Renderer, Shown, encoded, shown
from node.sync.selector import Selector, compiled
from projections.view_store import Document, Revision

JAVASCRIPT = "this node runs no JavaScript: use filter=_selector or filter=_doc_ids"
"""Why filters, views and the like of design documents are refused."""


IDS_READ_ONE_BY_ONE = 100
"""With more ids than this, a feed reads what has changed instead of every document that it may show."""


class Filter:
    """Decides which revisions a feed shows; this one shows all.

    `ids` names the only documents that can pass, if it knows.
    """

    ids: Sequence[str] | None = None
    reads_bodies = False

    def begin(self) -> None:
        """Hear that another round of the feed begins."""

    async def passes(self, document_id: str, revision: Revision) -> bool:
        """Tell whether this revision belongs to the feed."""
        return True


class OnlyIds(Filter):
    """`filter=_doc_ids`."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = list(dict.fromkeys(ids))
        self._known = frozenset(ids)

    async def passes(self, document_id: str, revision: Revision) -> bool:
        """Let the named documents pass."""
        return document_id in self._known


class OnlyDesign(Filter):
    """`filter=_design`."""

    async def passes(self, document_id: str, revision: Revision) -> bool:
        """Let design documents pass."""
        return document_id.startswith(DESIGN)


class OnlyMatching(Filter):
    """`filter=_selector`: each revision is judged by its own content, deleted ones too."""

    reads_bodies = True

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    def begin(self) -> None:
        """Allow the selector as much work as in a request of its own."""
        self._selector.renew()

    async def passes(self, document_id: str, revision: Revision) -> bool:
        """Let matching documents pass."""
        return await self._selector.holds(members_of(document_id, revision), len(revision.body))


def members_of(document_id: str, revision: Revision) -> dict[str, Json]:
    """A revision as the JSON object that selectors see."""
    members = msgspec.json.decode(revision.body, type=dict[str, Any])
    members |= {"_id": document_id, "_rev": revision.rev}
    if revision.deleted:
        members["_deleted"] = True
    if revision.attachments:
        members["_attachments"] = {
            file.name: {"content_type": file.content_type, "length": file.length, "digest": file.digest}
            for file in revision.attachments
        }
    return members


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked of `_changes`, apart from how the feed is delivered. `since` is a log position."""

    since: int
    limit: int | None
    descending: bool
    all_leaves: bool
    documents: Shown | None
    filter: Filter


def wanted(
    query: Query, body: Mapping[str, Json], update_seq: int, limits: SyncLimits, numbering: Numbering
) -> Wanted:
    """Read the parameters and the body of a request. A filter that can't be served is refused, never ignored.

    `update_seq` is a log position. Raises refusals.
    """
    style = query.text("style", "main_only")
    if style not in {"main_only", "all_docs"}:
        raise bad_request("style is main_only or all_docs")
    limit = query.number("limit")
    # A live feed goes forward whatever is asked for, as in CouchDB: backwards there is nothing to wait for.
    live = query.text("feed", "normal") != "normal"
    descending = not live and (query.flag("descending") or query.text("dir", "") == "rev")
    return Wanted(
        since=since_of(query, update_seq, numbering),
        limit=None if limit is None else max(limit, 1),
        descending=descending,
        all_leaves=style == "all_docs",
        documents=shown(query, limits.revisions) if query.flag("include_docs") else None,
        filter=_filter(query, body, limits),
    )


def since_of(query: Query, update_seq: int, numbering: Numbering) -> int:
    """Read `since`, a number, also as text, or `now`; return the log position that it means."""
    if "since" in query and query.json_or_text("since") == "now":
        return update_seq
    return numbering.position(query.number("since") or 0)


def _filter(query: Query, body: Mapping[str, Json], limits: SyncLimits) -> Filter:
    name = query.text("filter", "")
    match name:
        case "_doc_ids":
            return _ids_filter(query.over(body), limits)
        case "_selector":
            return OnlyMatching(compiled(body.get("selector"), limits))
        case "_design":
            return OnlyDesign()
        case "":
            # CouchDB ignores these without `filter`; showing less than was asked for is the safer reading.
            if "doc_ids" in body or "doc_ids" in query:
                return _ids_filter(query.over(body), limits)
            return OnlyMatching(compiled(body["selector"], limits)) if "selector" in body else Filter()
        case _:
            raise forbidden(JAVASCRIPT)


def _ids_filter(query: Query, limits: SyncLimits) -> Filter:
    ids = query.texts("doc_ids", limits.documents_per_request)
    if ids is None:
        raise bad_request("`doc_ids` filter parameter is not a list.")
    return OnlyIds(ids)


class Row(msgspec.Struct, frozen=True):
    """One line of the feed; `seq` is the sequence number that the client sees."""

    seq: int
    json: bytes


class Changes:
    """Reads rows of one feed; `seen` is the log position up to which everything was looked at."""

    def __init__(self, database: Database, renderer: Renderer, asked: Wanted) -> None:
        self._database = database
        self._renderer = renderer
        self._asked = asked
        self.seen = asked.since
        self.left = asked.limit

    @property
    def last_seq(self) -> int:
        """What the client takes for where it has come to."""
        return self._database.numbering.sequence(self.seen)

    async def rows(self) -> AsyncIterator[Row]:
        """Rows above `seen`, at most `left` of them; then `seen` is where the next call goes on."""
        if self.left == 0:
            return
        self._asked.filter.begin()
        start = self.seen
        upto = await self._database.update_seq()
        async for document in self._candidates(start, upto):
            row = await self._row(document)
            self.seen = document.seq if self._asked.descending else max(self.seen, document.seq)
            if row is None:
                continue
            yield row
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    return
        # Filtered rows and rows of others' positions are behind us too.
        self.seen = self.seen if self._asked.descending else max(self.seen, upto)

    async def _candidates(self, since: int, upto: int) -> AsyncIterator[Document]:
        asked = self._asked
        bodies = asked.filter.reads_bodies or asked.documents is not None
        if asked.filter.ids is None or len(asked.filter.ids) > IDS_READ_ONE_BY_ONE:
            async for document in self._database.since(since, descending=asked.descending, bodies=bodies):
                yield document
            return
        found = await self._database.by_ids(asked.filter.ids)
        # Written while we read them one by one: those come in the next round, so that none is jumped over.
        newer = [document for document in found if document is not None and since < document.seq <= upto]
        for document in sorted(newer, key=lambda each: each.seq, reverse=asked.descending):
            whole = await self._database.get(document.id) if bodies else document
            if whole is not None and whole.seq == document.seq:
                yield whole

    async def _row(self, document: Document) -> Row | None:
        revs = await self._shown_revisions(document)
        if not revs:
            return None
        seq = self._database.numbering.sequence(document.seq)
        row: dict[str, Any] = {
            "seq": seq,
            "id": document.id,
            "changes": [{"rev": rev} for rev in revs],
        }
        if document.winner.deleted:
            row["deleted"] = True
        if self._asked.documents is not None:
            row["doc"] = await self._renderer.document(document, document.winner, self._asked.documents)
        return Row(seq, encoded(row))

    async def _shown_revisions(self, document: Document) -> list[str]:
        judge = self._asked.filter
        leaves = document.tree.leaves() if self._asked.all_leaves else (document.winner.rev,)
        if not judge.reads_bodies:
            return list(leaves) if await judge.passes(document.id, document.winner) else []
        passed = []
        for rev in leaves:
            leaf = await self._database.leaf(document, rev)
            if leaf is not None and await judge.passes(document.id, leaf):
                passed.append(rev)
        return passed
