"""The CouchDB view store: the same documents, with the same revisions, in a CouchDB 3.x server.

Documents are replicated in (`_bulk_docs` with `new_edits: false`), so that the server keeps the revisions
that the events gave. Beside the view's databases stands one of the store's own: which databases belong to
the view, the descriptors of attachments (CouchDB knows no blob names), and the checkpoint, which is
written last; what a crash leaves between is delivered again and known already.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, Self

import msgspec

from events.errors import InvalidInput, MailioError, Misconfigured, StorageUnavailable
from projections.revision import RevisionTree, require_path
from projections.stores.couch_forgetting import existing, purge
from projections.stores.couch_http import REQUEST_SECONDS, RETRY_DELAYS, CouchClient
from projections.stores.reading import PARKED_LIMIT
from projections.view_store import Attachment, Change, Document, Effect, Forget, Revision

BULK_BYTES: Final = 8 * 1024 * 1024
"""Size at which a `_bulk_docs` request is sent; one document with larger attachments goes alone."""

BULK_DOCUMENTS: Final = 500
"""Documents in one `_bulk_docs` request."""

PARALLEL_DATABASES: Final = 8
"""Databases written at the same time."""

PAGE: Final = 100
"""Documents fetched at once when a database is listed."""

CHANGES_PAGE: Final = 1000
"""Rows of the changes feed fetched at once."""

FOLDER_INDEX: Final = "client-folder-created-desc-index"
"""The Mango index that clients name in `use_index` (wire spec section 6.1)."""

_INDEX_REQUEST: Final = msgspec.json.encode(
    {
        "index": {"fields": [{"folder": "desc"}, {"created": "desc"}]},
        "ddoc": FOLDER_INDEX,
        "name": FOLDER_INDEX,
        "type": "json",
    }
)
_NO_SUCH_FEATURE: Final = (400, 404, 405, 501)


class Blobs(Protocol):
    """Where attachments' bytes come from."""

    async def read(self, name: str) -> bytes:
        """Return the bytes of a blob; raises NotFound, CorruptRecord or StorageUnavailable."""


class CouchdbStore:
    """A `ViewStore` on a CouchDB-protocol server; one object for each view.

    `Document.seq` is always 0: a CouchDB server numbers the changes of a database by itself.
    Attachments that a client stored directly in CouchDB have an empty `blob`.
    """

    def __init__(self, client: CouchClient, view: str, prefix: str, blobs: Blobs) -> None:
        """Take a connected client: call `connect` instead."""
        self._client = client
        self._prefix = prefix
        self._blobs = blobs
        self._state = f"{prefix}mailio-view-{view}"
        self._known: set[str] = set()

    @classmethod
    async def connect(
        cls,
        url: str,
        blobs: Blobs,
        *,
        view: str = "userdb",
        prefix: str = "",
        retry_delays: Sequence[float] = RETRY_DELAYS,
        timeout: float = REQUEST_SECONDS,  # noqa: ASYNC109 - of each request, not of this call
    ) -> Self:
        """Connect to the server and find out what the view has there.

        `url` holds user and password; `prefix` stands before every database name on the server (leave
        it empty where `couch_peruser` makes the databases). Raises Misconfigured, StorageUnavailable.
        """
        client = CouchClient(url, retry_delays, timeout)
        store = cls(client, view, prefix, blobs)
        try:
            await client.ask("GET")
            await store._create(store._state)
            store._known = set(await store._registered())
        except BaseException:
            await client.close()
            raise
        return store

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    # Reading

    async def checkpoint(self) -> int:
        """Position of the last event whose changes are in the store; 0 at the beginning."""
        return int((await self._progress()).get("position", 0))

    async def schema(self) -> int:
        """Schema of the view that wrote the store; 0 when nothing was written yet."""
        return int((await self._progress()).get("schema", 0))

    async def databases(self) -> Sequence[str]:
        """Names of all databases that this view wrote, sorted."""
        return sorted(self._known)

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document (also one whose winner is deleted), or None if it never was."""
        status, leaves = await self._client.ask(
            "GET", self._prefix + database, id, query={"open_revs": "all", "revs": "true"}, expected=(404,)
        )
        found = [leaf["ok"] for leaf in leaves if "ok" in leaf] if status == 200 else []
        return await self._document(database, id, found) if found else None

    async def documents(self, database: str) -> AsyncIterator[Document]:
        """All documents of a database, deleted ones too, in id order; design documents are left out."""
        leaves = {id_: revs async for id_, revs in self._leaves(database) if not id_.startswith("_design/")}
        ids = sorted(leaves)
        for start in range(0, len(ids), PAGE):
            page = {id_: leaves[id_] for id_ in ids[start : start + PAGE]}
            for id_, found in (await self._contents(database, page)).items():
                # Where a revision was superseded meanwhile, ask for the leaves of now.
                whole = len(found) == len(page[id_])
                document = await (self._document(database, id_, found) if whole else self.get(database, id_))
                if document is not None:
                    yield document

    async def _leaves(self, database: str) -> AsyncIterator[tuple[str, list[str]]]:
        since = "0"
        while True:
            query = {"style": "all_docs", "since": since, "limit": str(CHANGES_PAGE)}
            status, feed = await self._client.ask(
                "GET", self._prefix + database, "_changes", query=query, expected=(404,)
            )
            rows = feed["results"] if status == 200 else []
            for row in rows:
                yield row["id"], [change["rev"] for change in row["changes"]]
            if len(rows) < CHANGES_PAGE:
                return
            since = str(feed["last_seq"])

    async def _contents(
        self, database: str, leaves: Mapping[str, Sequence[str]]
    ) -> dict[str, list[dict[str, Any]]]:
        wanted = [{"id": id_, "rev": rev} for id_, revs in leaves.items() for rev in revs]
        body = msgspec.json.encode({"docs": wanted})
        answer = await self._client.ask(
            "POST", self._prefix + database, "_bulk_get", query={"revs": "true"}, body=body
        )
        found: dict[str, list[dict[str, Any]]] = {id_: [] for id_ in leaves}
        for result in answer.body["results"]:
            found[result["id"]] += [entry["ok"] for entry in result["docs"] if "ok" in entry]
        return found

    async def _document(self, database: str, id: str, leaves: Sequence[dict[str, Any]]) -> Document:  # noqa: A002
        tree = RevisionTree()
        for leaf in leaves:
            tree, _ = tree.merge(_path(leaf), leaf.get("_deleted", False))
        content = next(leaf for leaf in leaves if leaf["_rev"] == tree.winner)
        winner = Revision(
            rev=tree.winner,
            deleted=tree.deleted,
            body=_canonical(content),
            attachments=await self._attachments(database, id, content),
        )
        return Document(id=id, seq=0, tree=tree, winner=winner)

    async def _attachments(self, database: str, id: str, leaf: dict[str, Any]) -> tuple[Attachment, ...]:  # noqa: A002
        if not leaf.get("_attachments"):
            return ()
        key = _descriptor_id(database, id, leaf["_rev"])
        status, stored = await self._client.ask("GET", self._state, key, expected=(404,))
        if status == 200:
            return msgspec.convert(stored["files"], tuple[Attachment, ...])
        return tuple(_from_stub(name, stub) for name, stub in sorted(leaf["_attachments"].items()))

    # Writing

    async def write(self, changes: Sequence[Effect], checkpoint: int, schema: int) -> None:
        """Add all changes, forget what is to be forgotten, move the checkpoint; harmless when repeated.

        A failure may leave some of the changes in the server but never the checkpoint: the same batch
        completes it. Raises StorageUnavailable, Misconfigured, LimitExceeded, InvalidInput, and what
        the blobs raise.
        """
        added = [change for change in changes if not isinstance(change, Forget)]
        await self._add(added)
        for change in changes:
            if isinstance(change, Forget):
                await self._forget(change)
        await self._save_progress(checkpoint, schema)

    async def _forget(self, forget: Forget) -> None:
        """Remove documents, or a database with the descriptors of all its attachments."""
        database = self._prefix + forget.database
        if not forget.whole:
            leaves = {id_: revs async for id_, revs in self._leaves(forget.database) if forget.concerns(id_)}
            await purge(self._client, database, leaves)
            return
        await purge(
            self._client, self._state, await existing(self._client, self._state, self._records(forget))
        )
        await self._client.ask("DELETE", database, expected=(404,))
        self._known.discard(forget.database)

    async def _records(self, forget: Forget) -> AsyncIterator[str]:
        """Ids of what the store has noted about a database: its name, and each attachment's descriptor."""
        yield f"database:{forget.database}"
        async for document in self.documents(forget.database):
            for leaf in document.tree.leaves():
                for rev in document.tree.ancestry(leaf):
                    yield _descriptor_id(forget.database, document.id, rev)

    async def _add(self, changes: Sequence[Change]) -> None:
        for change in changes:
            require_path(change.revisions)
        grouped: dict[str, list[Change]] = {}
        for change in changes:
            grouped.setdefault(change.database, []).append(change)
        await self._save_descriptors([change for change in changes if change.attachments])
        gate = asyncio.Semaphore(PARALLEL_DATABASES)
        tasks = [asyncio.create_task(self._write_database(gate, *group)) for group in grouped.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            # No request of a failed batch may still be on its way when the batch is tried again.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_database(
        self, gate: asyncio.Semaphore, database: str, changes: Sequence[Change]
    ) -> None:
        async with gate:
            await self._ensure(database)
            async for documents in self._portions(changes):
                await self._bulk(self._prefix + database, documents)

    async def _portions(self, changes: Sequence[Change]) -> AsyncIterator[list[bytes]]:
        """Encode changes in portions that fit one request."""
        portion: list[bytes] = []
        size = 0
        for change in changes:
            portion.append(await self._encoded(change))
            size += len(portion[-1])
            if size >= BULK_BYTES or len(portion) == BULK_DOCUMENTS:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion

    async def _encoded(self, change: Change) -> bytes:
        """A change as CouchDB replicates it, its body left as it is byte by byte."""
        generation, _, _ = change.revisions[0].partition("-")
        meta: dict[str, Any] = {
            "_id": change.id,
            "_rev": change.revisions[0],
            "_revisions": {
                "start": int(generation),
                "ids": [rev.partition("-")[2] for rev in change.revisions],
            },
        }
        if change.deleted:
            meta["_deleted"] = True
        if change.attachments:
            meta["_attachments"] = {file.name: await self._inline(file) for file in change.attachments}
        return _joined(msgspec.json.encode(meta), change.body)

    async def _inline(self, file: Attachment) -> dict[str, Any]:
        data = await self._blobs.read(file.blob)
        return {
            "content_type": file.content_type,
            "revpos": file.revpos,
            "data": base64.b64encode(data).decode(),
        }

    async def _bulk(self, database: str, documents: Iterable[bytes]) -> None:
        body = b'{"new_edits":false,"docs":[' + b",".join(documents) + b"]}"
        answer = await self._client.ask("POST", database, "_bulk_docs", body=body)
        for result in answer.body:
            if "error" in result:
                raise _refusal(database, result)

    async def _ensure(self, database: str) -> None:
        """Make a database of the view, or take over the one that `couch_peruser` made; note its name."""
        if database in self._known:
            return
        await self._create(self._prefix + database)
        if database.startswith("userdb-"):
            await self._client.ask(
                "POST", self._prefix + database, "_index", body=_INDEX_REQUEST, expected=_NO_SUCH_FEATURE
            )
        await self._bulk(self._state, [_state_document(f"database:{database}", {})])
        self._known.add(database)

    async def _create(self, name: str) -> None:
        await self._client.ask("PUT", name, expected=(412,))

    async def _registered(self) -> list[str]:
        answer = await self._client.ask("GET", self._state, "_all_docs", query=_range("database:"))
        return [row["id"].removeprefix("database:") for row in answer.body["rows"]]

    async def _save_descriptors(self, changes: Sequence[Change]) -> None:
        described = [
            _state_document(
                _descriptor_id(change.database, change.id, change.revisions[0]),
                {"files": [msgspec.to_builtins(file) for file in change.attachments]},
            )
            for change in changes
        ]
        if described:
            await self._bulk(self._state, described)

    # Parked records: documents of the store's own

    async def park(self, position: int, reason: str) -> None:
        """Note that the record at this log position could not be taken in, and why."""
        key, rev = await self._parked_document(position)
        content = {"reason": reason} | ({"_rev": rev} if rev else {})
        await self._client.ask("PUT", self._state, key, body=msgspec.json.encode(content))

    async def unpark(self, position: int) -> bool:
        """Forget a parked record; tell whether there was one."""
        key, rev = await self._parked_document(position)
        if rev:
            await self._client.ask("DELETE", self._state, key, query={"rev": rev}, expected=(404,))
        return bool(rev)

    async def parked(self) -> dict[int, str]:
        """Log positions of the records that this view could not take in, with the reason; the first 1000."""
        query = _range("parked:") | {"include_docs": "true", "limit": str(PARKED_LIMIT)}
        answer = await self._client.ask("GET", self._state, "_all_docs", query=query)
        return {int(row["id"].removeprefix("parked:")): row["doc"]["reason"] for row in answer.body["rows"]}

    async def _parked_document(self, position: int) -> tuple[str, str]:
        """Id and rev ("" for none) of a parked record's document; ids sort as positions do."""
        key = f"parked:{position:020}"
        status, stored = await self._client.ask("GET", self._state, key, expected=(404,))
        return key, stored["_rev"] if status == 200 else ""

    async def _progress(self) -> dict[str, Any]:
        status, stored = await self._client.ask("GET", self._state, "_local", "checkpoint", expected=(404,))
        return stored if status == 200 else {}

    async def _save_progress(self, checkpoint: int, schema: int) -> None:
        """Write the checkpoint, never back; a conflict means that an answer was lost, so look again."""
        for _ in range(3):
            stored = await self._progress()
            if checkpoint <= stored.get("position", 0) and schema <= stored.get("schema", 0):
                return
            reached = stored | {
                "position": max(checkpoint, stored.get("position", 0)),
                "schema": max(schema, stored.get("schema", 0)),
            }
            body = msgspec.json.encode(reached)
            answer = await self._client.ask(
                "PUT", self._state, "_local", "checkpoint", body=body, expected=(409,)
            )
            if answer.status != 409:
                return
        raise StorageUnavailable("two processes write the same view to CouchDB", self._state)


def _joined(meta: bytes, body: bytes) -> bytes:
    """Two JSON objects as one."""
    return meta[:-1] + b"}" if body == b"{}" else meta[:-1] + b"," + body[1:]


def _state_document(id: str, content: dict[str, Any]) -> bytes:  # noqa: A002
    """A document of the store's own whose revision depends on its content: the same again is known."""
    body = msgspec.json.encode(content)
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    meta = {"_id": id, "_rev": f"1-{digest}", "_revisions": {"start": 1, "ids": [digest]}}
    return _joined(msgspec.json.encode(meta), body)


def _range(prefix: str) -> dict[str, str]:
    """Query for the documents whose ids begin with a prefix that ends in a colon."""
    return {"startkey": f'"{prefix}"', "endkey": f'"{prefix[:-1]};"'}


def _descriptor_id(database: str, id: str, rev: str) -> str:  # noqa: A002
    place = f"{database}\0{id}\0{rev}".encode()
    return f"attachments:{hashlib.blake2b(place, digest_size=20).hexdigest()}"


def _path(leaf: dict[str, Any]) -> tuple[str, ...]:
    """The ancestry of a leaf as the server tells it.

    PouchDB loses its place where two generations have the same hash: then only the leaf is known.
    """
    revisions = leaf["_revisions"]
    generations = itertools.count(revisions["start"], -1)
    path = tuple(f"{n}-{digest}" for n, digest in zip(generations, revisions["ids"], strict=False))
    return path if path[:1] == (leaf["_rev"],) else (leaf["_rev"],)


def _canonical(leaf: dict[str, Any]) -> bytes:
    return msgspec.json.encode({k: v for k, v in leaf.items() if not k.startswith("_")}, order="sorted")


def _from_stub(name: str, stub: dict[str, Any]) -> Attachment:
    return Attachment(
        name=name,
        content_type=stub["content_type"],
        length=stub["length"],
        digest=stub["digest"],
        blob="",
        revpos=stub["revpos"],
    )


def _refusal(database: str, result: dict[str, Any]) -> MailioError:
    reason = f"{database}/{result.get('id')}: {result['error']} {result.get('reason', '')}"
    match result["error"]:
        case "unauthorized":
            return Misconfigured("CouchDB refuses the user or its rights: check the CouchDB address", reason)
        case "forbidden" | "doc_validation" | "bad_request":
            return InvalidInput("CouchDB refuses a document", reason)
        case _:
            return StorageUnavailable("CouchDB can't store a document now", reason)
