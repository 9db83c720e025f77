"""What a peer is told of the messages that it brought: reports are deliveries like any other.

A message that was filed is confirmed whatever the folder, so that a sender does not learn what its recipient
thinks of it (wire spec sections 3.3.5 and 3.3.6).
"""

from __future__ import annotations

import hashlib

from events import delivery, mail
from events.attempt import Addressee, RecipientStatus
from events.delivery import DeliveryScheduled, Kind, delivery_id
from events.event import Recorded
from events.log.log import Write
from events.mail import MailAccepted
from events.mailbox import STREAM as MAILBOX_STREAM
from events.mailbox import MessageFiled

CONFIRMED = "2.0.0"

TURNED = "turned"
"""Stands for the recipients who do not get a message, in the name of the one report about them."""


REPORT_MARK = "r"
"""What the name of a report begins with in the place of a message id, which is hex."""


def report_name(mail_id: str, owner: str) -> str:
    """Name the report about a received mail (by the node's own id) for one of its recipients."""
    return REPORT_MARK + hashlib.sha256(f"report:{mail_id}:{owner}".encode()).hexdigest()[:40]


def order(record: Recorded, peer: str, at: int, lifetime: int) -> Write:
    """Return the promise of a report to a peer, to be kept from `at` (ms) on for `lifetime` (ms).

    It has one name for each event that it is about, and the log opens no stream twice.
    """
    event = record.event
    if isinstance(event, MailAccepted):
        name = report_name(record.stream.removeprefix(mail.STREAM), TURNED)
        # The addresses in it concern the node's own users, hence it is sealed for one of them.
        owner, author = event.recipients[0].address, event.authors[0]
        statuses = tuple(
            RecipientStatus(address=one.address, code=one.code, text=one.text) for one in event.turned
        )
    else:
        assert isinstance(event, MessageFiled)
        owner, author = record.stream.removeprefix(MAILBOX_STREAM), event.sender
        name = report_name(event.mail, owner)
        statuses = (RecipientStatus(address=owner, code=CONFIRMED, text="delivery confirmation"),)
    promise = DeliveryScheduled(
        owner=owner,
        kind=Kind.REPORT,
        message=event.message_id,
        destination=peer,
        addressees=(Addressee(did=author),),
        statuses=statuses,
        scheduled_at=at,
        expires_at=at + lifetime,
    )
    return Write(delivery.stream(delivery_id(peer, name)), (promise,), expected=0)
