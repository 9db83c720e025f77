"""Revisions that were replaced a moment ago, kept in memory for clients that are just fetching them.

A replicating client learns of a revision first and asks for it, and for each of its attachments, later. When
the document is edited in between, CouchDB still has the old revision until it compacts. The view keeps only
leaves; so the door remembers what it saw replaced, within a bound. Losing it costs a client one retry.
"""

from __future__ import annotations

from collections import OrderedDict

from projections.view_store import Revision

_OVERHEAD = 500
"""Bytes that an entry takes beside the body of the document."""

Key = tuple[str, str, str]
"""Database, document id, revision."""


class Superseded:
    """A cache of replaced revisions, bounded by bytes; the least recently used go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._kept: OrderedDict[Key, Revision] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, database: str, document_id: str, revision: Revision) -> None:
        """Remember a revision that has just been replaced."""
        key = (database, document_id, revision.rev)
        self._drop(key)
        self._kept[key] = revision
        self._used += _cost(revision)
        while self._used > self._limit:
            self._drop(next(iter(self._kept)))

    def get(self, database: str, document_id: str, rev: str) -> Revision | None:
        """Return a replaced revision if it is still remembered."""
        key = (database, document_id, rev)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def forget(self, database: str) -> None:
        """Forget all of one database: what `_compact` means here."""
        for key in [key for key in self._kept if key[0] == database]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        revision = self._kept.pop(key, None)
        if revision is not None:
            self._used -= _cost(revision)


def _cost(revision: Revision) -> int:
    return _OVERHEAD + len(revision.body) + sum(_OVERHEAD for _ in revision.attachments)
