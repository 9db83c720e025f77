"""The queue of deliveries, from their promise to their end."""

from __future__ import annotations

import msgspec

from events.attempt import Addressee
from events.delivery import STREAM, AttemptStarted, Delivery, DeliveryScheduled, Kind, delivery_id
from events.event import Event, Recorded
from projections.outbox import OUTBOX, Outbox
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Change, Document
from tests.factories import OWNER, recorded

SCHEDULED = DeliveryScheduled(
    owner=OWNER,
    kind=Kind.REPORT,
    message="m1",
    destination="beta.example",
    addressees=(Addressee(did="did:web:beta.example#0x" + "b0" * 20),),
    scheduled_at=1,
    expires_at=1_000,
)
STARTED = AttemptStarted(owner=OWNER, number=1, at=2)
KEY = delivery_id("beta.example", "m1")


def record(event: Event, version: int) -> Recorded:
    return msgspec.structs.replace(recorded(event, version, STREAM + KEY), version=version)


class Untouched:
    """A store that nobody may ask."""

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002
        raise AssertionError(f"{database}/{id} was looked for")


async def test_a_promise_is_queued_without_a_look_for_what_can_not_be_there() -> None:
    (change,) = await Outbox().apply(record(SCHEDULED, 1), Untouched())
    assert isinstance(change, Change)
    assert change.id == f"{KEY}:{OWNER}"


async def test_a_promise_that_is_told_again_takes_nothing_back(store: EmbeddedStore) -> None:
    view, told = Outbox(), [record(SCHEDULED, 1), record(STARTED, 2), record(SCHEDULED, 1)]
    for position, one in enumerate(told, 1):
        await store.write(await view.apply(one, store), position, view.schema)
    found = await store.get(OUTBOX, f"{KEY}:{OWNER}")
    assert found is not None
    state = msgspec.json.decode(found.winner.body, type=Delivery)
    assert (state.version, state.attempts, state.trying) == (2, 1, True)
