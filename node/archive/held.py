"""Records held in memory, read like a log: a mailbox outside of its node, to compute its documents."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path

from events.errors import CorruptRecord, Forbidden
from events.event import Recorded
from events.log.log import Origin, Write
from projections.rebuild import build
from projections.stores.embedded import EmbeddedStore
from projections.view_store import View


class HeldLog:
    """A `Log` of given records in order of position. Nothing can be appended."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        """Hold the records."""
        self._records = records

    @property
    def head(self) -> int:
        """Position of the last record."""
        return self._records[-1].position if self._records else 0

    async def append(self, *writes: Write, origin: Origin) -> list[Recorded]:
        """Refuse."""
        raise Forbidden("these records are only held")

    async def append_all(self, orders: Sequence[tuple[Write, Origin]]) -> list[Recorded]:
        """Refuse."""
        raise Forbidden("these records are only held")

    async def stream(self, name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Read one stream."""
        found = [each for each in self._records if each.stream == name and each.version > after]
        return found if limit is None else found[:limit]

    async def read(self, after: int, limit: int = 500, types: Collection[str] = ()) -> list[Recorded]:
        """Read all records, or those of some types, above a position."""
        found: list[Recorded] = []
        first = bisect_right(self._records, after, key=attrgetter("position"))
        for each in self._records[first:]:
            if not types or type(each.event).__name__ in types:
                found.append(each)
                if len(found) == limit:
                    break
        return found

    async def subscribe(self, after: int, batch: int = 500) -> AsyncIterator[Sequence[Recorded]]:
        """Yield what there is; nothing ever follows."""
        yield await self.read(after, len(self._records))


@asynccontextmanager
async def computed(view: View, records: Sequence[Recorded], path: Path) -> AsyncIterator[EmbeddedStore]:
    """Compute a view of the records into a store at `path`.

    Raises CorruptRecord when the view can't take in one of them.
    """
    log = HeldLog(records)
    store = EmbeddedStore.open(path)
    try:
        await build(view, log, store, log.head)
        for position, reason in (await store.parked()).items():
            raise CorruptRecord(f"event {position} makes no sense to view {view.name}", reason)
        yield store
    finally:
        await store.close()
