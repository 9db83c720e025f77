"""What a sender sees of the way of their message: one document beside it, `delivery:<message id>`.

It is a document of its own, not members of the sent one: that belongs to the user's devices, which may move
or edit it offline, and a conflict for each receipt would be a poor answer. Wire spec section 6.2 calls the
records `message_delivery`; like there, `code` is an MTP status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, get_args

import msgspec

from events.attempt import RecipientStatus
from events.delivery import (
    STREAM,
    AttemptStarted,
    DeliveryCancelled,
    DeliveryDeferred,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryHeld,
    DeliveryReleased,
    DeliveryReported,
    DeliveryScheduled,
    Kind,
    MessageDelivered,
)
from events.event import Recorded
from events.identity import userdb_name
from projections.revision import computed
from projections.view_store import Change, Document, Documents

DELIVERY_ID: Final = "delivery:"
"""What the id of such a document begins with."""

TYPES: Final = frozenset(kind.__name__ for kind in get_args(DeliveryEvent) if kind is not AttemptStarted)
"""Events that may change one. That an attempt began is of no use to anybody's phone."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Shown(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One recipient. `state`: queued, deferred, held, delivered, failed, cancelled. Times in ms.

    `until`: the next attempt, if deferred. `confirmed`: the peer has said that the message was filed; a
    receipt alone says that its server took it. `code` is `class.subject.detail`.
    """

    recipient: str
    destination: str
    address: str = ""
    state: str
    code: str = ""
    reason: str = ""
    until: int = 0
    attempts: int = 0
    confirmed: bool = False


class DeliveryDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """The document: all recipients of one message."""

    type: str = "message_delivery"
    message_id: str
    created: int
    modified: int
    recipients: list[Shown]


async def told(record: Recorded, event: DeliveryEvent, documents: Documents) -> Sequence[Change]:
    """Return the change that an event of a delivery makes to its sender's document; none for a report."""
    if isinstance(event, DeliveryScheduled) and event.kind is not Kind.MESSAGE:
        return []
    destination, _, message = record.stream.removeprefix(STREAM).partition(":")
    document: DeliveryDocument | None
    database, ident = userdb_name(event.owner), DELIVERY_ID + message
    stored = await documents.get(database, ident)
    if isinstance(event, DeliveryScheduled):
        if stored and stored.winner.deleted:
            return []
        document = _scheduled(event, _read(stored))
    elif (document := _read(stored)) is None:
        return []
    else:
        _update([one for one in document.recipients if one.destination == destination], event)
    document.modified = record.metadata.at
    return [_change(database, ident, stored, document, record.position)]


def _read(stored: Document | None) -> DeliveryDocument | None:
    """Read it back; None when it is deleted, or when a device has written something else there."""
    if stored is None or stored.winner.deleted:
        return None
    try:
        return msgspec.json.decode(stored.winner.body, type=DeliveryDocument)
    except msgspec.MsgspecError:
        return None


def _change(database: str, ident: str, stored: Document | None, document: Any, seq: int) -> Change:
    body = _encode(document)
    parent = stored.winner.rev if stored else None
    rev = computed(parent, deleted=False, body=body)
    revisions = (rev, parent) if parent else (rev,)
    return Change(database=database, id=ident, seq=seq, revisions=revisions, body=body)


def _scheduled(event: DeliveryScheduled, known: DeliveryDocument | None) -> DeliveryDocument:
    document = known or DeliveryDocument(
        message_id=event.message, created=event.scheduled_at, modified=event.scheduled_at, recipients=[]
    )
    document.recipients += [
        Shown(recipient=one.name, destination=event.destination, address=one.address, state="queued")
        for one in event.addressees
    ]
    return document


def _update(shown: Sequence[Shown], event: DeliveryEvent) -> None:
    match event:
        case MessageDelivered():
            _set(shown, "delivered", event.code, event.text, attempts=event.number)
            _single_out(shown, event.statuses)
        case DeliveryDeferred():
            _set(shown, "deferred", event.code, event.reason, until=event.until, attempts=event.number)
        case DeliveryFailed():
            _set(shown, "failed", event.code, event.reason, attempts=event.number)
            _single_out(shown, event.statuses)
        case DeliveryHeld():
            _set(shown, "held", "", event.reason)
        case DeliveryReleased():
            _set(shown, "queued", "", "")
        case DeliveryCancelled():
            _set(shown, "cancelled", "", "")
        case DeliveryDropped():
            _set(shown, "failed", "5.3.0", event.reason or "given up by the operator")
        case DeliveryReported():
            _single_out(shown, event.statuses, reported=True)
        case _:
            pass


def _set(
    shown: Iterable[Shown], state: str, code: str, reason: str, *, until: int = 0, attempts: int | None = None
) -> None:
    """Say the same of all of whom nothing final was said: what the peer told of one stays."""
    for one in shown:
        if one.confirmed or one.state == "failed":
            continue
        one.state, one.code, one.reason, one.until = state, code, reason, until
        one.attempts = one.attempts if attempts is None else attempts


def _single_out(
    shown: Iterable[Shown], statuses: Sequence[RecipientStatus], *, reported: bool = False
) -> None:
    """Let what is said about single recipients count for them."""
    for one in shown:
        for status in statuses:
            if status.address != one.address if one.address else status.email != one.recipient:
                continue
            one.address = status.address or one.address
            one.state = "delivered" if status.good else "failed"
            one.code, one.reason, one.until = status.code, status.text, 0
            one.confirmed = one.confirmed or (reported and status.good)
