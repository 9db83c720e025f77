"""The reaction table: which event of the log concerns which actor.

What came from another node with its history was answered there, and the answers came with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors import handshake, mailbox, original, outgoing
from actors.runtime.activation import Name
from actors.runtime.reaction import Routes
from events.delivery import DeliveryScheduled
from events.errors import InvalidInput
from events.event import Recorded
from events.identity import Did
from events.mail import MailAccepted
from events.mailbox import STREAM as MAILBOX_STREAM
from events.mailbox import DocumentWritten, MessageFiled
from events.policy import Transport


def _recipients(record: Recorded) -> Iterable[Name]:
    event = record.event
    assert isinstance(event, MailAccepted)
    if record.metadata.imported:
        return ()
    owners = [(mailbox.KIND, address) for address in dict.fromkeys(r.address for r in event.recipients)]
    # The peer is told of those who do not get the message; of the others when it is filed.
    return [*owners, (outgoing.KIND, event.helo)] if event.turned else owners


def _handshake_book(record: Recorded) -> Iterable[Name]:
    if record.metadata.imported or not handshake.is_about_handshakes(record):
        return ()
    return [(handshake.KIND, record.stream.removeprefix(MAILBOX_STREAM))]


def _destination(record: Recorded) -> Iterable[Name]:
    event = record.event
    assert isinstance(event, DeliveryScheduled)
    return () if record.metadata.imported else [(outgoing.KIND, event.destination)]


def _filed(record: Recorded) -> Iterable[Name]:
    """Return whom a filing concerns: the peer that sent the message, or the raw mail it was sealed from."""
    event = record.event
    assert isinstance(event, MessageFiled)
    if event.sealed and not record.metadata.imported:
        return [(original.KIND, event.mail)]
    return _sender(record)


def _sender(record: Recorded) -> Iterable[Name]:
    """Return the destination of the report about a message that a peer has sent."""
    event = record.event
    assert isinstance(event, MessageFiled)
    if event.transport is not Transport.MTP or record.metadata.imported:
        return ()
    try:
        host = Did.parse(event.sender).host
    except InvalidInput:
        return ()
    return [(outgoing.KIND, host)] if host else ()


ROUTES: Routes = {
    MailAccepted.__name__: _recipients,
    DocumentWritten.__name__: _handshake_book,
    DeliveryScheduled.__name__: _destination,
    MessageFiled.__name__: _filed,
}
"""Event type → the actors that react to it."""
