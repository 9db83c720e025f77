"""An owner's handshake book: who may write to this mailbox, and who may not any more.

Entries come from documents that the owner's client has signed (wire spec section 4.2); the door has
verified them before a command reaches this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from events.event import Event
from events.policy import Standing

STREAM = "handshake-"


def stream(key: str) -> str:
    """Name of the stream of one owner's book."""
    return STREAM + key


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a verified handshake document says (wire spec sections 4.1 and 4.2).

    `id` is the handshake id. `created` is the owner's time in milliseconds. `by_email_hash` tells that
    the id was computed from the sender's email hash, so that a lookup has to compute one too.
    """

    id: str
    status: str
    level: str = "none"
    type: str = ""
    subtype: int = 0
    frequency_minutes: int = 0
    sender_address: str = ""
    sender_email_hash: str = ""
    origin_domain: str = ""
    by_email_hash: bool = False
    created: int = 0


class HandshakeAccepted(Event, frozen=True, kw_only=True):
    """The owner lets this sender in."""

    terms: Terms


class HandshakeRevoked(Event, frozen=True, kw_only=True):
    """The owner shuts this sender out."""

    terms: Terms


class HandshakeRequested(Event, frozen=True, kw_only=True):
    """Somebody asked to be let in; the owner has not answered."""

    terms: Terms


class HandshakeForgotten(Event, frozen=True, kw_only=True):
    """The owner removed the entry: the sender is a stranger again."""

    id: str


class HandshakeUnchanged(Event, frozen=True, kw_only=True):
    """A document said nothing that the book did not know, or something older.

    It changes no state. It is the answer to the document: told again after a crash, when the book may have
    changed, the document would otherwise count as new and undo a later revocation.
    """

    id: str


class RecordHandshake(msgspec.Struct, frozen=True):
    """Enter what a verified document says."""

    terms: Terms


class ForgetHandshake(msgspec.Struct, frozen=True):
    """Remove an entry, because its document was deleted."""

    id: str


Command = RecordHandshake | ForgetHandshake


class Entry(msgspec.Struct, frozen=True):
    """One line of the book."""

    standing: Standing
    created: int
    by_email_hash: bool


class Book(msgspec.Struct):
    """State of one owner's book: entries by handshake id."""

    owner: str
    entries: dict[str, Entry] = {}

    @property
    def needs_email_hash(self) -> bool:
        """Whether some entry can only be found by the sender's email hash."""
        return any(entry.by_email_hash for entry in self.entries.values())

    def standing(self, ids: Iterable[str]) -> Standing:
        """Return what the book says under the first of these handshake ids that it knows."""
        for handshake_id in ids:
            entry = self.entries.get(handshake_id)
            if entry is not None:
                return entry.standing
        return Standing.UNKNOWN


def initial(key: str) -> Book:
    """Return an empty book."""
    return Book(owner=key)


_EVENT_OF = {
    "accepted": HandshakeAccepted,
    "revoked": HandshakeRevoked,
    "request": HandshakeRequested,
}


def decide(state: Book, command: Command) -> Sequence[Event]:
    """Say what happened because of a command: always one event, for every document has an answer.

    A document older than the one already in the book changes nothing: a device that was long offline
    must not undo a revocation.
    """
    if isinstance(command, ForgetHandshake):
        return [_forget(state, command.id)]
    return [_record(state, command.terms)]


def _forget(state: Book, handshake_id: str) -> Event:
    known = handshake_id in state.entries
    return HandshakeForgotten(id=handshake_id) if known else HandshakeUnchanged(id=handshake_id)


def _record(state: Book, terms: Terms) -> Event:
    known = state.entries.get(terms.id)
    event = _EVENT_OF.get(terms.status)
    if event is None:
        return _forget(state, terms.id)
    if known and (known.created > terms.created or known == _entry(terms)):
        return HandshakeUnchanged(id=terms.id)
    return event(terms=terms)


def _entry(terms: Terms) -> Entry:
    return Entry(Standing(terms.status), terms.created, terms.by_email_hash)


def evolve(state: Book, event: Event) -> Book:
    """Fold one event into the book; the book that was passed in is used up."""
    match event:
        case HandshakeAccepted() | HandshakeRevoked() | HandshakeRequested():
            state.entries[event.terms.id] = _entry(event.terms)
        case HandshakeForgotten():
            state.entries.pop(event.id, None)
        case _:
            pass
    return state
