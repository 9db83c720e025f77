"""Whether the promises were kept: what must hold when a story is over and nothing moves any more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

from actors.messages import Inspect
from events.handshake import Book
from events.identity import userdb_name
from events.mailbox import MessageFiled
from node.verification import verified
from node.views import aside_path, revs_limit
from projections.deliveries import DELIVERY_ID, DeliveryDocument, Shown
from projections.rebuild import rebuild
from projections.stores.building import BuildingStore
from tests.simulation.node import SimulatedNode
from tests.simulation.restraint import exceeded
from tests.simulation.story import Person, Story

EXPIRED = "5.4.7"
"""What a sender sees who gave a message too little time. It may have come all the same: its receipt may not."""

TOO_OFTEN = ("5.8.10", "4.8.10")
"""What a sender sees who wrote more often than was agreed, again and again."""

FINAL = frozenset(("delivered", "failed", "cancelled"))


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
    filed = {person.address: await _filed(person) for person in story.people}
    for person in story.people:
        async for problem in _sent(story, person, filed):
            yield problem
        async for problem in _book(person):
            yield problem
        for message, count in filed[person.address].items():
            if count > 1:
                yield f"{person.name} has {message} {count} times"
    async for problem in exceeded(story):
        yield problem
    for node in story.nodes:
        async for problem in _node(node):
            yield problem


async def _sent(story: Story, sender: Person, filed: Mapping[str, Counter[str]]) -> AsyncIterator[str]:
    for message, sent in sender.sent.items():
        for recipient in sent.to:
            agreed = story.limits.get((recipient.did, sender.did), 0)
            if problem := await _message(sender, message, recipient, filed[recipient.address], agreed):
                yield f"{sender.name} to {recipient.name}, {message}: {problem}"


async def _filed(person: Person) -> Counter[str]:
    """Count the messages that were filed for somebody, by the id that the sender gave."""
    records = await person.home.running.log.read(0, 100_000, types={MessageFiled.__name__})
    return Counter(
        record.event.message_id
        for record in records
        if isinstance(record.event, MessageFiled) and record.stream.endswith(person.address)
    )


async def _message(sender: Person, message: str, recipient: Person, filed: Counter[str], agreed: int) -> str:
    """Say what is wrong with the way of one message to one of its recipients, "" for nothing."""
    shown = await _shown(sender, message, recipient)
    if shown is None:
        return "its sender sees nothing of it"
    if shown.state not in FINAL:
        return f"is still {shown.state} ({shown.reason})"
    if shown.state == "delivered" and not filed[message]:
        return "is said to be delivered, and was not filed"
    if shown.state == "failed" and not shown.reason:
        return "failed without a reason"
    if shown.state == "failed" and filed[message] and shown.code != EXPIRED:
        return f"was filed, and is said to have failed: {shown.code} {shown.reason}"
    if _excused(shown, sender, message, recipient) or (agreed and shown.code in TOO_OFTEN):
        return ""
    return f"has {shown.state}: {shown.code} {shown.reason}"


def _excused(shown: Shown, sender: Person, message: str, recipient: Person) -> bool:
    """Whether the end is one that somebody wanted: hours without faults are enough for everything else."""
    if shown.state == "cancelled":
        return message in sender.taken_back
    if shown.state == "failed" and shown.code == EXPIRED:
        return sender.sent[message].lifetime > 0
    return shown.state == "delivered" or sender in recipient.revoked


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
    for ident, status in owner.handshakes.items():
        if book.standing([ident]) != status:
            yield f"{owner.name} said {status} of {ident}, the book says {book.standing([ident])}"


async def _node(node: SimulatedNode) -> AsyncIterator[str]:
    core = node.running
    await asyncio.gather(*(core.views.reached(view, core.log.head) for view in core.views.runners))
    if parked := await core.parking.list():
        yield f"{node.name}: {len(parked)} reactions are parked"
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
