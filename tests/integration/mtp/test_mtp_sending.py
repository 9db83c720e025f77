"""From one node to another: sent, filed once, confirmed; and what a sender sees on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.delivery import Phase
from events.mailbox import MessageFiled
from tests.integration.mtp import nodes
from tests.integration.mtp.nodes import World, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with nodes.world(tmp_path, "alpha", "beta") as found:
        yield found


async def test_a_message_is_filed_at_the_other_node_and_confirmed_to_its_sender(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    ident = await alpha.sent(alice, beta.did(bob))

    async def confirmed() -> bool:
        return any(one.get("confirmed") for one in await alpha.recipients(alice, ident))

    await until(confirmed)
    (received,) = await beta.mail(bob)
    assert received["didCommMessage"]["id"] == ident
    assert received["from"] == alpha.did(alice)
    documents = await alpha.documents(alice)
    assert documents[ident]["folder"] == "sent"
    assert documents[ident]["isRead"] is True
    (shown,) = documents[f"delivery:{ident}"]["recipients"]
    assert shown == {
        "recipient": beta.did(bob), "destination": beta.domain, "address": bob.address, "state": "delivered",
        "code": "2.0.0", "reason": "delivery confirmation", "attempts": 1, "confirmed": True,
    }  # fmt: skip
    assert len(await beta.events(MessageFiled)) == 1
    assert (await alpha.delivery(beta.domain, ident)).phase is Phase.DELIVERED
