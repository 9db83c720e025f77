from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.event import Event
from projections.feeder import Feeder, RunnerLimits
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Document, View
from tests.factories import Blobs, recorded
from tests.fakes.memory_log import MemoryLog


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = EmbeddedStore.open(tmp_path / "view.sqlite")
    yield opened
    await opened.close()


class Fed:
    """A view with a store; `take` feeds it events, one batch a call."""

    def __init__(self, view: View, store: EmbeddedStore) -> None:
        self.store = store
        self.feeder = Feeder(view, store, MemoryLog(), RunnerLimits())
        self._position = 0

    async def take(self, *events: Event, stream: str = "") -> None:
        records = [recorded(event, self._position + n, stream) for n, event in enumerate(events, 1)]
        self._position += len(records)
        await self.feeder.feed(records, self._position)

    async def document(self, database: str, id: str) -> Document:  # noqa: A002
        found = await self.store.get(database, id)
        assert found is not None
        return found
