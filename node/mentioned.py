"""Which blobs an event needs, and the same event with other names for them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from events.delivery import DeliveryScheduled
from events.event import Event
from events.mail import MailAccepted
from events.mailbox import DocumentWritten, MessageFiled, MessageSent


def blobs_of(event: Event) -> tuple[str, ...]:
    """Return the names of all blobs that an event mentions."""
    match event:
        case MailAccepted():
            return (event.blob,) if event.blob else ()
        case DeliveryScheduled(blob=name) | MessageSent(document=name):
            return (name,) if name else ()
        case MessageFiled() | DocumentWritten():
            names = (event.document, *(file.blob for file in event.attachments))
            return tuple(name for name in names if name)
        case _:
            return ()


def with_blobs(event: Event, names: Mapping[str, str]) -> Event:
    """Return the event with each blob under its other name. Raises KeyError for one that has none."""
    match event:
        case MailAccepted():
            return msgspec.structs.replace(event, blob=names[event.blob] if event.blob else "")
        case DeliveryScheduled():
            return msgspec.structs.replace(event, blob=names[event.blob] if event.blob else "")
        case MessageSent():
            document = names[event.document] if event.document else ""
            return msgspec.structs.replace(event, document=document)
        case MessageFiled() | DocumentWritten():
            files = tuple(msgspec.structs.replace(file, blob=names[file.blob]) for file in event.attachments)
            document = names[event.document] if event.document else ""
            return msgspec.structs.replace(event, document=document, attachments=files)
        case _:
            return event
