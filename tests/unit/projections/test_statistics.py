from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events.identity import sent_key
from projections.statistics import SenderStatistics, Statistics
from projections.stores.embedded import EmbeddedStore
from tests.factories import OTHER, OWNER, SENDER, Blobs, interest_shown, message_filed
from tests.unit.projections.conftest import Fed


@pytest.fixture
def fed(store: EmbeddedStore) -> Fed:
    return Fed(Statistics(), store)


async def test_messages_and_interest_are_counted_for_each_pair(
    fed: Fed, blobs: Blobs, store: EmbeddedStore
) -> None:
    await fed.take(
        message_filed(blobs),
        message_filed(blobs),
        message_filed(blobs, sender="else@beta.example"),
        interest_shown(message="m1"),
    )
    await fed.take(message_filed(blobs), stream=f"mailbox-{OTHER}")
    statistics = SenderStatistics(store)
    assert await statistics.received(OWNER, SENDER) == 2
    assert await statistics.received(OTHER, SENDER) == 1
    assert await statistics.interest(OWNER, SENDER) == 1
    assert await statistics.interest(OTHER, SENDER) == 0


async def test_a_sender_counts_by_address_wherever_its_server_is(
    fed: Fed, blobs: Blobs, store: EmbeddedStore
) -> None:
    await fed.take(message_filed(blobs, sender=f"did:web:mio.beta.example#{OTHER}"))
    assert await SenderStatistics(store).received(OWNER, OTHER) == 1


async def test_a_name_beside_an_email_makes_no_other_sender(
    fed: Fed, blobs: Blobs, store: EmbeddedStore
) -> None:
    await fed.take(message_filed(blobs, sender=f"A Friend <{SENDER}>"), message_filed(blobs, sender=SENDER))
    assert await SenderStatistics(store).received(OWNER, SENDER) == 2


async def test_a_counter_is_stored_with_the_hashes_of_its_pair(fed: Fed, blobs: Blobs) -> None:
    await fed.take(message_filed(blobs), message_filed(blobs))
    key = sent_key(SENDER, OWNER)
    _, sender, recipient = key.split(":")
    document = await fed.document("email_statistics", key)
    assert len(document.tree.leaves()) == 1
    assert msgspec.json.decode(document.winner.body) == {"sender": sender, "recipient": recipient, "count": 2}


async def test_a_counter_rises_in_one_batch_as_in_many(blobs: Blobs, tmp_path: Path) -> None:
    events = [message_filed(blobs) for _ in range(5)]
    digests = set()
    for batches in (1, 5):
        store = EmbeddedStore.open(tmp_path / f"{batches}.sqlite", revs_limit=1)
        fed = Fed(Statistics(), store)
        size = len(events) // batches
        for start in range(0, len(events), size):
            await fed.take(*events[start : start + size])
        digests.add(await store.digest())
        await store.close()
    assert len(digests) == 1
