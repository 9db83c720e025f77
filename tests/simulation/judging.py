"""Whether the promises were kept: what must hold when a story is over and nothing moves any more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

from actors.messages import Inspect
from events.event import Recorded
from events.handshake import Book
from events.identity import userdb_name
from events.mailbox import MessageFiled
from node.verification import verified
from node.views import aside_path, revs_limit
from projections.deliveries import DELIVERY_ID, DeliveryDocument, Shown
from projections.rebuild import rebuild
from projections.stores.building import BuildingStore
from tests.simulation.limits import too_many, too_soon
from tests.simulation.node import SimulatedNode
from tests.simulation.story import Person, Story

FINAL = frozenset(("delivered", "failed", "cancelled"))

ENDS = {"5.4.7": "expired", "5.3.0": "dropped", "5.8.10": "too often", "4.8.10": "too often"}
"""What some codes of failures mean."""

SHUT_OUT = frozenset(("5.7.1", "5.8.2"))
"""What a sender hears whom the recipient has revoked: from the peer, from the own door."""

GIVEN_UP = frozenset(("5.4.7", "5.3.0"))
"""Codes of what ran out of time, or was dropped by an operator: it may have come all the same, without receipt."""


async def broken(story: Story) -> list[str]:
    """Say which promises were broken, one line each; stops the nodes."""
    found = [one async for one in _all(story)]
    for node in story.nodes:
        await node.stop()
        log = verified(node.settings())
        if log["logDamaged"]:
            found.append(f"{node.name}: the log: {log['log']}")
    return found


async def _all(story: Story) -> AsyncIterator[str]:
    logs = {node.name: await node.running.log.read(0, 100_000) for node in story.nodes}
    filed = {person.address: _filed(logs[person.home.name], person.address) for person in story.people}
    for person in story.people:
        async for problem in _sent(story, person, filed):
            yield problem
        async for problem in _book(person):
            yield problem
        for pair in too_soon(logs[person.home.name], person.address):
            yield f"{person.name} had in the inbox what came before its time: {pair}"
        for message, count in filed[person.address].items():
            if count > 1:
                yield f"{person.name} has {message} {count} times"
    for node in story.nodes:
        async for problem in _node(node):
            yield problem


async def _sent(story: Story, sender: Person, filed: Mapping[str, Counter[str]]) -> AsyncIterator[str]:
    for message, sent in sender.sent.items():
        for recipient in sent.to:
            shown = await _shown(sender, message, recipient)
            story.states[_ended(shown)] += 1
            problem = _problem(shown, filed[recipient.address][message])
            if shown is not None and not problem and not _excused(story, shown, sender, message, recipient):
                problem = f"has {shown.state}: {shown.code} {shown.reason}"
            if problem:
                yield f"{sender.name} to {recipient.name}, {message}: {problem}"


def _excused(story: Story, shown: Shown, sender: Person, message: str, recipient: Person) -> bool:
    """Whether the end is one that somebody wanted: hours without faults are enough for everything else."""
    match _ended(shown):
        case "delivered":
            return True
        case "cancelled":
            return message in sender.taken_back
        case "expired":
            return sender.sent[message].lifetime > 0
        case "dropped":
            return message in story.dropped
        case "too often":
            return sender in recipient.limited
        case _:
            return shown.code in SHUT_OUT and sender in recipient.revoked


def _filed(records: Sequence[Recorded], address: str) -> Counter[str]:
    """Count the messages that were filed for somebody, by the id that the sender gave."""
    return Counter(
        record.event.message_id
        for record in records
        if isinstance(record.event, MessageFiled) and record.stream.endswith(address)
    )


def _problem(shown: Shown | None, filed: int) -> str:
    """Say what is wrong with the way of one message to one of its recipients, "" for nothing."""
    if shown is None:
        return "its sender sees nothing of it"
    if shown.state not in FINAL:
        return f"is still {shown.state} ({shown.reason})"
    if shown.state == "delivered" and not filed:
        return "is said to be delivered, and was not filed"
    if shown.state == "failed" and not shown.reason:
        return "failed without a reason"
    if "internal error" in shown.reason:
        return f"met a fault of the node: {shown.reason}"
    if shown.state == "failed" and filed and shown.code not in GIVEN_UP:
        return f"was filed, and is said to have failed: {shown.code} {shown.reason}"
    return ""


def _ended(shown: Shown | None) -> str:
    """Say in a word what became of a message, for the figures."""
    if shown is None:
        return "unseen"
    return ENDS.get(shown.code, shown.state)


async def _shown(sender: Person, message: str, recipient: Person) -> Shown | None:
    """What the sender's devices see of a message's way to a recipient."""
    store = sender.home.running.views.stores["userdb"]
    stored = await store.get(userdb_name(sender.address), DELIVERY_ID + message)
    if stored is None:
        return None
    document = msgspec.json.decode(stored.winner.body, type=DeliveryDocument)
    return next((one for one in document.recipients if one.recipient == recipient.did), None)


async def _book(owner: Person) -> AsyncIterator[str]:
    """See that the handshake book says what the owner said last."""
    book = await owner.home.running.actors.ask("handshake", owner.address, Inspect())
    assert isinstance(book, Book)
    for ident, (_, status) in owner.handshakes.items():
        if book.standing([ident]) != status:
            yield f"{owner.name} said {status} of {ident}, the book says {book.standing([ident])}"


async def _node(node: SimulatedNode) -> AsyncIterator[str]:
    core = node.running
    for life, peer, count in too_many(node.served, core.settings.mtp):
        yield f"{life} took {count} requests of {peer} at once, or too fast"
    await asyncio.gather(*(core.views.reached(view, core.log.head) for view in core.views.runners))
    if parked := await core.parking.list():
        yield f"{node.name}: {len(parked)} reactions are parked"
    if waiting := await core.federation.queue.destinations():
        yield f"{node.name}: something still waits for {', '.join(waiting)}"
    for name, view in core.views.views.items():
        path = aside_path(Path(node.data), name)
        aside = BuildingStore.open(path, revs_limit(name))
        report = await rebuild(
            view, core.log, core.views.stores[name], aside, core.log.head, clock=core.clock
        )
        await aside.close()
        if report.differences or report.newer or report.renumbered or report.parked:
            yield f"{node.name}: the view {name} is not what a rebuild gives: {_first(report.first)}"


def _first(differing: Sequence[object]) -> str:
    return ", ".join(map(str, differing[:3])) or "see the report"
