"""From one node to another: sent, filed once, confirmed; and what a sender sees on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import encode_basic_auth

from events.attempt import Outcome
from events.delivery import Delivery, Phase
from events.errors import StorageUnavailable, TooEarly
from events.event import Recorded
from events.log.codec import Codec
from events.log.reading import LogReader
from events.mailbox import MessageFiled
from node.crypto.envelope import Envelopes
from node.inspection.why import Archive, explain
from node.mtp.status import MtpStatus
from node.mtp.verifying import Verified
from node.views import revs_limit
from projections.rebuild import build
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from tests.integration.api.harness import PASSWORD, User, database
from tests.integration.mtp import nodes
from tests.integration.mtp.nodes import JWE, Place, World, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with nodes.world(tmp_path, "alpha", "beta") as found:
        yield found


async def test_a_message_is_filed_at_the_other_node_and_confirmed_to_its_sender(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    ident = await alpha.sent(alice, beta.did(bob))

    await confirmed(alpha, alice, ident)
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


async def confirmed(place: Place, user: User, ident: str) -> None:
    async def all_confirmed() -> bool:
        shown = await place.recipients(user, ident)
        return bool(shown) and all(one.get("confirmed") for one in shown)

    await until(all_confirmed)


async def ended(place: Place, user: User, ident: str, state: str) -> dict[str, Any]:
    """Wait for the state of the one recipient."""

    async def there() -> bool:
        return any(one["state"] == state for one in await place.recipients(user, ident))

    await until(there)
    return (await place.recipients(user, ident))[0]


async def test_a_recipient_is_found_by_email_and_its_report_counts(world: World) -> None:
    """The report comes from the server of the email's domain, which is another name than the domain."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    ident = await alpha.sent(alice, bob.email, kids=[beta.did(bob)])
    await confirmed(alpha, alice, ident)
    (shown,) = await alpha.recipients(alice, ident)
    assert (shown["recipient"], shown["destination"]) == (bob.email, "beta.example")
    assert shown["address"] == bob.address
    assert len(await beta.mail(bob)) == 1


async def test_a_report_that_overtakes_its_receipt_is_told_again(world: World) -> None:
    """By email: before its receipt is here, alpha does not know whose address the report names."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    record, take = alpha.core.reports.record, beta.core.peer_door._taken.take
    too_early = asyncio.Event()

    async def recorded(peer: str, message_id: str, statuses: Sequence[MtpStatus]) -> None:
        try:
            await record(peer, message_id, statuses)
        except TooEarly:
            too_early.set()
            raise

    async def taken(verified: Verified, client: str) -> bytes:
        receipt = await take(verified, client)
        await too_early.wait()
        return receipt

    alpha.core.reports.record = recorded  # type: ignore[method-assign]
    beta.core.peer_door._taken.take = taken  # type: ignore[method-assign]
    ident = await alpha.sent(alice, bob.email, kids=[beta.did(bob)])
    await confirmed(alpha, alice, ident)
    assert len(await beta.mail(bob)) == 1
    assert (await alpha.delivery(beta.email_domain, ident)).attempts == 1


async def test_what_was_sent_is_counted_for_its_sender(world: World) -> None:
    """Wire spec section 4.5: by recipient, whichever name is asked for, and by day."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    await confirmed(alpha, alice, await alpha.sent(alice, beta.did(bob)))
    await confirmed(alpha, alice, await alpha.sent(alice, bob.email, kids=[beta.did(bob)]))
    assert alpha.node is not None
    for sender, count in ((beta.did(bob), 1), (bob.address, 1), (bob.email, 1), ("else@beta.example", 0)):
        answer = await alpha.node.get(f"/api/v1/emailstatistics?sender={quote(sender)}", alice.token)
        assert answer.json == {"received": 0, "sent": count, "interest": 0, "sentByDay": 2}
    assert beta.node is not None
    answer = await beta.node.get(f"/api/v1/emailstatistics?sender={alice.address}", bob.token)
    assert answer.json == {"received": 2, "sent": 0, "interest": 0, "sentByDay": 0}


async def test_an_email_that_nobody_has_fails_and_plain_mail_is_not_tried(world: World) -> None:
    alpha, alice = world.places["alpha"], await world.places["alpha"].user("alice")
    world.zone = "plain.example. 300 IN MX 10 mx.plain.example.\n"
    world.publish()
    missing = await alpha.sent(alice, "nobody@beta.example")
    assert (await ended(alpha, alice, missing, "failed"))["code"] == "5.1.1"
    plain = await alpha.sent(alice, "friend@plain.example")
    shown = await ended(alpha, alice, plain, "failed")
    assert (shown["code"], shown["reason"]) == ("5.1.1", "the recipient's domain takes plain mail only")


async def test_a_message_to_people_here_and_there_is_one_message(world: World) -> None:
    """Recipients on the own node need no network, and are confirmed like all others."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, carol, bob = await alpha.user("alice"), await alpha.user("carol"), await beta.user("bob")
    ident = await alpha.sent(alice, alpha.did(carol), beta.did(bob))
    await confirmed(alpha, alice, ident)
    assert len(await alpha.mail(carol)) == len(await beta.mail(bob)) == 1
    assert {one["destination"] for one in await alpha.recipients(alice, ident)} == {alpha.domain, beta.domain}


async def test_nobody_here_has_that_email(world: World) -> None:
    alpha, alice = world.places["alpha"], await world.places["alpha"].user("alice")
    ident = await alpha.sent(alice, "nobody@alpha.example")
    assert (await ended(alpha, alice, ident, "failed"))["code"] == "5.1.1"


async def test_of_two_emails_here_the_one_that_nobody_has_fails(world: World) -> None:
    alpha = world.places["alpha"]
    alice, carol = await alpha.user("alice"), await alpha.user("carol")
    ident = await alpha.sent(alice, carol.email, "nobody@alpha.example", kids=[alpha.did(carol)])

    async def told() -> bool:
        shown = {one["recipient"]: one for one in await alpha.recipients(alice, ident)}
        return bool(shown) and shown[carol.email].get("confirmed", False)

    await until(told)
    _, missing = await alpha.recipients(alice, ident)
    assert (missing["state"], missing["code"]) == ("failed", "5.1.1")
    assert "confirmed" not in missing


async def test_a_message_for_somebody_here_outlasts_a_disk_that_is_full_for_long(world: World) -> None:
    """Longer than a peer's refusals would be borne."""
    alpha = world.places["alpha"]
    alice, carol = await alpha.user("alice"), await alpha.user("carol")
    keep = alpha.core.acceptance.keep

    async def full(*_: object) -> Recorded:
        raise StorageUnavailable("temporary failure", "no space left on device")

    alpha.core.acceptance.keep = full  # type: ignore[method-assign, assignment]
    ident = await alpha.sent(alice, alpha.did(carol))

    async def tried() -> bool:
        state = await alpha.delivery(alpha.domain, ident)
        assert not state.final, state.reason
        return state.attempts > alpha.core.settings.delivery.refusals

    await until(tried)
    alpha.core.acceptance.keep = keep  # type: ignore[method-assign]
    await confirmed(alpha, alice, ident)
    assert len(await alpha.mail(carol)) == 1


async def test_messages_wait_for_a_node_that_is_away_and_come_in_order(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    to = beta.did(bob)
    await beta.stop()
    world.publish()
    idents = [await alpha.sent(alice, to) for _ in range(4)]
    await ended(alpha, alice, idents[0], "deferred")
    await beta.start()
    for ident in idents:
        await confirmed(alpha, alice, ident)
    received = [one["didCommMessage"]["id"] for one in await beta.mail(bob)]
    assert received == idents


async def test_a_sender_that_dies_in_the_middle_of_an_attempt_delivers_once(world: World) -> None:
    """The peer has the message, its receipt never arrives: sent again, the peer recognises it."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    outgoing = alpha.core.federation.outgoing
    carried, carry = asyncio.Event(), outgoing.courier.carry

    async def carry_and_die(delivery: Delivery) -> Outcome:
        outcome = await carry(delivery)
        carried.set()
        await asyncio.Event().wait()
        return outcome

    outgoing.courier.carry = carry_and_die  # type: ignore[method-assign]
    ident = await alpha.sent(alice, beta.did(bob))
    await asyncio.wait_for(carried.wait(), 10)
    await alpha.stop()
    await alpha.start()
    await confirmed(alpha, alice, ident)
    assert (await alpha.delivery(beta.domain, ident)).attempts == 2
    assert len(await beta.events(MessageFiled)) == 1
    assert len(await beta.mail(bob)) == 1


async def test_what_waits_can_be_taken_back_and_what_has_gone_can_not(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob, eve = await alpha.user("alice"), await beta.user("bob"), await alpha.user("eve")
    assert alpha.node is not None
    gone = await alpha.sent(alice, beta.did(bob))
    await confirmed(alpha, alice, gone)
    await beta.stop()
    world.publish()
    waiting = await alpha.sent(alice, beta.did(bob))
    await ended(alpha, alice, waiting, "deferred")

    async def cancel(user: User, ident: str) -> int:
        answer = await alpha.node.call(  # type: ignore[union-attr]
            "POST", "/api/v1/sendcancel", {"smtpId": "", "didCommId": ident}, token=user.token
        )
        return answer.status

    assert await cancel(alice, gone) == 409
    assert await cancel(eve, waiting) == 404, "somebody else's message"
    assert await cancel(alice, "ab" * 32) == 404
    assert await cancel(alice, "../secret") == 400

    async def cancelled() -> bool:
        """Again and again: it may just be tried."""
        return await cancel(alice, waiting) == 202

    await until(cancelled)
    await ended(alpha, alice, waiting, "cancelled")


async def test_a_recipient_who_knows_a_messages_id_can_not_take_it_back(world: World) -> None:
    """A document of the same name in the recipient's own database says where the others are."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob, eve = await alpha.user("alice"), await beta.user("bob"), await alpha.user("eve")
    await beta.stop()
    world.publish()
    ident = await alpha.sent(alice, beta.did(bob), alpha.did(eve))
    await until(lambda: alpha.mail(eve))
    (shown,) = [one for one in await alpha.recipients(alice, ident) if one["destination"] == beta.domain]
    planted = {
        "type": "message_delivery",
        "messageId": ident,
        "created": 1,
        "modified": 1,
        "recipients": [shown],
    }
    assert alpha.node is not None
    path = f"/{database(eve)}/delivery:{ident}"
    headers = {"Authorization": encode_basic_auth(eve.address, PASSWORD)}
    written = await alpha.node.http.put(path, json=planted, headers=headers)
    assert written.status == 201, await written.text()
    for _ in range(20):
        answer = await alpha.node.call(
            "POST", "/api/v1/sendcancel", {"smtpId": "", "didCommId": ident}, token=eve.token
        )
        assert answer.status == 404, answer
    assert not (await alpha.delivery(beta.domain, ident)).final


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"createdTime": 0}, 400, "error in field CreatedTime, tag required, parameter "),
        ({"type": "text/html"}, 400, None),
        ({"intent": "delivery"}, 400, None),
        ({"body": None}, 400, None),
        ({"to": []}, 422, "No recipient"),
        ({"to": ["did:mailio:0x" + "ab" * 20]}, 422, "failed to validate recipient"),
        ({"to": ["did:web:localhost:8080#0x" + "ab" * 20]}, 422, "failed to validate recipient"),
        ({"to": [], "toEmails": [{"email": "no", "emailHash": ""}]}, 422, "one of the recipients has invalid email"),
        ({"to": [], "toEmails": [{"email": f"a{n}@b.example", "emailHash": ""} for n in range(51)]}, 422, None),
        ({"body": {**JWE, "ciphertext": "x" * 3_145_729, "recipients": [{"encrypted_key": "a", "header": {"kid": "k"}}]}}, 413, None),
        ({"attachments": [{"id": "a", "data": {"links": []}}] * 51}, 422, None),
        ({"attachments": [{"id": "a", "data": {"links": ["https://x.example/secret?enc=1"]}}]}, 403, None),
    ],
)  # fmt: skip
async def test_what_a_client_may_not_send_is_refused(
    world: World, changes: dict[str, Any], status: int, text: str | None
) -> None:
    alpha = world.places["alpha"]
    alice = await alpha.user("alice")
    answer = await alpha.send(alice, f"did:web:beta.example#0x{'ab' * 20}", **changes)
    assert answer.status == status, answer
    assert text is None or answer.json["message"] == text
    assert await alpha.core.federation.queue.destinations() == []


async def test_a_peer_can_not_speak_for_a_message_that_went_elsewhere(world: World) -> None:
    """Only who serves a recipient's domain is heard (wire spec section 10.3, S9)."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    ident = await alpha.sent(alice, beta.did(bob))
    await confirmed(alpha, alice, ident)
    before = alpha.core.log.head
    lie = [MtpStatus(5, 1, 1, "no such user", bob.address)]
    for liar in ("evil.example", "example", "mio.evil.example", f"x.{beta.domain}"):
        await alpha.core.reports.record(liar, ident, lie)
    for odd in ("ab" * 32, "../etc", "", "x" * 10_000):
        await alpha.core.reports.record(beta.domain, odd, lie)
    stranger = [MtpStatus(5, 1, 1, "no", alice.address)]
    await alpha.core.reports.record(beta.domain, ident, stranger)
    assert alpha.core.log.head == before
    await alpha.core.reports.record(
        beta.domain, ident, [MtpStatus(2, 2, 2, "mailbox full\x1b[2J", bob.address)]
    )
    shown = await ended(alpha, alice, ident, "failed")
    assert (shown["code"], shown["reason"].isprintable()) == ("2.2.2", True), "class 2 is no success here"


async def test_the_other_nodes_documents_by_email(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    assert alpha.node is not None
    wanted = [{"email": one, "emailHash": ""} for one in (bob.email, alice.email, "no@beta.example")]
    answer = await alpha.node.call("POST", "/api/v1/resolve/did", {"lookups": wanted}, token=alice.token)
    assert answer.status == 200, answer
    found = {one["email"]: one["didDocument"]["id"] for one in answer.json["found"]}
    assert found == {bob.email: f"did:mailio:{bob.address}", alice.email: f"did:mailio:{alice.address}"}
    assert [one["email"] for one in answer.json["notFound"]] == ["no@beta.example"]


async def test_views_that_are_rebuilt_say_the_same(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    await confirmed(alpha, alice, await alpha.sent(alice, beta.did(bob)))
    await beta.stop()
    world.publish()
    await ended(alpha, alice, await alpha.sent(alice, beta.did(bob)), "deferred")
    await alpha.core.federation.stop()
    assert alpha.node is not None
    await alpha.node.settled()
    for name in ("outbox", "userdb"):
        path = world.folder / f"{name}.again"
        again = BuildingStore.open(path, revs_limit=revs_limit(name))
        await build(alpha.core.views.views[name], alpha.core.log, again, alpha.core.log.head)
        await again.close()
        rebuilt = EmbeddedStore.open(path, revs_limit=revs_limit(name))
        assert await rebuilt.digest() == await alpha.core.views.stores[name].digest()
        await rebuilt.close()


async def test_an_attachment_goes_along_and_only_ones_own(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob, eve = await alpha.user("alice"), await beta.user("bob"), await alpha.user("eve")
    assert alpha.node is not None
    made = await alpha.node.get("/api/v1/s3presign?objectKey=photo&method=put", alice.token)
    place = made.json["url"].removeprefix(f"https://{alpha.domain}")
    async with alpha.node.http.put(place, data=b"sealed bytes") as answer:
        link = (await answer.json())["url"]
    attachments = [{"id": "../photo", "data": {"links": [link + "?enc=1", "https://lost.example/x"]}}]
    stolen = await alpha.send(eve, beta.did(bob), attachments=attachments)
    assert stolen.status == 403
    ident = await alpha.sent(alice, beta.did(bob), attachments=attachments)
    await confirmed(alpha, alice, ident)
    store = beta.core.views.stores["userdb"]
    (document,) = [one for one in await store.documents_since(database(bob)) if one.winner.attachments]
    assert await beta.core.blobs.read(document.winner.attachments[0].blob) == b"sealed bytes"
    kept = (await alpha.documents(alice))[ident]["didCommMessage"]["attachments"][0]["data"]
    assert "base64" not in kept


async def test_why_tells_the_whole_way_of_a_sent_message(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    ident = await alpha.sent(alice, beta.did(bob))
    await confirmed(alpha, alice, ident)
    with LogReader.open(world.folder / "alpha" / "log.sqlite") as reader:
        codec = Codec(sealer=Envelopes(alpha.core.vault))
        (story,) = await explain(Archive(reader, codec, None), ident)
    (branch,) = story.branches
    assert [step.what for step in branch.steps[:5]] == ["sent"] + ["delivery"] * 4
    assert f"{beta.domain}: taken by {beta.domain} at attempt 1" in [step.text for step in branch.steps]


async def test_a_peer_that_writes_to_us_gets_what_has_waited_for_it(world: World) -> None:
    """The next probe would be an hour away: the peer's own message is as good."""
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    await alpha.stop()
    await alpha.start(
        breaker_failures=1, breaker_seconds=3_600.0, first_seconds=3_600.0, most_seconds=3_600.0
    )
    to = beta.did(bob)
    await beta.stop()
    world.publish()
    idents = [await alpha.sent(alice, to) for _ in range(3)]
    await ended(alpha, alice, idents[0], "deferred")
    await beta.start()
    await beta.sent(bob, alpha.did(alice))
    for ident in idents:
        await confirmed(alpha, alice, ident)


async def test_what_an_erased_sender_has_waiting_is_gone_and_others_messages_go(world: World) -> None:
    alpha, beta = world.places["alpha"], world.places["beta"]
    alice, carol, bob = await alpha.user("alice"), await alpha.user("carol"), await beta.user("bob")
    to = beta.did(bob)
    await beta.stop()
    world.publish()
    hers = await alpha.sent(alice, to)
    kept = await alpha.sent(carol, to)
    await ended(alpha, alice, hers, "deferred")
    await alpha.core.erasure.erase(alice.address, "", "operator")
    await alpha.core.views.reached("outbox", alpha.core.log.head)
    assert {one.owner async for one in alpha.core.federation.queue.waiting.all()} == {carol.address}
    await beta.start()
    await confirmed(alpha, carol, kept)
    assert [one["didCommMessage"]["id"] for one in await beta.mail(bob)] == [kept]
