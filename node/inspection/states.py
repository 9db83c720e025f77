"""Past states, folded from the log up to a position, as an operator reads them.

Secrets and their hashes are left out: what is shown is whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from events import account, handshake, mailbox, parking
from events.account import Account
from events.event import Event, Recorded
from events.handshake import Book, HandshakeAccepted, HandshakeRequested, HandshakeRevoked, Terms
from events.identity import handshake_ids
from events.log.codec import Codec
from events.log.reading import LogReader
from events.mailbox import Mailbox
from node.inspection.people import Owner

State = TypeVar("State")
Members = dict[str, Any]
"""A JSON object."""

PARTS = ("account", "handshake", "mailbox")
"""What an owner's state is made of."""


class Past:
    """What the log said up to a position. Raises CorruptRecord, UnknownEventType for what can't be read."""

    def __init__(self, reader: LogReader, codec: Codec, position: int) -> None:
        self._reader = reader
        self._codec = codec
        self.position = position

    def records(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        """Give the records of a stream with a version above `after`, in order."""
        for row in self._reader.stream(stream, after, self.position):
            yield self._codec.decode(row)

    def since(self, stream: str, position: int) -> Iterator[Recorded]:
        """Give the records of a stream behind a position, in order."""
        for row in self._reader.stream(stream, self._reader.version_at(stream, position), self.position):
            yield self._codec.decode(row)

    def folded(self, stream: str, evolve: Callable[[State, Event], State], initial: State) -> State:
        """Fold a stream."""
        state = initial
        for record in self.records(stream):
            state = evolve(state, record.event)
        return state

    def mailbox(self, owner: str) -> Mailbox:
        """Return the state of a mailbox."""
        return self.folded(mailbox.stream(owner), mailbox.evolve, mailbox.initial(owner))

    def book(self, owner: str) -> Book:
        """Return the handshake book of an owner."""
        return self.folded(handshake.stream(owner), handshake.evolve, handshake.initial(owner))

    def account(self, owner: str) -> Account:
        """Return the state of an account."""
        return self.folded(account.stream(owner), account.evolve, account.initial(owner))

    def parked(self) -> parking.Parked:
        """Return what was parked."""
        return self.folded(parking.STREAM, parking.evolve, parking.Parked())


def state_of(owner: Owner, past: Past, parts: tuple[str, ...] = PARTS) -> Members:
    """Return the parts of an owner's state as JSON values."""
    box = past.mailbox(owner.address) if {"mailbox", "handshake"} & set(parts) else None
    made: dict[str, Callable[[], Members]] = {
        "account": lambda: _account(past.account(owner.address)),
        "handshake": lambda: _book(past, owner.address, box),
        "mailbox": lambda: _mailbox(box),
    }
    return {part: made[part]() for part in PARTS if part in parts}


def parked_state(past: Past) -> Members:
    """Return what was parked, by id, as JSON values."""
    waiting = past.parked().waiting
    return {
        name: {"position": each.position, "reason": each.reason, "attempts": each.attempts}
        for name, each in waiting.items()
    }


def _account(state: Account) -> Members:
    opened = state.opened
    if opened is None:
        return {"exists": False, "erased": True} if state.erased else {"exists": False}
    return {
        "exists": True,
        "enabled": state.enabled,
        "email": opened.email,
        "signingKey": opened.signing_key,
        "agreementKey": opened.agreement_key,
        "opened": opened.opened_at,
        "password": bool(state.password_hash),
        "passkeys": {
            key: {"signCount": passkey.sign_count, "backedUp": passkey.backed_up}
            for key, passkey in state.passkeys.items()
        },
        "smartKey": state.smart_key is not None,
        "revokedTokens": len(state.revoked),
        "profile": state.profile,
        "social": state.social,
        "profileChanged": state.changed_at,
    }


def _mailbox(state: Mailbox | None) -> Members:
    if state is None:
        return {}
    correspondents = {
        name: {"received": other.received, "sent": other.sent, "readWithInterest": len(other.interest)}
        for name, other in sorted(state.correspondents.items())
    }
    return {
        "usedBytes": state.used,
        "filed": state.filed,
        "folders": dict(state.folders),
        "correspondents": correspondents,
    }


def _book(past: Past, owner: str, box: Mailbox | None) -> Members:
    """Show the book by handshake id; senders are named where the terms or the mailbox know them."""
    book = past.book(owner)
    terms = _terms(past, owner)
    known = {
        ident: name
        for name in (box.correspondents if box else ())
        for ident in handshake_ids(owner, did=name)
    }
    return {
        ident: {
            "standing": entry.status,
            "sender": known.get(ident, "") or (terms[ident].sender(owner) if ident in terms else ""),
            "created": entry.created,
            "byEmailHash": entry.by_email_hash,
        }
        for ident, entry in book.entries.items()
    }


def _terms(past: Past, owner: str) -> dict[str, Terms]:
    """Return the newest terms under each id."""
    found = {}
    for record in past.records(handshake.stream(owner)):
        if isinstance(record.event, HandshakeAccepted | HandshakeRevoked | HandshakeRequested):
            found[record.event.terms.id] = record.event.terms
    return found


def flattened(state: Members, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the values of a state with the path to each."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from flattened(value, (*path, name))
        else:
            yield (*path, name), value
