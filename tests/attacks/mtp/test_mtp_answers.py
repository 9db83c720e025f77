"""Peers that answer a sender badly: each attack, and what the sender makes of it (wire spec section 3.3.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from events.attempt import Cause
from events.delivery import Delivery, DeliveryDeferred, DeliveryFailed, DeliveryReported, Phase
from node.core import DRAIN_SECONDS
from node.crypto.keys import ServerKeys
from node.mtp.status import MtpStatus
from node.rate import Limiter, Rate
from tests.integration.api.harness import User
from tests.integration.mtp import nodes
from tests.integration.mtp.nodes import Place, World, free_port, until
from tests.servers.peer import ScriptedPeer, receipt_of, saying, scripted_peer, signed_receipt

PEER = "evil.example"


class Attack:
    """A node that sends, and a peer that answers as it likes."""

    def __init__(self, world: World, peer: ScriptedPeer, alice: User) -> None:
        self.world = world
        self.peer = peer
        self.alice = alice

    @property
    def alpha(self) -> Place:
        return self.world.places["alpha"]

    async def send(self) -> str:
        return await self.alpha.sent(self.alice, self.peer.did)

    async def state(self, ident: str) -> Delivery:
        return await self.alpha.delivery(PEER, ident)

    async def deferred(self, ident: str) -> DeliveryDeferred:
        """Wait for the first deferral."""
        await until(self._deferrals)
        found: DeliveryDeferred = (await self.alpha.events(DeliveryDeferred))[0]
        return found

    async def _deferrals(self) -> bool:
        return bool(await self.alpha.events(DeliveryDeferred))

    async def failed(self, ident: str) -> DeliveryFailed:
        async def over() -> bool:
            return bool(await self.alpha.events(DeliveryFailed))

        await until(over)
        found: DeliveryFailed = (await self.alpha.events(DeliveryFailed))[0]
        return found

    async def delivered(self, ident: str) -> None:
        async def there() -> bool:
            return (await self.state(ident)).phase is Phase.DELIVERED

        await until(there)


@pytest.fixture
async def attack(tmp_path: Path) -> AsyncIterator[Attack]:
    port = free_port()
    async with scripted_peer(PEER, port) as peer, nodes.world(tmp_path, attempt_seconds=1.0) as world:
        world.elsewhere[PEER] = port
        world.zone = peer.record
        world.places["alpha"] = alpha = Place(world, "alpha")
        await alpha.start()
        yield Attack(world, peer, await alpha.user("alice"))


async def test_202_and_forget_is_delivered_for_us_and_never_confirmed(attack: Attack) -> None:
    """Nothing protects a sender from a peer that signs and forgets, but that no confirmation comes."""
    ident = await attack.send()
    await attack.delivered(ident)

    async def shown() -> bool:
        (one,) = await attack.alpha.recipients(attack.alice, ident)
        return one["state"] == "delivered" and "confirmed" not in one

    await until(shown)
    assert await attack.alpha.events(DeliveryReported) == []


@pytest.mark.parametrize(
    ("answer", "cause", "code"),
    [
        ((500, b"", {}), Cause.UNREACHABLE, "4.4.4"),
        ((502, b"<html>", {}), Cause.UNREACHABLE, "4.4.4"),
        ((408, b"", {}), Cause.UNREACHABLE, "4.4.4"),
        ((429, b"", {}), Cause.BUSY, "4.4.5"),
        ((429, b'{"code":429,"message":"fewer mails were agreed"}', {}), Cause.REFUSED, "4.8.10"),
        ((429, b'{"code":429,"message":"too many requests"}', {"Retry_After": "1"}), Cause.BUSY, "4.4.5"),
        ((503, b"", {"Retry_After": "1"}), Cause.BUSY, "4.4.5"),
        ((507, b'{"code":507,"message":"mailbox is full"}', {}), Cause.REFUSED, "4.2.2"),
        ((400, b'{"error":"signature verification failed"}', {}), Cause.REFUSED, "4.4.4"),
        ((400, b'{"error":"no Mailio DNS record found"}', {}), Cause.REFUSED, "4.4.4"),
        ((404, b"404 page not found", {}), Cause.REFUSED, "4.4.4"),
        ((202, b"garbage", {}), Cause.REFUSED, "4.4.4"),
        ((202, b"{}", {}), Cause.REFUSED, "4.4.4"),
        ((200, b"[" * 60_000, {}), Cause.REFUSED, "4.4.4"),
        ((302, b"", {"Location": "http://169.254.169.254/"}), Cause.REFUSED, "4.4.4"),
    ],
)
async def test_what_may_pass_is_tried_again_and_then_succeeds(
    attack: Attack, answer: tuple[int, bytes, dict[str, str]], cause: Cause, code: str
) -> None:
    status, body, headers = answer
    attack.peer.answer = saying(status, body, **headers)
    ident = await attack.send()
    deferred = await attack.deferred(ident)
    assert (deferred.cause, deferred.code) == (cause, code)
    attack.peer.answer = receipt_of
    await attack.delivered(ident)
    assert attack.peer.taken == [ident]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"code":400,"message":"error in field Type, tag oneof, parameter "}', "5.5.2"),
        (403, b'{"code":403,"message":"the recipient does not accept mail from this sender"}', "5.7.1"),
        (404, b'{"code":404,"message":"no such mailbox here"}', "5.1.1"),
        (409, b'{"code":409,"message":"another message of this id was received before"}', "5.5.1"),
        (413, b"", "5.3.4"),
    ],
)
async def test_a_no_is_a_no(attack: Attack, status: int, body: bytes, code: str) -> None:
    attack.peer.answer = saying(status, body)
    failed = await attack.failed(await attack.send())
    assert failed.code == code
    assert attack.peer.requests == 1


async def test_a_receipt_for_another_message_is_none(attack: Attack) -> None:
    attack.peer.answer = lambda peer, _, body: web.Response(
        status=202, body=signed_receipt(peer, "another"), content_type="application/json"
    )
    deferred = await attack.deferred(await attack.send())
    assert (deferred.cause, deferred.reason) == (Cause.REFUSED, "the receipt is for another message")


async def test_a_receipt_that_somebody_else_signed_is_none(attack: Attack) -> None:
    attack.peer.answer = lambda peer, _, body: web.Response(
        status=202, body=signed_receipt(peer, peer.came[-1], ServerKeys(b"\x99" * 32, 0))
    )
    ident = await attack.send()
    deferred = await attack.deferred(ident)
    assert (deferred.cause, deferred.reason) == (Cause.REFUSED, f"the receipt is not signed by {PEER}")
    failed = await attack.failed(ident)
    assert (failed.code, failed.number) == ("5.4.4", 5), "five times is enough"


async def test_control_characters_of_a_peer_reach_neither_log_nor_client(attack: Attack) -> None:
    attack.peer.answer = saying(404, b'{"message":"\\u001b[2J\\u0007gone\\r\\nX: \\u202eevil"}')
    ident = await attack.send()
    failed = await attack.failed(ident)
    assert failed.reason.isprintable()
    assert "gone" in failed.reason
    await attack.alpha.core.views.reached("userdb", attack.alpha.core.log.head)
    (shown,) = await attack.alpha.recipients(attack.alice, ident)
    assert shown["reason"] == failed.reason


async def test_a_huge_answer_is_not_read_to_its_end(attack: Attack) -> None:
    sent = 0

    async def flood(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        for _ in range(2_000):
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    attack.peer.answer = flood
    deferred = await attack.deferred(await attack.send())
    assert deferred.cause is Cause.REFUSED
    assert sent < 20_000_000


async def test_a_peer_that_never_answers_times_out_and_opens_the_breaker(attack: Attack) -> None:
    async def never(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        await peer.released.wait()
        return web.Response()

    attack.peer.answer = never
    deferred = await attack.deferred(await attack.send())
    assert (deferred.cause, deferred.code) == (Cause.UNREACHABLE, "4.4.1")


async def test_a_peer_that_answers_a_byte_at_a_time_is_left(attack: Attack) -> None:
    """Each byte comes in good time, the whole never would."""

    async def trickle(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=202, headers={"Content-Length": "10000"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while not peer.released.is_set():
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    attack.peer.answer = trickle
    ident = await attack.send()
    assert (await attack.deferred(ident)).cause is Cause.UNREACHABLE
    attack.peer.answer = receipt_of
    await attack.delivered(ident)


async def test_a_peer_that_stops_in_the_middle_is_tried_again(attack: Attack) -> None:
    async def half(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=202, headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"didCommRequest"')
        assert request.transport is not None
        request.transport.close()
        return response

    attack.peer.answer = half
    ident = await attack.send()
    assert (await attack.deferred(ident)).cause is Cause.UNREACHABLE
    attack.peer.answer = receipt_of
    await attack.delivered(ident)


async def test_a_year_of_retry_after_keeps_nothing_for_a_year(attack: Attack) -> None:
    attack.peer.answer = saying(429, Retry_After=str(365 * 86_400))
    ident = await attack.send()
    deferred = await attack.deferred(ident)
    assert deferred.until - deferred.at <= 1_000
    attack.peer.answer = receipt_of
    await attack.delivered(ident)


async def test_a_peer_whose_document_leads_elsewhere_is_not_followed(attack: Attack) -> None:
    """The endpoint must be on a host of the peer's own (wire spec section 10.3, S8)."""
    attack.peer.domain = "victim.example"
    failed_or_deferred = await attack.alpha.sent(attack.alice, f"did:web:{PEER}#{attack.peer.user.address}")
    deferred = await attack.deferred(failed_or_deferred)
    assert deferred.cause is Cause.REFUSED
    assert attack.peer.requests == 0


async def test_a_recipient_whom_the_peer_does_not_have_fails_at_once(attack: Attack) -> None:
    nobody = f"did:web:{PEER}#0x{'ab' * 20}"
    failed = await attack.failed(await attack.alpha.sent(attack.alice, nobody))
    assert (failed.code, failed.number) == ("5.1.1", 1)
    assert attack.peer.requests == 0


async def test_a_receipt_that_was_lost_costs_a_second_request_and_nothing_else(attack: Attack) -> None:
    lost = asyncio.Event()

    async def lose(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        if lost.is_set():
            return receipt_of(peer, request, body)
        lost.set()
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    attack.peer.answer = lose
    ident = await attack.send()
    await attack.delivered(ident)
    assert attack.peer.came == [ident, ident]


async def test_a_receipt_that_is_always_lost_is_made_up_for_by_the_report(attack: Attack) -> None:
    def lose(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    attack.peer.answer = lose
    ident = await attack.send()
    await attack.deferred(ident)
    said = [MtpStatus(2, 0, 0, "delivery confirmation", attack.peer.user.address)]
    await attack.alpha.core.reports.record(PEER, ident, said)
    assert (await attack.state(ident)).phase is Phase.DELIVERED
    asked = attack.peer.requests
    await attack.alpha.core.reports.record(PEER, ident, said)
    for view in ("userdb", "outbox"):
        await attack.alpha.core.views.reached(view, attack.alpha.core.log.head)
    (shown,) = await attack.alpha.recipients(attack.alice, ident)
    assert (shown["state"], shown["confirmed"], shown["code"]) == ("delivered", True, "2.0.0")
    assert await attack.alpha.core.federation.queue.destinations() == []
    assert attack.peer.requests == asked


async def test_a_message_to_more_people_at_a_host_than_it_is_asked_in_a_second_goes_at_once(
    attack: Attack,
) -> None:
    """Each has a document of their own; our own pace is nothing that the message has to wait a minute for."""
    core = attack.alpha.core
    core.discovery.client._pace = Limiter(core.clock, Rate(10.0, 10))
    others = [f"did:web:{PEER}#0x{number:040x}" for number in range(14)]
    ident = await attack.alpha.sent(attack.alice, attack.peer.did, *others)
    await attack.delivered(ident)
    assert (await attack.state(ident)).attempts == 1
    assert len((await attack.state(ident)).statuses) == len(others)


async def test_a_node_stops_at_once_whatever_its_peers_are_doing(attack: Attack) -> None:
    """One is slow in the middle of its answer, one is waited for, one has a name that nobody answers for."""

    async def half(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=202, headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        await peer.released.wait()
        return response

    attack.peer.answer = half
    await attack.send()
    await attack.alpha.sent(attack.alice, f"did:web:mio.away.example#0x{'ab' * 20}", "who@nobody.example")
    await until(lambda: attack.peer.requests)
    began = asyncio.get_running_loop().time()
    await attack.alpha.stop()
    assert asyncio.get_running_loop().time() - began < DRAIN_SECONDS / 2
