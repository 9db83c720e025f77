"""Handshake offers: made by their owner, redeemed once by a peer's message (wire spec section 4.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from actors import handshake
from actors.messages import Execute, Inspect
from events.errors import Forbidden, NotFound
from events.event import Recorded
from events.handshake import Book
from events.identity import is_address
from events.log.log import Clock, Origin
from events.offer import ID_LENGTH, MakeOffer, RedeemOffer, WithdrawOffer, nonce_digest, open_offers
from node.crypto.nonces import HANDSHAKE_LETTERS, handshake_link, random_letters

HOUR_MS = 3_600_000


class Actors(Protocol):
    """Where handshake books are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class OpenOffer(msgspec.Struct, frozen=True, rename="camel"):
    """An offer that nobody has used yet. The link itself is known to who got it; times in milliseconds."""

    id: str
    created: int
    expires: int


class Offers:
    """Makes, lists, withdraws and redeems the offers of all owners."""

    def __init__(
        self,
        actors: Actors,
        clock: Clock,
        *,
        domain: str,
        hours: float,
        most: int,
        restored_at: Callable[[], int] = lambda: 0,
    ) -> None:
        """`domain` stands in the links, which last `hours`; an owner has `most` of them open.

        `restored_at` tells when (ms) the log last came out of a backup: it may have forgotten which of the
        offers before that were used.
        """
        self._actors = actors
        self._clock = clock
        self._domain = domain
        self._lifetime = int(hours * HOUR_MS)
        self._most = most
        self._restored_at = restored_at

    async def make(self, owner: str, origin: Origin) -> str:
        """Open an offer; return its link. Raises Conflict when too many are open."""
        nonce = random_letters(HANDSHAKE_LETTERS)
        command = MakeOffer(nonce_digest(owner, nonce), self._clock.now(), self._lifetime, self._most)
        await self._execute(owner, command, origin)
        return handshake_link(nonce, self._domain, owner)

    async def open(self, owner: str) -> list[OpenOffer]:
        """List the open offers of an owner, oldest first."""
        book = await self._actors.ask(handshake.KIND, owner, Inspect())
        assert isinstance(book, Book)
        return [
            OpenOffer(digest[:ID_LENGTH], offer.offered_at, offer.expires_at)
            for digest, offer in open_offers(book.offers, self._clock.now()).items()
        ]

    async def withdraw(self, owner: str, offer: str, origin: Origin) -> None:
        """Take an open offer back by its id. Raises NotFound."""
        await self._execute(owner, WithdrawOffer(offer, self._clock.now()), origin)

    async def redeem(self, owner: str, nonce: str, requester_did: str, message_id: str) -> bool:
        """Use an offer up for one message; durable on return. The same message may ask again.

        False for every other reason alike: no such owner, a wrong nonce, one that was used by another
        message, withdrawn, expired, or made before the log was restored. All of them cost one question to
        one book, which compares as often. Raises Busy, StorageUnavailable.
        """
        if not is_address(owner):
            return False
        owner = owner.lower()
        command = RedeemOffer(
            nonce_digest(owner, nonce), requester_did, message_id, self._clock.now(), self._restored_at()
        )
        try:
            await self._execute(owner, command, Origin(actor="mtp"))
        except (Forbidden, NotFound):
            return False
        return True

    async def _execute(self, owner: str, command: object, origin: Origin) -> list[Recorded]:
        recorded = await self._actors.ask(handshake.KIND, owner, Execute(command, origin))
        assert isinstance(recorded, list)
        return recorded
