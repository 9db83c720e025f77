"""What the door for peers asks of the rest of the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from node.mtp.status import MtpStatus


class PeerKeys(Protocol):
    """Where keys of other domains come from: DNS, and nothing else."""

    async def of(self, domain: str, refresh: bool = False) -> tuple[bytes, ...]:
        """Return the Ed25519 keys (32 bytes each) that DNS gives for a domain, newest first.

        `refresh` asks anew. Raises NotFound when the domain has no Mailio record, InvalidInput for what is
        no domain, MalformedRecord, and what is temporary: DnsUnavailable, Busy.
        """


class Offers(Protocol):
    """Where handshake offers are redeemed."""

    async def redeem(self, owner: str, nonce: str, requester_did: str, message_id: str) -> bool:
        """Use an offer up for one message, which may ask again; say whether it counts."""


class Reports(Protocol):
    """Where it is kept what peers say about the messages that this node sent."""

    async def record(self, peer: str, message_id: str, statuses: Sequence[MtpStatus]) -> None:
        """Keep what a peer says; whoever was no recipient's domain of that message says nothing."""


class HandshakeLookups(Protocol):
    """Where peers' questions about handshakes are answered."""

    async def answer(self, peer: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `handshakeResponse` for a verified peer."""


class Nobody:
    """Stands where a node has no part for it: no offer is known, reports mean nothing, nobody shook hands."""

    async def redeem(self, owner: str, nonce: str, requester_did: str, message_id: str) -> bool:
        """See `Offers.redeem`."""
        return False

    async def record(self, peer: str, message_id: str, statuses: Sequence[MtpStatus]) -> None:
        """See `Reports.record`."""

    async def answer(self, peer: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """See `HandshakeLookups.answer`."""
        header = {name: payload["lookupHeader"][name] for name in ("signatureScheme", "timestamp")}
        return {"lookupHeader": header, "handshakes": []}
