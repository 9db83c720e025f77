"""Handshake offers: links that an owner passes on (wire spec section 4.6)."""

from __future__ import annotations

import msgspec

from node.api.folders import Deleted
from node.api.route import Auth, Call, Route
from node.core import Core
from node.offers import OpenOffer


class OfferLink(msgspec.Struct, frozen=True):
    """`<nonce>:<server domain>:<address>`: whoever has it may send one handshake request."""

    link: str


class OpenOffers(msgspec.Struct, frozen=True):
    """The offers that nobody has used yet, oldest first."""

    offers: list[OpenOffer]


class OfferRoutes:
    """Routes of one's own offers."""

    def __init__(self, core: Core) -> None:
        self._offers = core.offers

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/handshakeoffer",
                summary="Make a link by which somebody may ask for a handshake, once",
                tag="handshakes",
                handler=self.make,
                answer=OfferLink,
                auth=Auth.TOKEN,
                refusals=(409,),
            ),
            Route(
                method="GET",
                path="/api/v1/handshakeoffers",
                summary="The own links that nobody has used yet",
                tag="handshakes",
                handler=self.all,
                answer=OpenOffers,
                auth=Auth.TOKEN,
            ),
            Route(
                method="DELETE",
                path="/api/v1/handshakeoffers/{id}",
                summary="Withdraw a link",
                tag="handshakes",
                handler=self.withdraw,
                answer=Deleted,
                auth=Auth.TOKEN,
                refusals=(404,),
            ),
        ]

    async def make(self, call: Call[None, None]) -> OfferLink:
        """Make one. Raises Conflict when too many are open."""
        return OfferLink(await self._offers.make(call.address, call.origin))

    async def all(self, call: Call[None, None]) -> OpenOffers:
        """List them."""
        return OpenOffers(await self._offers.open(call.address))

    async def withdraw(self, call: Call[None, None]) -> Deleted:
        """Withdraw one. Raises NotFound."""
        await self._offers.withdraw(call.address, call.path("id"), call.origin)
        return Deleted()
