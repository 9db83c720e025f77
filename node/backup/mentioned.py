"""Which blobs an event needs."""

from __future__ import annotations

from events.event import Event
from events.mail import MailAccepted
from events.mailbox import DocumentWritten, MessageFiled


def blobs_of(event: Event) -> tuple[str, ...]:
    """Return the names of all blobs that an event mentions."""
    match event:
        case MailAccepted():
            return (event.blob,)
        case MessageFiled() | DocumentWritten():
            names = (event.document, *(file.blob for file in event.attachments))
            return tuple(name for name in names if name)
        case _:
            return ()
