"""The reaction table: which event of the log concerns which actor.

What came from another node with its history was answered there, and the answers came with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors import handshake, mailbox
from actors.runtime.activation import Name
from actors.runtime.reaction import Routes
from events.event import Recorded
from events.mail import MailAccepted
from events.mailbox import STREAM as MAILBOX_STREAM
from events.mailbox import DocumentWritten


def _recipients(record: Recorded) -> Iterable[Name]:
    event = record.event
    assert isinstance(event, MailAccepted)
    if record.metadata.imported:
        return ()
    return [(mailbox.KIND, address) for address in dict.fromkeys(r.address for r in event.recipients)]


def _handshake_book(record: Recorded) -> Iterable[Name]:
    if record.metadata.imported or not handshake.is_about_handshakes(record):
        return ()
    return [(handshake.KIND, record.stream.removeprefix(MAILBOX_STREAM))]


ROUTES: Routes = {
    MailAccepted.__name__: _recipients,
    DocumentWritten.__name__: _handshake_book,
}
"""Event type → the actors that react to it."""
