"""Handshake offers: single-use links by which an owner invites somebody to ask (wire spec section 4.6).

They stand in the owner's handshake book. What the log keeps of a link is a hash of its nonce, bound to the
owner: who reads the log can't use an offer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from events.errors import Conflict, Forbidden, NotFound
from events.event import Event

ID_LENGTH: Final = 16
"""Hex digits of the digest by which the owner names an offer: enough to tell their own apart."""

REMEMBERED_MS: Final = 30 * 86_400_000
"""How long a redeemed offer is known: longer than any sender tries to deliver the message that used it."""

MOST_REMEMBERED: Final = 256
"""Offers that one book holds, used ones included. Every comparison walks that many places, filled or not."""

_NOBODY: Final = "0" * 64


class HandshakeOffered(Event, frozen=True, kw_only=True):
    """The owner got a link to pass on. `digest` is `nonce_digest` of its nonce, times are in milliseconds."""

    digest: str
    offered_at: int
    expires_at: int


class OfferRedeemed(Event, frozen=True, kw_only=True):
    """A request came with the link: it counts for this message of this requester, and for nothing else."""

    digest: str
    requester: str
    message: str
    redeemed_at: int


class OfferWithdrawn(Event, frozen=True, kw_only=True):
    """The owner took an open offer back."""

    digest: str


class MakeOffer(msgspec.Struct, frozen=True):
    """Open an offer at `at` for `lifetime` (ms), unless `most` are open already."""

    digest: str
    at: int
    lifetime: int
    most: int


class RedeemOffer(msgspec.Struct, frozen=True):
    """Use an offer up for one message.

    Offers that were made before `not_before` (ms) do not count: the log may have forgotten their use.
    """

    digest: str
    requester: str
    message: str
    at: int
    not_before: int = 0


class WithdrawOffer(msgspec.Struct, frozen=True):
    """Take back the open offer whose digest begins with `id`."""

    id: str
    at: int


OfferCommand = MakeOffer | RedeemOffer | WithdrawOffer
OfferEvent = HandshakeOffered | OfferRedeemed | OfferWithdrawn


class Offer(msgspec.Struct, frozen=True):
    """One link; `redeemed_at` is 0 while nobody has used it."""

    offered_at: int
    expires_at: int
    requester: str = ""
    message: str = ""
    redeemed_at: int = 0

    def is_open(self, now: int) -> bool:
        """Whether somebody can use it at `now` (ms)."""
        return not self.redeemed_at and now < self.expires_at

    def is_worth_keeping(self, now: int) -> bool:
        """Whether it can still be used, or its use may be asked about again."""
        return self.is_open(now) or now < self.redeemed_at + REMEMBERED_MS


Offers = dict[str, Offer]
"""Offers of one owner by digest, oldest first."""


def nonce_digest(owner: str, nonce: str) -> str:
    """Return what the log keeps of a nonce: SHA-256 (hex) over owner and nonce."""
    return hashlib.sha256(f"{owner}:{nonce}".encode()).hexdigest()


def open_offers(offers: Offers, now: int) -> Offers:
    """Return the offers that can be used at `now` (ms)."""
    return {digest: offer for digest, offer in offers.items() if offer.is_open(now)}


def decide(offers: Offers, command: OfferCommand) -> Sequence[Event]:
    """Say what happened because of a command.

    Raises Conflict when too many offers are open, Forbidden for one that can't be used, NotFound.
    """
    match command:
        case MakeOffer():
            return [_made(offers, command)]
        case RedeemOffer():
            return _redeemed(offers, command)
        case WithdrawOffer():
            return [_withdrawn(offers, command)]


def _made(offers: Offers, command: MakeOffer) -> Event:
    if len(open_offers(offers, command.at)) >= command.most:
        raise Conflict(f"{command.most} offers are open, as many as may be: withdraw one, or wait")
    return HandshakeOffered(
        digest=command.digest, offered_at=command.at, expires_at=command.at + command.lifetime
    )


def _redeemed(offers: Offers, command: RedeemOffer) -> Sequence[Event]:
    """Use an offer; the same message again changes nothing and counts."""
    offer = _matching(offers, command.digest)
    if offer is not None and offer.redeemed_at:
        if (offer.requester, offer.message) == (command.requester, command.message):
            return []
        offer = None
    if offer is None or not offer.is_open(command.at) or offer.offered_at < command.not_before:
        raise Forbidden("no such handshake offer", "unknown, used by another message, expired or withdrawn")
    return [
        OfferRedeemed(
            digest=command.digest,
            requester=command.requester,
            message=command.message,
            redeemed_at=command.at,
        )
    ]


def _matching(offers: Offers, digest: str) -> Offer | None:
    """Find an offer; takes the same for a book with many, one or none of them."""
    found = None
    wanted = digest.encode()
    for known in [*offers, *[_NOBODY] * (MOST_REMEMBERED - len(offers))]:
        if hmac.compare_digest(known.encode(), wanted):
            found = offers.get(known)
    return found


def _withdrawn(offers: Offers, command: WithdrawOffer) -> Event:
    for digest in open_offers(offers, command.at):
        if digest[:ID_LENGTH] == command.id:
            return OfferWithdrawn(digest=digest)
    raise NotFound("no open offer has this id")


def evolve(offers: Offers, event: OfferEvent) -> Offers:
    """Fold one event; the offers that were passed in are used up."""
    match event:
        case HandshakeOffered():
            offers = _pruned(offers, event.offered_at)
            offers[event.digest] = Offer(event.offered_at, event.expires_at)
        case OfferRedeemed():
            offers[event.digest] = msgspec.structs.replace(
                offers[event.digest],
                requester=event.requester,
                message=event.message,
                redeemed_at=event.redeemed_at,
            )
        case OfferWithdrawn():
            offers.pop(event.digest, None)
    return offers


def _pruned(offers: Offers, now: int) -> Offers:
    """Forget what is of no use any more, and what is too many: used ones first, of each the oldest.

    Only an archive from elsewhere can have so many that open ones go.
    """
    kept = {digest: offer for digest, offer in offers.items() if offer.is_worth_keeping(now)}
    by_worth = sorted(kept, key=lambda digest: kept[digest].is_open(now))
    for digest in by_worth[: max(0, len(kept) + 1 - MOST_REMEMBERED)]:
        del kept[digest]
    return kept
