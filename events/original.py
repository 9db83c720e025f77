"""The raw message of an accepted mail, and when nobody needs it any more.

It is kept as it came, except where every recipient's mailbox has filed it sealed to its owner: then the
node must not be able to read it either, and its blob is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events import mail
from events.event import Event
from events.mail import MailAccepted


def stream(key: str) -> str:
    """Name of the stream: that of the accepted mail `key`."""
    return mail.stream(key)


class OriginalReleased(Event, frozen=True, kw_only=True):
    """The mailbox of `owner` needs the raw message no more.

    With `erased`, it was the last that did, and the blob is overwritten.
    """

    owner: str
    erased: bool = False


class Release(msgspec.Struct, frozen=True):
    """Note that a mailbox needs the raw message no more."""

    owner: str


class Original(msgspec.Struct):
    """State of one raw message: its blob, and whose mailboxes may still need it."""

    blob: str = ""
    needed_by: set[str] = set()

    def needed_without(self, owner: str) -> bool:
        """Whether somebody else than `owner` may still need it, or that can't be known."""
        return not self.blob or bool(self.needed_by - {owner})


def initial(key: str) -> Original:
    """Return what is known before the mail's event is read."""
    return Original()


def decide(state: Original, command: Release) -> Sequence[Event]:
    """Say what happened because a mailbox let go."""
    return [OriginalReleased(owner=command.owner, erased=not state.needed_without(command.owner))]


def evolve(state: Original, event: Event) -> Original:
    """Fold one event into the state; the state that was passed in is used up."""
    match event:
        case MailAccepted():
            state.blob = event.blob
            state.needed_by = {recipient.address for recipient in event.recipients}
        case OriginalReleased():
            state.needed_by.discard(event.owner)
        case _:
            pass
    return state
