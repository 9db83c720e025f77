"""What a view sees while its batch is not yet written: the store, with the batch's changes on top."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from events.errors import InvalidInput
from projections.revision import Outcome, RevisionTree
from projections.view_store import Change, Document, Documents, Effect, Forget, Revision

Write = Callable[[list[Effect], int], Awaitable[None]]
"""Writes changes and a checkpoint to the store."""

_Key = tuple[str, str]


class Overlay:
    """A `Documents` for one batch. Changes are merged only when somebody looks at their document.

    `position` is that of the last event whose changes were added, `changes` what is not written yet.
    """

    def __init__(self, store: Documents, position: int, write: Write) -> None:
        self.position = position
        self.changes: list[Effect] = []
        self._store = store
        self._write = write
        self._unseen: dict[_Key, list[Change]] = {}
        self._seen: dict[_Key, Document] = {}

    async def add(self, changes: Iterable[Effect], position: int) -> None:
        """Take in all changes of one event. Where something is forgotten, the store has the word at once."""
        forgotten = False
        for change in changes:
            self.changes.append(change)
            if isinstance(change, Forget):
                forgotten = True
            else:
                self._unseen.setdefault((change.database, change.id), []).append(change)
        self.position = position
        if forgotten:
            await self.flush()

    async def flush(self) -> None:
        """Write what is complete, so that the store alone knows everything."""
        changes, self.changes = self.changes, []
        self._unseen.clear()
        self._seen.clear()
        await self._write(changes, self.position)

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return the document as it is after all changes added so far."""
        key = (database, id)
        document = self._seen.get(key) or await self._store.get(database, id)
        for change in self._unseen.pop(key, ()):
            document = grown(document, change)
            if document is None:
                await self.flush()
                return await self._store.get(database, id)
            self._seen[key] = document
        return document


def grown(document: Document | None, change: Change) -> Document | None:
    """Return the document with a change merged, None where only the store can tell the winner.

    It keeps all leaves' content; a `Document` has only that of the winner.
    """
    tree = document.tree if document else RevisionTree()
    try:
        tree, outcome = tree.merge(change.revisions, change.deleted)
    except InvalidInput:
        return None
    is_new = outcome in {Outcome.NEW_LEAF, Outcome.NEW_BRANCH}
    if is_new and tree.winner == change.revisions[0]:
        winner = _revision(change)
    elif document and tree.winner == document.winner.rev:
        winner = document.winner
    else:
        return None
    before = document.seq if document else 0
    return Document(id=change.id, seq=max(before, change.seq) if is_new else before, tree=tree, winner=winner)


def _revision(change: Change) -> Revision:
    return Revision(
        rev=change.revisions[0], deleted=change.deleted, body=change.body, attachments=change.attachments
    )
