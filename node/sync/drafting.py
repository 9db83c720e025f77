"""Drafts of one request: each sent document against what is stored and what the request brought before it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.handshake import Terms
from events.mailbox import DocumentDraft, StoredAttachment
from node.storage.sealed import Stored
from node.sync.database import NO_REVISIONS, Database
from node.sync.handshakes import is_handshake
from node.sync.incoming import EMPTY, Incoming, SentAttachment
from node.sync.json_text import Json
from node.sync.ports import Blobs, HandshakeVerifier
from node.sync.refusal import conflict, doc_validation, missing_stub
from projections.revision import RevisionTree, computed, order
from projections.view_store import Attachment, Document, Revision

File = Attachment | StoredAttachment
"""An attachment with bytes in the blob store: of a stored revision, or of this request."""


class Leaf(msgspec.Struct, frozen=True):
    """What matters of a leaf for the revision after it. `size` is in bytes."""

    revision: Revision
    size: int
    handshake: bool


class _Standing(msgspec.Struct):
    """A document as it will be after the drafts so far."""

    tree: RevisionTree
    stored: Document | None
    drafted: dict[str, Leaf]


class Drafting:
    """Collects the drafts of one request in order, and the bytes that they need."""

    def __init__(self, database: Database, owner: str, verifier: HandshakeVerifier, blobs: Blobs) -> None:
        self._database = database
        self._owner = owner
        self._verifier = verifier
        self._blobs = blobs
        self._standings: dict[str, _Standing] = {}
        self._bodies: dict[str, Stored] = {}
        self.drafts: list[DocumentDraft] = []
        self.replaced: list[tuple[str, Revision]] = []

    def bodies(self, drafts: Sequence[DocumentDraft]) -> Sequence[Stored]:
        """What must be stored before these drafts are facts, sealed."""
        named = {draft.document for draft in drafts}
        named |= {file.blob for draft in drafts for file in draft.attachments}
        return [body for name, body in self._bodies.items() if name in named]

    async def add(self, sent: Incoming, new_edits: bool) -> str:
        """Draft one document; return its revision. One that is known already gives no draft.

        Raises refusals: `conflict`, `missing_stub`, `forbidden`.
        """
        standing = await self._standing(sent.id)
        if new_edits:
            return await self._edit(standing, sent)
        path = sent.path or ((sent.rev,) if sent.rev else ())
        if not path:
            raise doc_validation("a revision is required when new_edits is false")
        if path[0] not in standing.tree:
            files = await self._files(standing, sent, path[1:], order(path[0])[0])
            await self._draft(standing, sent, _needed(standing.tree, path), files)
        return path[0]

    async def _edit(self, standing: _Standing, sent: Incoming) -> str:
        parent = _parent(standing.tree, sent)
        generation = order(parent)[0] + 1 if parent else 1
        files = await self._files(standing, sent, (parent,) if parent else (), generation)
        rev = computed(parent or None, sent.deleted, sent.body, files)
        await self._draft(standing, sent, (rev, parent) if parent else (rev,), files)
        return rev

    async def _standing(self, document_id: str) -> _Standing:
        known = self._standings.get(document_id)
        if known is None:
            stored = await self._database.get(document_id)
            known = _Standing(stored.tree if stored else NO_REVISIONS, stored, {})
            self._standings[document_id] = known
        return known

    async def _leaf(self, standing: _Standing, rev: str) -> Leaf | None:
        if rev in standing.drafted:
            return standing.drafted[rev]
        if standing.stored is None or not standing.stored.tree.is_leaf(rev):
            return None
        leaf = await self._database.leaf(standing.stored, rev)
        if leaf is None:
            return None
        size = _size(leaf.body, leaf.attachments)
        return Leaf(leaf, size, not leaf.deleted and _holds_handshake(leaf.body))

    async def _files(
        self, standing: _Standing, sent: Incoming, ancestors: Sequence[str], generation: int
    ) -> tuple[StoredAttachment, ...]:
        """Turn attachments as sent into stored ones: bytes sent here, or the document's own."""
        files = []
        for file in sent.attachments:
            if file.data is None:
                files.append(await self._stub(standing, file, ancestors))
                continue
            name = await self._sealed(file.data)
            files.append(
                StoredAttachment(
                    name=file.name,
                    content_type=file.content_type,
                    length=len(file.data),
                    digest=file.digest,
                    blob=name,
                    revpos=file.revpos if sent.path and 0 < file.revpos <= generation else generation,
                )
            )
        return tuple(files)

    async def _sealed(self, body: bytes) -> str:
        """Seal a body, keep it for `bodies`, and return its name."""
        stored = await self._blobs.seal(body, self._owner)
        self._bodies[stored.name] = stored
        return stored.name

    async def _stub(
        self, standing: _Standing, file: SentAttachment, ancestors: Sequence[str]
    ) -> StoredAttachment:
        for rev in dict.fromkeys([*ancestors, *standing.tree.leaves()]):
            leaf = await self._leaf(standing, rev)
            for known in leaf.revision.attachments if leaf else ():
                if known.name == file.name and file.digest in {"", known.digest}:
                    return StoredAttachment(**msgspec.structs.asdict(known))
        raise missing_stub(f"{file.name[:100]}: no such attachment is stored in this document")

    async def _draft(
        self,
        standing: _Standing,
        sent: Incoming,
        path: tuple[str, ...],
        files: tuple[StoredAttachment, ...],
    ) -> None:
        terms = await self._terms(sent)
        before = await self._leaf(standing, path[1]) if len(path) > 1 else None
        if before is not None:
            self.replaced.append((sent.id, before.revision))
        spoke = standing.tree and await self._leaf(standing, standing.tree.winner)
        standing.tree, _ = standing.tree.merge(path, sent.deleted)
        size = _size(sent.body, files)
        standing.drafted[path[0]] = Leaf(_revision(sent, path[0], files), size, terms is not None)
        document = "" if sent.body == EMPTY else await self._sealed(sent.body)
        folder, read = sent.members.get("folder"), sent.members.get("isRead")
        self.drafts.append(
            DocumentDraft(
                id=sent.id,
                revisions=path,
                kind=kind(sent),
                document=document,
                deleted=sent.deleted,
                attachments=files,
                size=size,
                replaced=before.size if before else 0,
                folder=folder if isinstance(folder, str) else "",
                read=read if isinstance(read, bool) else None,
                handshake=terms,
                forgotten=bool(spoke and spoke.handshake) and terms is None and _wins(standing, path[0]),
            )
        )

    async def _terms(self, sent: Incoming) -> Terms | None:
        if sent.deleted or not is_handshake(sent.members):
            return None
        return await self._verifier.verify(self._owner, sent.id, sent.members)


def _wins(standing: _Standing, rev: str) -> bool:
    return standing.tree.winner == rev


def _parent(tree: RevisionTree, sent: Incoming) -> str:
    """The leaf that an edit continues, "" for a new document; raise `conflict` when it may not."""
    if not tree:
        if sent.rev:
            raise conflict()
        return ""
    if sent.rev:
        if not tree.is_leaf(sent.rev):
            raise conflict()
        return sent.rev
    if not tree.deleted:
        raise conflict()
    return tree.winner


def _needed(tree: RevisionTree, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path down to the first ancestor that is known: what lies below is in the log already."""
    known = next((place for place, rev in enumerate(path) if rev in tree), len(path))
    return path[: known + 1]


def _size(body: bytes, files: Sequence[File]) -> int:
    return (0 if body == EMPTY else len(body)) + sum(file.length for file in files)


def _revision(sent: Incoming, rev: str, files: Sequence[StoredAttachment]) -> Revision:
    """What the view will show of a draft."""
    attachments = tuple(Attachment(**msgspec.structs.asdict(file)) for file in files)
    return Revision(rev=rev, deleted=sent.deleted, body=sent.body, attachments=attachments)


def _holds_handshake(body: bytes) -> bool:
    return b"handshake" in body and is_handshake(msgspec.json.decode(body, type=dict[str, Json]))


def kind(sent: Incoming) -> str:
    """Name what a document is for: handshake, draft, message, contact, folder, design or own."""
    members = sent.members
    if sent.id.startswith("_design/"):
        return "design"
    if is_handshake(members):
        return "handshake"
    if members.get("folder") == "draft":
        return "draft"
    if isinstance(members.get("didCommMessage"), dict):
        return "message"
    if isinstance(members.get("contactInfo"), dict):
        return "contact"
    return "folder" if members.get("type") == "folder" and sent.id.startswith("folder:") else "own"
