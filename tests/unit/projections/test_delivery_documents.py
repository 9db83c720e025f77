"""What a sender sees of each recipient: what was said of one stands, whatever is said of all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.attempt import Addressee, Cause, RecipientStatus
from events.delivery import (
    STREAM,
    DeliveryDeferred,
    DeliveryFailed,
    DeliveryReported,
    DeliveryScheduled,
    Kind,
    MessageDelivered,
    delivery_id,
)
from events.event import Event
from events.identity import userdb_name
from projections.deliveries import DELIVERY_ID
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from tests.factories import OTHER, OWNER, Blobs
from tests.unit.projections.conftest import Fed

BOB, EVE = "0x" + "b0" * 20, "0x" + "e0" * 20
SCHEDULED = DeliveryScheduled(
    owner=OWNER,
    kind=Kind.MESSAGE,
    message="m1",
    destination="beta.example",
    addressees=tuple(Addressee(did=f"did:web:beta.example#{one}", address=one) for one in (BOB, EVE)),
    scheduled_at=1,
    expires_at=1_000,
)
DEFERRED = DeliveryDeferred(
    owner=OWNER, number=1, at=2, until=9, cause=Cause.UNREACHABLE, code="4.4.1", reason="no answer"
)
DELIVERED = MessageDelivered(owner=OWNER, number=2, at=9, code="2.0.0", text="message sent")
FAILED = DeliveryFailed(owner=OWNER, number=2, at=9, code="5.4.7", reason="not delivered in time")


def reported(address: str, code: str, text: str) -> DeliveryReported:
    status = RecipientStatus(address=address, code=code, text=text)
    return DeliveryReported(owner=OWNER, at=5, peer="beta.example", statuses=(status,))


@pytest.fixture
def userdb(blobs: Blobs, store: EmbeddedStore) -> Fed:
    return Fed(UserDatabases(blobs), store)


async def shown(userdb: Fed, *events: Event) -> dict[str, dict[str, Any]]:
    """Feed the events of one delivery; return what is shown of each recipient."""
    for event in events:
        await userdb.take(event, stream=STREAM + delivery_id("beta.example", "m1"))
    document = await userdb.document(userdb_name(OWNER), DELIVERY_ID + "m1")
    return {one["address"]: one for one in msgspec.json.decode(document.winner.body)["recipients"]}


async def test_who_was_turned_away_by_report_stays_so_when_the_receipt_comes_later(userdb: Fed) -> None:
    said = reported(EVE, "5.8.2", "not from you")
    found = await shown(userdb, SCHEDULED, DEFERRED, said, DELIVERED)
    assert (found[BOB]["state"], found[BOB]["attempts"]) == ("delivered", 2)
    assert (found[EVE]["state"], found[EVE]["code"], found[EVE]["reason"]) == (
        "failed", "5.8.2", "not from you",
    )  # fmt: skip


async def test_who_has_the_message_by_report_has_it_when_its_time_is_over_for_the_others(userdb: Fed) -> None:
    found = await shown(userdb, SCHEDULED, DEFERRED, reported(BOB, "2.0.0", "delivery confirmation"), FAILED)
    assert (found[BOB]["state"], found[BOB]["confirmed"]) == ("delivered", True)
    assert (found[EVE]["state"], found[EVE]["code"]) == ("failed", "5.4.7")


async def test_a_report_about_somebody_else_changes_nothing(userdb: Fed) -> None:
    found = await shown(userdb, SCHEDULED, DELIVERED, reported(OTHER, "5.1.1", "nobody"))
    assert {one["state"] for one in found.values()} == {"delivered"}
