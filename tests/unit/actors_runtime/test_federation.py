"""Destinations: in order, at their own pace, and none in the way of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.federation import Intervene, ResetDestination
from actors.messages import Inspect
from actors.outgoing import KIND, MAX_FIGURES, OTHERS
from actors.runtime.reaction import React, ReactAll
from actors.window import SHARE, SIZE, Window
from events.attempt import Cause, Outcome, RecipientStatus, Verdict
from events.delivery import (
    AttemptStarted,
    Cancel,
    Delivery,
    DeliveryScheduled,
    Drop,
    Hasten,
    Hold,
    Kind,
    MessageDelivered,
    NoteReport,
    Phase,
    Release,
)
from events.destination import Breaker, Destination
from events.errors import Busy, Conflict, Gone, StorageUnavailable
from events.event import Recorded
from events.log.log import Write
from events.mailbox import MessageFiled
from events.mailbox import stream as mailbox_stream
from events.policy import Folder, Reason, Transport
from node.discovery.targets import FetchRefused, Refusal
from node.mtp.judging import of_error
from tests.fakes.federation import ALICE, DEAD, EVE, NO, ORIGIN, RECEIVED, REFUSED, Node, close_all

HOUR = 3_600_000


@pytest.fixture(autouse=True)
async def ended() -> AsyncIterator[None]:
    yield
    await close_all()


async def breaker(node: Node, destination: str = "beta.example") -> Destination:
    found = await node.actors.ask(KIND, destination, Inspect())
    assert isinstance(found, Destination)
    return found


async def ask(
    node: Node, message: str, command: Cancel | Drop | Hold | Hasten | Release | NoteReport
) -> Delivery:
    state = await node.actors.ask(
        KIND, "beta.example", Intervene(f"beta.example:{message}", command, "operator")
    )
    await node.settle()
    assert isinstance(state, Delivery)
    return state


async def test_the_attempt_is_in_the_log_before_the_peer_is_dialled() -> None:
    node = await Node().open()
    logged: list[str] = []

    def answer(_: Delivery) -> Outcome:
        logged.extend(type(record.event).__name__ for record in node.log.records)
        return RECEIVED

    node.courier.answers["beta.example"] = answer
    await node.send("m1")
    assert logged == [DeliveryScheduled.__name__, AttemptStarted.__name__]
    assert node.state("m1").phase is Phase.DELIVERED
    assert isinstance(node.log.records[-1].event, MessageDelivered)


async def test_messages_of_a_sender_go_in_order_even_when_the_first_fails() -> None:
    node = await Node().open()
    tries = count(1)
    node.courier.answers["beta.example"] = lambda _: REFUSED if next(tries) == 1 else RECEIVED
    await node.send("m1", "m2", "m3")
    assert node.courier.to("beta.example") == ["m1"]
    await node.pass_time(HOUR)
    assert node.courier.to("beta.example") == ["m1", "m1", "m2", "m3"]


async def test_one_sender_does_not_wait_for_another() -> None:
    node = await Node().open()
    node.courier.answers["beta.example"] = lambda one: REFUSED if one.owner == ALICE else RECEIVED
    await node.send("a1")
    await node.send("e1", owner=EVE)
    assert node.state("e1").phase is Phase.DELIVERED
    assert node.state("a1").phase is Phase.WAITING


async def test_a_sender_with_more_than_its_share_keeps_no_newcomer_waiting() -> None:
    node = await Node().open()
    node.courier.answers["beta.example"] = lambda one: REFUSED if one.owner == ALICE else RECEIVED
    await node.send(*(f"a{number:03}" for number in range(SHARE + 1)))
    await node.send("e1", owner=EVE)
    assert node.state("e1").phase is Phase.DELIVERED
    assert node.courier.to("beta.example") == ["a000", "e1"]


async def test_no_more_go_to_one_destination_at_once_than_the_setting_says() -> None:
    node = await Node(concurrency=3).open()
    node.courier.hold["beta.example"] = asyncio.Event()
    for number in range(20):
        await node.send(f"m{number}", owner=f"0x{number:040x}")
    assert node.courier.most_at_once == {"beta.example": 3}
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert len(node.courier.to("beta.example")) == 20
    assert node.courier.most_at_once == {"beta.example": 3}


async def test_a_dead_destination_is_left_alone_and_comes_back_in_order() -> None:
    node = await Node(breaker_failures=3, concurrency=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    senders = [f"0x{number:040x}" for number in range(30)]
    for number, sender in enumerate(senders):
        await node.send(f"m{number:02}", owner=sender)
    assert len(node.courier.carried) == 3
    assert (await breaker(node)).breaker is Breaker.OPEN
    await node.pass_time(20 * HOUR)
    probes = len(node.courier.carried) - 3
    assert 5 <= probes <= 30, "the pauses grow to an hour"
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    node.courier.carried.clear()
    await node.pass_time(HOUR)
    assert sorted(node.courier.to("beta.example")) == [f"m{number:02}" for number in range(30)]
    assert (await breaker(node)).breaker is Breaker.CLOSED


async def test_a_message_that_its_peer_chokes_on_is_not_tried_after_each_success() -> None:
    node = await Node().open()
    node.courier.answers["beta.example"] = lambda one: DEAD if one.owner == ALICE else RECEIVED
    await node.send("poison")
    for number in range(30):
        await node.send(f"m{number}", owner=EVE)
    assert node.courier.to("beta.example").count("poison") == 1


async def test_a_message_that_its_peer_chokes_on_is_not_every_probe() -> None:
    """Others are behind it when the breaker opens: they get their turn, and the peer is known to be there."""
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda one: DEAD if one.owner == ALICE else RECEIVED
    await node.send("poison")
    for number in range(10):
        await node.send(f"m{number}", owner=EVE)
    await node.pass_time(10 * 60_000)
    assert node.state("m9").phase is Phase.DELIVERED
    assert node.courier.to("beta.example").count("poison") <= 11, (
        "about once a minute: each probe begins with others"
    )


async def test_a_peer_that_contacts_us_is_served_at_once_and_strangers_cost_nothing() -> None:
    node = await Node(breaker_failures=1, concurrency=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2")
    await node.pass_time(2 * HOUR)
    before = len(node.courier.carried)
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    for stranger in ("evil.example", "beta.example.evil.example", ""):
        node.outgoing.seen(stranger)
    await node.settle()
    assert len(node.courier.carried) == before
    node.outgoing.seen("mio.beta.example")
    await node.settle()
    assert [node.state(one).phase for one in ("m1", "m2")] == [Phase.DELIVERED] * 2


async def test_a_peer_that_contacts_us_all_the_time_and_answers_never_is_not_dialled_all_the_time() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1")
    for _ in range(100):
        node.clock.advance(100)
        node.outgoing.seen("beta.example")
        await node.settle()
    assert len(node.courier.carried) <= 3


async def test_one_dead_destination_of_ten_takes_nothing_from_the_others() -> None:
    """Counted, not timed: with the dead one's attempts hanging, all others are through."""
    node = await Node(attempts=16).open()
    node.courier.hold["dead.example"] = asyncio.Event()
    for number in range(20):
        for place in ("dead", *"abcdefghi"):
            await node.send(f"m{number:02}", destination=f"{place}.example", owner=f"0x{number:040x}")
    delivered = [state for state in node.queue.states().values() if state.phase is Phase.DELIVERED]
    assert len(delivered) == 180
    assert node.courier.most_at_once["dead.example"] == node.outgoing.settings.concurrency


async def test_what_expires_while_the_peer_is_dead_fails_with_the_reason() -> None:
    node = await Node(expire_hours=2.0, breaker_failures=2).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2", "m3")
    await node.pass_time(3 * HOUR)
    assert [node.state(one).phase for one in ("m1", "m2", "m3")] == [Phase.FAILED] * 3
    assert node.state("m1").reason == "not delivered in time; last: no answer"
    assert node.state("m3").reason == "not delivered in time"


async def test_a_refusal_for_good_lets_the_next_one_pass_at_once() -> None:
    node = await Node().open()
    node.courier.answers["beta.example"] = lambda one: NO if one.message == "m1" else RECEIVED
    await node.send("m1", "m2")
    assert (node.state("m1").phase, node.state("m2").phase) == (Phase.FAILED, Phase.DELIVERED)


async def test_a_year_of_retry_after_is_an_hour() -> None:
    node = await Node().open()
    year = Outcome(
        verdict=Verdict.LATER, code="4.4.5", text="busy", cause=Cause.BUSY, retry_after=365 * 24 * HOUR
    )
    node.courier.answers["beta.example"] = lambda _: year
    await node.send("m1")
    assert (await breaker(node)).paused_until == node.clock.now() + HOUR
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    await node.send("m2", owner=EVE)
    assert node.courier.to("beta.example") == ["m1"], "the pause is for everybody"
    await node.pass_time(HOUR)
    assert node.state("m2").phase is Phase.DELIVERED


async def test_a_restart_in_the_middle_of_an_attempt_makes_it_again() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1")
    await node.outgoing.close()
    await node.actors.close()
    again = await Node(node.log, node.clock).open()
    assert again.courier.to("beta.example") == ["m1"]
    assert (again.state("m1").phase, again.state("m1").attempts) == (Phase.DELIVERED, 2)


async def test_a_node_that_stops_waits_for_no_peer() -> None:
    """Attempts under way are broken off, so nothing comes back from them that an actor could wait for."""
    node = await Node(first_seconds=3_600.0).open()
    node.courier.hold["slow.example"] = asyncio.Event()
    node.courier.answers["away.example"] = lambda _: DEAD
    for place in ("slow.example", "away.example", "beta.example"):
        await node.send(f"to-{place}", destination=place)
    await node.outgoing.close()
    async with asyncio.timeout(5):
        await node.actors.drain()
    again = await Node(node.log, node.clock).open()
    assert again.courier.to("slow.example") == ["to-slow.example"]
    assert again.courier.to("away.example") == again.courier.to("beta.example") == []


async def test_an_end_that_came_just_before_a_stop_is_recorded() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1")
    node.courier.hold["beta.example"].set()
    while not node.outgoing.outcomes:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    await node.outgoing.close()
    async with asyncio.timeout(5):
        await node.actors.drain()
    assert node.state("m1").phase is Phase.DELIVERED


async def test_attempts_that_end_together_are_looked_after_once() -> None:
    """Each end sends a word; the first one settles them all, and the window is not searched for each."""
    node = await Node(concurrency=4).open()
    node.courier.hold["beta.example"] = asyncio.Event()
    for number in range(4):
        await node.send(f"m{number}", owner=f"0x{number:040x}")
    looked = 0
    note = node.outgoing.note

    def counted(state: Destination) -> None:
        nonlocal looked
        looked += 1
        note(state)

    node.outgoing.note = counted  # type: ignore[method-assign]
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert all(node.state(f"m{number}").phase is Phase.DELIVERED for number in range(4))
    assert looked < 4


async def test_a_restart_does_not_begin_by_dialling_the_dead() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2")
    await node.actors.close()
    again = await Node(node.log, node.clock).open()
    assert again.courier.carried == []
    await again.pass_time(120_000)
    assert again.courier.to("beta.example") == ["m1", "m2"]


async def test_an_actor_that_is_restarted_does_not_dial_twice_at_once() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1")
    await node.actors.tell(KIND, "beta.example", "nonsense")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(node.failed) == 1
    node.failed.clear()
    await node.actors.tell(KIND, "beta.example", React(await node.promise("m2", owner=EVE)))
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert sorted(node.courier.to("beta.example")) == ["m1", "m2"]
    assert node.state("m1").attempts == 1
    assert node.state("m1").phase is Phase.DELIVERED


async def test_a_receipt_is_not_lost_when_the_disk_is_full_just_then() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1")
    node.log.faults.append(StorageUnavailable("disk full"))
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert node.state("m1").phase is Phase.WAITING
    await node.pass_time(10_000)
    assert node.state("m1").phase is Phase.DELIVERED
    assert node.courier.to("beta.example") == ["m1"]


async def test_messages_of_a_sender_who_was_erased_keep_nobody_back() -> None:
    """The log takes nothing about them any more; the others' messages go."""
    node = await Node().open()
    gone = await node.promise("gone")
    other = await node.promise("other", owner=EVE)
    node.log.faults += [Gone("erased"), Gone("erased")]
    await node.actors.ask(KIND, "beta.example", ReactAll((gone, other)))
    await node.settle()
    assert node.courier.to("beta.example") == ["other"]
    assert node.state("other").phase is Phase.DELIVERED


async def test_an_attempt_ends_for_a_sender_who_was_erased_meanwhile_and_others_go_on() -> None:
    """What its stream says is gone, and the actor has to read it: an operator made it forget its window."""
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("a1")
    await node.send("e1", owner=EVE)
    node.log.erase("delivery-beta.example:a1")
    await ask(node, "e1", Hasten(node.clock.now()))
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert node.state("e1").phase is Phase.DELIVERED
    assert not node.outgoing.running


async def test_an_attempt_that_never_reached_the_peer_does_not_close_the_breaker() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1")
    node.courier.answers["beta.example"] = lambda _: of_error(FetchRefused(Refusal.PRIVATE, "no address"))
    await node.pass_time(2 * 60_000)
    assert node.courier.to("beta.example") == ["m1", "m1"]
    assert (await breaker(node)).breaker is not Breaker.CLOSED


async def test_while_a_sender_is_being_erased_others_wait_a_moment_and_the_actor_lives() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1")
    node.log.faults += [Busy("this account is being erased")] * 8
    node.courier.hold["beta.example"].set()
    await node.settle()
    await node.pass_time(20_000)
    assert node.state("m1").phase is Phase.DELIVERED
    assert node.actors.restarts == 0


async def test_ten_thousand_that_wait_are_neither_in_memory_nor_lost() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("first")
    waiting = [await node.promise(f"m{number:04}", owner=f"0x{number % 7:040x}") for number in range(600)]
    await node.actors.ask(KIND, "beta.example", ReactAll((*waiting, await node.promise("last", owner=EVE))))
    cell = node.actors._cells[KIND, "beta.example"]
    assert len(cell.actor._window) <= SIZE  # type: ignore[attr-defined]
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    await node.pass_time(200_000)
    states = node.queue.states().values()
    assert {state.phase for state in states} == {Phase.DELIVERED}
    assert len(states) == 602
    for sender in range(7):
        own = [m for m in node.courier.to("beta.example") if m.startswith("m") and int(m[1:]) % 7 == sender]
        assert own == sorted(own), "in order, however often the queue was read"


async def test_a_long_queue_is_not_read_for_each_message() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send(*(f"m{number:04}" for number in range(600)))
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    node.queue.reads = 0
    await node.pass_time(200_000)
    assert node.courier.to("beta.example")[1:] == [f"m{number:04}" for number in range(600)]
    assert node.queue.reads <= 600 / (SHARE / 2) + 2


async def test_what_waits_in_a_long_queue_is_not_looked_for_when_the_actor_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    waiting = tuple([await node.promise(f"m{number:03}") for number in range(SHARE + 50)])
    await node.actors.ask(KIND, "beta.example", ReactAll(waiting))
    await node.settle()
    read: list[str] = []
    stream = node.log.stream

    async def watched(name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        read.append(name)
        return await stream(name, after, limit)

    monkeypatch.setattr(node.log, "stream", watched)
    await node.actors.ask(KIND, "beta.example", ReactAll(waiting))
    assert read == []
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    await node.pass_time(200_000)
    assert node.courier.to("beta.example")[1:] == [f"m{number:03}" for number in range(SHARE + 50)]


async def test_reports_that_were_promised_before_do_not_keep_others_back() -> None:
    node = await Node().open()
    records = []
    for number in range(3):
        filed = MessageFiled(
            id=f"d{number}", mail=f"mail{number}", transport=Transport.MTP, sender=f"did:web:beta.example#{EVE}",
            folder=Folder.INBOX, reason=Reason.FIRST_CONTACT, document="b", size=1, filed_at=1,
            message_id=f"theirs{number}",
        )  # fmt: skip
        records += await node.log.append(Write(mailbox_stream(ALICE), (filed,)), origin=ORIGIN)
    await node.actors.ask(KIND, "beta.example", React(records[1]))
    await node.actors.ask(KIND, "beta.example", ReactAll(tuple(records)))
    await node.settle()
    assert sorted(node.courier.to("beta.example")) == ["theirs0", "theirs1", "theirs2"]


async def test_held_dropped_cancelled_released_and_hastened() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2", "m3", "m4")
    assert (await ask(node, "m2", Hold(1, "odd"))).phase is Phase.HELD
    assert (await ask(node, "m3", Drop(1, "no"))).phase is Phase.DROPPED
    assert (await ask(node, "m4", Cancel(1, ALICE))).phase is Phase.CANCELLED
    with pytest.raises(Conflict):
        await ask(node, "m4", Hasten(1))
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    await ask(node, "m1", Hasten(node.clock.now()))
    assert node.state("m1").phase is Phase.DELIVERED, "an operator's retry does not wait for the breaker"
    assert node.state("m2").phase is Phase.HELD
    await ask(node, "m2", Release(node.clock.now()))
    assert node.state("m2").phase is Phase.DELIVERED
    assert node.courier.to("beta.example") == ["m1", "m1", "m2"]


async def test_a_held_message_does_not_stop_its_senders_others() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    await node.send("m1", "m2", "m3")
    await ask(node, "m2", Hold(1))
    node.courier.hold["beta.example"].set()
    await node.settle()
    assert node.courier.to("beta.example") == ["m1", "m3"]


async def test_an_operator_resets_a_destination() -> None:
    node = await Node(breaker_failures=1).open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2")
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    await node.actors.ask(KIND, "beta.example", ResetDestination("operator"))
    await node.settle()
    assert node.state("m2").phase is Phase.DELIVERED
    assert node.log.records[-1].metadata.actor == "federation/beta.example"


async def test_nothing_is_dialled_by_a_command_that_only_looks() -> None:
    node = Node()
    await node.send("m1")
    assert node.courier.carried == []


async def test_a_report_is_kept_for_a_recipient_only() -> None:
    node = await Node().open()
    await node.send("m1")
    good = RecipientStatus(address=EVE, code="2.0.0", text="delivery confirmation")
    lie = RecipientStatus(address=ALICE, code="5.1.1", text="no")
    await ask(node, "m1", NoteReport(at=5, peer="beta.example", statuses=(good, lie)))
    assert node.state("m1").reported == {EVE: good}


async def test_a_message_that_the_queue_showed_first_is_not_taken_in_again_when_the_actor_is_told() -> None:
    """Its state would be the one of its promise: sent again, and deaf to what the peer reports."""
    node = Node()
    record = await node.promise("m1")
    await node.open()
    assert node.state("m1").phase is Phase.DELIVERED
    for told in (React(record), ReactAll((record,))):
        await node.actors.ask(KIND, "beta.example", told)
        await node.settle()
    good = RecipientStatus(address=EVE, code="2.0.0")
    await ask(node, "m1", NoteReport(at=5, peer="beta.example", statuses=(good,)))
    assert node.state("m1").reported == {EVE: good}
    assert node.courier.to("beta.example") == ["m1"]


async def test_a_message_of_which_the_actor_is_told_again_is_in_its_place_or_nowhere() -> None:
    node = await Node().open()
    node.courier.hold["beta.example"] = asyncio.Event()
    first, second = [await node.promise(name) for name in ("m1", "m2")]
    for _ in range(2):
        await node.actors.ask(KIND, "beta.example", ReactAll((first, second)))
        await node.settle()
    node.courier.hold["beta.example"].set()
    await node.settle()
    await node.actors.ask(KIND, "beta.example", ReactAll((first, second)))
    await node.settle()
    assert node.courier.to("beta.example") == ["m1", "m2"]


async def test_a_message_whose_receipt_was_lost_is_not_sent_again_once_its_peer_reports_it() -> None:
    node = await Node().open()
    node.courier.answers["beta.example"] = lambda _: DEAD
    await node.send("m1", "m2")
    node.courier.answers["beta.example"] = lambda _: RECEIVED
    good = RecipientStatus(address=EVE, code="2.0.0", text="delivery confirmation")
    state = await ask(node, "m1", NoteReport(at=5, peer="beta.example", statuses=(good,)))
    assert state.phase is Phase.DELIVERED
    await node.pass_time(HOUR)
    assert node.courier.to("beta.example") == ["m1", "m2"], "the next one goes, this one does not"
    assert node.state("m2").phase is Phase.DELIVERED


async def test_a_filed_message_is_reported_to_its_sender_once() -> None:
    node = await Node().open()
    filed = MessageFiled(
        id="d", mail="mail1", transport=Transport.MTP, sender=f"did:web:beta.example#{EVE}",
        folder=Folder.SPAM, reason=Reason.FIRST_CONTACT, document="b", size=1, filed_at=1, message_id="theirs",
    )  # fmt: skip
    (record,) = await node.log.append(Write(mailbox_stream(ALICE), (filed,)), origin=ORIGIN)
    for _ in range(3):
        await node.actors.ask(KIND, "beta.example", React(record))
        await node.settle()
    promise = next(one for one in node.log.records if isinstance(one.event, DeliveryScheduled))
    await node.actors.ask(KIND, "beta.example", React(promise))
    await node.settle()
    assert node.courier.to("beta.example") == ["theirs"]
    (state,) = node.queue.states().values()
    assert (state.kind, state.owner, state.addressees[0].did) == (Kind.REPORT, ALICE, filed.sender)
    assert [(one.address, one.code) for one in state.statuses] == [(ALICE, "2.0.0")]


async def test_strangers_can_not_make_figures_without_end() -> None:
    node = await Node().open()
    for number in range(MAX_FIGURES + 20):
        await node.send(f"m{number}", destination=f"d{number}.example")
    assert len(node.outgoing.figures) == MAX_FIGURES + 1
    assert node.outgoing.figures[OTHERS].delivered == 20


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from((RECEIVED, DEAD, REFUSED, NO))), min_size=1, max_size=25
    ),
    st.integers(1, 3),
)
def test_every_message_ends_and_none_overtakes(plan: list[tuple[int, Outcome]], concurrency: int) -> None:
    """Whatever a peer answers to the first attempts: all ends, and per sender in order."""

    async def scenario() -> None:
        node = await Node(concurrency=concurrency, breaker_failures=2).open()
        script = iter(plan)
        node.courier.answers["beta.example"] = lambda _: next(script, (0, RECEIVED))[1]
        for number, (sender, _) in enumerate(plan):
            await node.send(f"{sender}-{number:02}", owner=f"0x{sender:040x}")
        await node.pass_time(48 * HOUR)
        states = node.queue.states()
        assert all(state.final for state in states.values())
        for sender in range(3):
            firsts = list(dict.fromkeys(m for m in node.courier.to("beta.example") if m[0] == str(sender)))
            assert firsts == sorted(firsts)
        await close_all()

    asyncio.run(scenario())


def test_a_window_gives_no_lane_more_than_its_share() -> None:
    async def scenario() -> None:
        async def queue() -> AsyncIterator[Delivery]:
            for number in range(SHARE * 3):
                yield Delivery(id=f"a{number}", owner="a", phase=Phase.WAITING)
            yield Delivery(id="b", owner="b", phase=Phase.WAITING)

        window = Window()
        await window.fill(queue())
        assert len(window) == SHARE + 1
        assert not window.complete
        assert [one.id for one in window.heads()] == ["a0", "b"]

    asyncio.run(scenario())
