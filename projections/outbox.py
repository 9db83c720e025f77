"""What is on its way out, or waits for it: the queue that operators see and federation actors are fed from.

A delivery is in it from its promise to its end. What became of it then is in the log, and in the documents
of its sender (`projections.deliveries`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol, get_args

import msgspec

from events.account import AccountErased
from events.delivery import STREAM, Delivery, DeliveryEvent, Phase, evolve, initial
from events.errors import CorruptRecord
from events.event import Event, Recorded
from projections.revision import computed
from projections.view_store import Change, Document, Documents, Effect, Forget

OUTBOX: Final = "outbox"
"""The one database of the view. Ids are `<destination>:<message>:<owner>`."""

PAGE: Final = 100
"""Deliveries read at once before others get their turn: about 2 ms."""

DELIVERY_EVENTS: Final[tuple[type[Event], ...]] = get_args(DeliveryEvent)
"""All types of events of a delivery."""

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Delivery).decode


class Outbox:
    """View `outbox`: the state of every delivery that has not ended."""

    name = "outbox"
    schema = 1
    types = frozenset((*(kind.__name__ for kind in DELIVERY_EVENTS), AccountErased.__name__))

    async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
        """Return the one change that the event makes. Raises CorruptRecord."""
        event = record.event
        if isinstance(event, AccountErased):
            return [Forget(database=OUTBOX, ending=f":{event.address}")]
        if not isinstance(event, DeliveryEvent):
            return []
        key = record.stream.removeprefix(STREAM)
        ident = f"{key}:{event.owner}"
        # The first event of its stream: nothing is there yet.
        stored = await documents.get(OUTBOX, ident) if record.version > 1 else None
        state = evolve(_state(stored) if stored else initial(key), event)
        if state.phase is Phase.NEW:
            return []
        if state.final:
            return [Forget(database=OUTBOX, id=ident)]
        return [_changed(ident, stored, state, record.position)]


def _changed(ident: str, stored: Document | None, state: Delivery, seq: int) -> Change:
    body = _encode(state)
    parent = stored.winner.rev if stored else None
    rev = computed(parent, deleted=False, body=body)
    revisions = (rev, parent) if parent else (rev,)
    return Change(database=OUTBOX, id=ident, seq=seq, revisions=revisions, body=body)


def _state(stored: Document) -> Delivery:
    try:
        return _decode(stored.winner.body)
    except msgspec.MsgspecError as error:
        raise CorruptRecord("a delivery makes no sense", f"{stored.id}: {error}") from error


class Range(Protocol):
    """What the reader needs of the view's store."""

    async def all_docs(
        self,
        database: str,
        *,
        startkey: str | None = None,
        endkey: str | None = None,
        limit: int | None = None,
    ) -> list[Document]:
        """Documents that are not deleted, in id order, between two ids, both included."""


class Waiting:
    """Reads the queue. Destinations hold no colon, so that one of them is a range of ids."""

    def __init__(self, store: Range) -> None:
        """Read from the view's store."""
        self._store = store

    async def of(self, destination: str) -> AsyncIterator[Delivery]:
        """Give what waits for one destination, oldest first."""
        start, end = f"{destination}:", f"{destination};"
        async for found in self._between(start, end):
            yield found

    async def all(self) -> AsyncIterator[Delivery]:
        """Give everything that waits, by destination."""
        async for found in self._between("", None):
            yield found

    async def named(self, key: str) -> Delivery | None:
        """Return a delivery that has not ended, by its id."""
        async for found in self._between(f"{key}:", f"{key};"):
            return found
        return None

    async def destinations(self) -> list[str]:
        """Name every destination that something waits for, with one question for each."""
        found: list[str] = []
        start = ""
        while page := await self._store.all_docs(OUTBOX, startkey=start, limit=1):
            found.append(page[0].id.partition(":")[0])
            start = f"{found[-1]};"
        return found

    async def _between(self, start: str, end: str | None) -> AsyncIterator[Delivery]:
        while page := await self._store.all_docs(OUTBOX, startkey=start, endkey=end, limit=PAGE):
            for document in page:
                yield _state(document)
            start = page[-1].id + "\x00"
            await asyncio.sleep(0)
