"""An owner's handshake book: who may write to this mailbox, and who may not any more.

Entries come from documents that the owner's client has signed (wire spec section 4.2); the door has
verified them before a command reaches this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from events import offer
from events.consent import Consent, Level
from events.event import Event
from events.identity import domain_name, handshake_id
from events.offer import (
    HandshakeOffered,
    MakeOffer,
    Offer,
    OfferRedeemed,
    OfferWithdrawn,
    RedeemOffer,
    WithdrawOffer,
)
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

    def sender(self, owner: str) -> str:
        """Name the sender as far as the terms do: a whole domain, an address or an email hash; else ""."""
        domain = domain_name(self.origin_domain)
        if domain and self.id == handshake_id(owner, domain):
            return domain
        return self.sender_address or self.sender_email_hash


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


class MinimumLevelSet(Event, frozen=True, kw_only=True):
    """The owner lets no handshake of a lower level open the inbox from now on; the node may demand more."""

    level: Level


class RecordHandshake(msgspec.Struct, frozen=True):
    """Enter what a verified document says."""

    terms: Terms


class ForgetHandshake(msgspec.Struct, frozen=True):
    """Remove an entry, because its document was deleted."""

    id: str


class SetMinimumLevel(msgspec.Struct, frozen=True):
    """Let handshakes of a lower level no longer open the inbox."""

    level: Level


Command = RecordHandshake | ForgetHandshake | SetMinimumLevel | MakeOffer | RedeemOffer | WithdrawOffer


class Book(msgspec.Struct):
    """State of one owner's book: what the owner said of each sender, by handshake id, and open offers.

    `hashed` are the ids that can only be found by the sender's email hash, `hashed_revocations` those of them
    that shut somebody out. Entries below `minimum_level` do not open the inbox.
    """

    owner: str
    entries: dict[str, Terms] = {}
    hashed: set[str] = set()
    hashed_revocations: set[str] = set()
    offers: dict[str, Offer] = {}
    minimum_level: Level = Level.NONE

    def standing(self, ids: Iterable[str]) -> Standing:
        """Return what the book says under these handshake ids, all of the same sender."""
        return self.consent(ids).standing

    def consent(self, ids: Iterable[str], *, against: Iterable[str] = (), domain: str = "") -> Consent:
        """Return what the book says of a sender.

        `ids` are the handshake ids of the sender's names, best first, `against` those of names that anybody
        may bear: entries under them count only against the sender. `domain` is the id of the sender's whole
        domain. A revocation under any name wins; then an acceptance, then what is said of the domain, then a
        request that is not answered.
        """
        named = [self.entries[one] for one in ids if one in self.entries]
        shut = [self.entries[one] for one in against if one in self.entries]
        around = [self.entries[domain]] if domain in self.entries else []
        found = (
            _first([*named, *shut], "revoked")
            or _first(named, "accepted")
            or _first(around, "revoked", whole_domain=True)
            or _first(around, "accepted", whole_domain=True)
            or _first(named, "request")
        )
        return msgspec.structs.replace(found, minimum=self.minimum_level) if found else Consent()

    def may_say_more_by_hash(self, consent: Consent) -> bool:
        """Whether the sender's email hash, which is slow to compute, could lead to a weightier entry."""
        if consent.standing is Standing.REVOKED and not consent.whole_domain:
            return False
        if consent.standing is Standing.ACCEPTED and not consent.whole_domain:
            return bool(self.hashed_revocations)
        return bool(self.hashed)


def _first(entries: Iterable[Terms], status: str, *, whole_domain: bool = False) -> Consent | None:
    """Return the first of the entries that has this status, as a consent."""
    for terms in entries:
        if terms.status == status:
            return Consent(
                standing=Standing(status),
                handshake=terms.id,
                whole_domain=whole_domain,
                level=terms.level,
                type=terms.type,
                subtype=terms.subtype,
                frequency_minutes=terms.frequency_minutes,
            )
    return None


def initial(key: str) -> Book:
    """Return an empty book."""
    return Book(owner=key)


_EVENT_OF = {
    "accepted": HandshakeAccepted,
    "revoked": HandshakeRevoked,
    "request": HandshakeRequested,
}


def decide(state: Book, command: Command) -> Sequence[Event]:
    """Say what happened because of a command. A document always has an answer, be it `HandshakeUnchanged`.

    A document older than the one already in the book changes nothing: a device that was long offline
    must not undo a revocation. Raises what `events.offer.decide` raises.
    """
    match command:
        case ForgetHandshake():
            return [_forget(state, command.id)]
        case RecordHandshake():
            return [_record(state, command.terms)]
        case SetMinimumLevel(level=level):
            return [MinimumLevelSet(level=level)] if level is not state.minimum_level else []
        case _:
            return offer.decide(state.offers, command)


def _forget(state: Book, handshake_id: str) -> Event:
    known = handshake_id in state.entries
    return HandshakeForgotten(id=handshake_id) if known else HandshakeUnchanged(id=handshake_id)


def _record(state: Book, terms: Terms) -> Event:
    known = state.entries.get(terms.id)
    event = _EVENT_OF.get(terms.status)
    if event is None:
        return _forget(state, terms.id)
    if known and (known.created > terms.created or known == terms):
        return HandshakeUnchanged(id=terms.id)
    return event(terms=terms)


def evolve(state: Book, event: Event) -> Book:
    """Fold one event into the book; the book that was passed in is used up."""
    match event:
        case HandshakeAccepted() | HandshakeRevoked() | HandshakeRequested():
            _enter(state, event.terms)
        case HandshakeForgotten():
            state.entries.pop(event.id, None)
            state.hashed.discard(event.id)
            state.hashed_revocations.discard(event.id)
        case HandshakeOffered() | OfferRedeemed() | OfferWithdrawn():
            state.offers = offer.evolve(state.offers, event)
        case MinimumLevelSet(level=level):
            state.minimum_level = level
        case _:
            pass
    return state


def _enter(state: Book, terms: Terms) -> None:
    state.entries[terms.id] = terms
    for found, belongs in (
        (state.hashed, terms.by_email_hash),
        (state.hashed_revocations, terms.by_email_hash and terms.status == "revoked"),
    ):
        (found.add if belongs else found.discard)(terms.id)
