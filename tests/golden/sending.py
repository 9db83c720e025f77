"""What goes out in the life of a small node: something of every event of deliveries and destinations."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.federation import Intervene
from actors.outgoing import KIND, DeliverySettings, Outgoing
from events.attempt import Cause, Outcome, Verdict
from events.delivery import (
    Cancel,
    Delivery,
    DeliveryDeferred,
    DeliveryFailed,
    Drop,
    Hasten,
    Hold,
    MessageDelivered,
    Release,
    delivery_id,
)
from events.destination import BreakerClosed, PauseAsked, PeerContacted, ProbeStarted
from events.event import Event
from node.core import Core
from node.mtp.status import MtpStatus
from tests.integration.api.harness import Node, User

THERE = "0x" + "b2" * 20
RECEIVED = Outcome(verdict=Verdict.DELIVERED, code="2.0.0", text="message sent", server="mio.beta.example")
DEAD = Outcome(verdict=Verdict.LATER, code="4.4.1", text="no answer", cause=Cause.UNREACHABLE)
BUSY = Outcome(verdict=Verdict.LATER, code="4.4.5", text="HTTP 429", cause=Cause.BUSY, retry_after=20)
NO = Outcome(verdict=Verdict.FINAL, code="5.1.1", text="no such mailbox here")


class Script:
    """A courier that says the same until it is told otherwise."""

    def __init__(self) -> None:
        self.says = RECEIVED

    async def carry(self, delivery: Delivery) -> Outcome:
        await asyncio.sleep(0.002)
        return self.says


class Post:
    """Sends as one user, and lets happen what can happen."""

    def __init__(self, node: Node, sender: User) -> None:
        self._node = node
        self._core: Core = node.core
        self._sender = sender
        self._script = Script()

    async def run(self) -> None:
        outgoing: Outgoing = self._core.federation.outgoing
        outgoing.courier = self._script
        outgoing.settings = DeliverySettings(
            first_seconds=0.01,
            most_seconds=0.05,
            breaker_seconds=0.01,
            breaker_failures=2,
            probe_seconds=0.001,
        )
        await self._core.federation.open(self._core.log.head)
        await self._through_trouble(outgoing)
        self._script.says = NO
        await self._sent("no.example")
        await self._until(DeliveryFailed)
        await self._by_hand()
        await self._core.federation.stop()

    async def _through_trouble(self, outgoing: Outgoing) -> None:
        """A peer that is dead, comes to us, is busy, takes the message and confirms it."""
        self._script.says = DEAD
        ident = await self._sent("mio.beta.example")
        await self._until(ProbeStarted)
        while not await self._has(PeerContacted):
            outgoing.seen("mio.beta.example")
            await asyncio.sleep(0.01)
        self._script.says = BUSY
        await self._until(PauseAsked)
        self._script.says = RECEIVED
        await self._until(MessageDelivered)
        await self._until(BreakerClosed)
        told = [MtpStatus(2, 0, 0, "delivery confirmation", THERE)]
        await self._core.reports.record("mio.beta.example", ident, told)

    async def _by_hand(self) -> None:
        """What operators and senders do to deliveries that wait."""
        self._script.says = DEAD
        first, second = await self._sent("slow.example"), await self._sent("slow.example")
        await self._until(DeliveryDeferred)
        now = self._core.clock.now
        for ident, command in (
            (first, Hasten(now())), (first, Hold(now(), "looks odd")), (first, Release(now())),
            (first, Hold(now())), (first, Cancel(now(), self._sender.address)), (second, Drop(now(), "not wanted")),
        ):  # fmt: skip
            key = delivery_id("slow.example", ident)
            if not isinstance(command, Hold):
                await self._untried(key)
            await self._core.actors.ask(KIND, "slow.example", Intervene(key, command, "operator"))

    async def _untried(self, key: str) -> None:
        """Wait until no attempt is under way."""
        while (state := await self._state(key)) is not None and state.trying:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.005)

    async def _state(self, key: str) -> Delivery | None:
        await self._node.settled()
        return await self._core.federation.queue.waiting.named(key)

    async def _sent(self, host: str) -> str:
        did = f"did:web:{host}#{THERE}"
        recipient: dict[str, Any] = {"encrypted_key": "a2V5", "header": {"kid": did}}
        body = {"aad": "YWFk", "ciphertext": "Yw", "iv": "aXY", "tag": "dGFn", "protected": "e30"}
        message = {
            "type": "application/didcomm-encrypted+json",
            "createdTime": 1,
            "intent": "message",
            "to": [did],
            "body": body | {"recipients": [recipient]},
        }
        answer = await self._node.call(
            "POST", "/api/v1/senddid", {"didCommMessage": message}, token=self._sender.token
        )
        assert answer.status == 202, answer
        ident: str = answer.json["didCommId"]
        return ident

    async def _has(self, kind: type[Event]) -> bool:
        return bool(await self._core.log.read(0, 1, types={kind.__name__}))

    async def _until(self, kind: type[Event]) -> None:
        async with asyncio.timeout(10):
            while not await self._has(kind):  # noqa: ASYNC110 - the log tells nobody of single types
                await asyncio.sleep(0.005)
