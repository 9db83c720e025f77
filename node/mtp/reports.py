"""What peers say became of our messages: it counts when that peer serves a recipient of that message.

The reference server lets anybody say anything about any message (wire spec section 10.3, S9). A message of
ours has a delivery for each destination, so the peer's name leads to the one delivery it may speak about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from actors.federation import Intervene
from actors.outgoing import KIND
from events import delivery
from events.attempt import RecipientStatus
from events.delivery import DeliveryScheduled, Kind, NoteReport, delivery_id
from events.identity import is_document_hash
from events.log import failpoints
from events.log.log import Clock, Log
from node.discovery.domains import Domains
from node.mtp.status import MtpStatus
from node.smtp.replies import printable

MAX_STATUSES: Final = 50
"""Statuses of one report that are looked at: a message of ours has no more recipients."""

_messages = structlog.get_logger("sender")


class Actors(Protocol):
    """Where destinations are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class PeerReports:
    """The `Reports` of a node."""

    def __init__(self, log: Log, actors: Actors, domains: Domains, clock: Clock) -> None:
        self._log = log
        self._actors = actors
        self._domains = domains
        self._clock = clock

    @failpoints.after("report-recorded")
    async def record(self, peer: str, message_id: str, statuses: Sequence[MtpStatus]) -> None:
        """Keep what a peer says about a message that went to it; anything else is passed over.

        Raises what is temporary, so that the peer tries again.
        """
        destination = await self._destination(peer, message_id)
        if destination is None:
            _messages.info("report about no message of ours", peer=peer, message=printable(message_id))
            return
        said = tuple(
            RecipientStatus(
                address=one.address.lower(), code=str(one.code), text=printable(one.description, 200)
            )
            for one in statuses[:MAX_STATUSES]
        )
        command = NoteReport(at=self._clock.now(), peer=peer, statuses=said)
        order = Intervene(delivery_id(destination, message_id), command, f"peer/{peer}")
        await self._actors.ask(KIND, destination, order)

    async def _destination(self, peer: str, message_id: str) -> str | None:
        """Return the destination that this peer may speak for: itself, or the email domain that it serves."""
        if not is_document_hash(message_id):
            return None
        if await self._went_to(peer, message_id):
            return peer
        # The server of a domain is the domain itself or a name below it (wire spec section 2.2).
        above = peer.partition(".")[2]
        if "." in above and await self._went_to(above, message_id):
            discovered = await self._domains.look_up(above)
            discovered.require()
            return above if discovered.server == peer else None
        return None

    async def _went_to(self, destination: str, message_id: str) -> bool:
        stream = delivery.stream(delivery_id(destination, message_id))
        first = await self._log.stream(stream, limit=1)
        event = first[0].event if first else None
        return isinstance(event, DeliveryScheduled) and event.kind is Kind.MESSAGE
