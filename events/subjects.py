"""Whose personal data an event holds: those under whose keys the log seals it. Pure.

Sealed is what says something about a person. What is left readable says which account did something when
(stream, type, time, actor), so that the log can be walked, counted and verified without any key.
"""

from __future__ import annotations

from events import account, delivery, handshake, mailbox
from events.account import AccountErased, EmailClaimed
from events.event import Event
from events.identity import is_address
from events.mail import MailAccepted
from events.original import OriginalReleased
from events.parking import ReactionDropped, ReactionParked, ReactionRetried

_OWNED = frozenset(prefix.removesuffix("-") for prefix in (mailbox.STREAM, account.STREAM, handshake.STREAM))


def subjects(stream: str, event: Event) -> tuple[str, ...]:
    """Return the Mailio addresses of those whom the event in this stream is about, each once.

    Nobody, where it concerns the node alone, and for `AccountErased`, which must be readable when the
    key is gone.
    """
    kind, _, name = stream.partition("-")
    if kind in _OWNED:
        return () if isinstance(event, AccountErased) else (name,)
    if isinstance(event, delivery.DeliveryEvent):
        return (event.owner,) if is_address(event.owner) else ()
    match event:
        case MailAccepted():
            return tuple(dict.fromkeys(recipient.address for recipient in event.recipients))
        case OriginalReleased():
            address = event.owner
        case EmailClaimed():
            address = event.address
        case ReactionParked():
            address = event.key
        case ReactionRetried() | ReactionDropped():
            address = event.id.rpartition(":")[2]
        case _:
            return ()
    return (address,) if is_address(address) else ()
