"""Routes for other nodes: messages and lookups, signed both ways (wire spec section 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from node.api.clients import Clients
from node.api.rate import Cost
from node.api.request_data import read_bytes
from node.api.route import Call, Route
from node.core import Core
from node.mtp.did_lookup import DidLookupRequest, DidLookupResponse
from node.mtp.envelope import DID_LOOKUP, HANDSHAKE_LOOKUP, MESSAGE
from node.mtp.message import DidCommRequest

Answer = Callable[[bytes, str], Awaitable[bytes]]
"""From the body of a request and the client's address to the body of the reply."""

REFUSALS: Final = (400, 404, 409, 507)


class _Signed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base64 of the payload in CBOR, and of the Ed25519 signature over those bytes."""

    cbor_payload_base64: str
    signature_base64: str


class SignedMessageEnvelope(_Signed, frozen=True, kw_only=True, rename="camel"):
    """A message, or its receipt, with its sender's server domain."""

    did_comm_request: DidCommRequest
    sender_domain: str


class SignedDidLookup(_Signed, frozen=True, kw_only=True, rename="camel"):
    """A lookup of DID documents."""

    did_lookup_request: DidLookupRequest
    sender_domain: str


class SignedDidAnswer(_Signed, frozen=True, kw_only=True, rename="camel"):
    """Its answer."""

    did_lookup_response: DidLookupResponse


class SignedHandshakeLookup(_Signed, frozen=True, kw_only=True, rename="camel"):
    """A lookup of handshakes."""

    handshake_request: dict[str, Any]
    sender_domain: str


class SignedHandshakeAnswer(_Signed, frozen=True, kw_only=True, rename="camel"):
    """Its answer."""

    handshake_response: dict[str, Any]


class FederationRoutes:
    """Routes that only other nodes ask."""

    def __init__(self, core: Core, clients: Clients) -> None:
        self._door = core.peer_door
        self._clients = clients
        self._settings = core.settings.mtp

    def routes(self) -> list[Route]:
        """Declare the routes."""
        own = self._settings.messaging_path
        common: dict[str, Any] = {
            "method": "POST", "tag": "federation", "cost": Cost.PEER, "reads_body": True, "refusals": REFUSALS
        }  # fmt: skip
        return [
            Route(
                path=own,
                aliases=(MESSAGE.path,) if own != MESSAGE.path else (),
                summary="Take a message of another node; the answer is a signed receipt",
                handler=self.message,
                body=SignedMessageEnvelope,
                answer=SignedMessageEnvelope,
                status=202,
                **common,
            ),
            Route(
                path=DID_LOOKUP.path,
                summary="DID documents of users by the hashes of their emails",
                handler=self.did,
                body=SignedDidLookup,
                answer=SignedDidAnswer,
                **common,
            ),
            Route(
                path=HANDSHAKE_LOOKUP.path,
                summary="Whether owners have let users of the asking node in",
                handler=self.handshake,
                body=SignedHandshakeLookup,
                answer=SignedHandshakeAnswer,
                **common,
            ),
        ]

    async def message(self, call: Call[None, None]) -> bytes:
        """Take a message."""
        return await self._answered(call.request, self._settings.message_bytes, self._door.message)

    async def did(self, call: Call[None, None]) -> bytes:
        """Look up DID documents."""
        return await self._answered(call.request, self._settings.lookup_bytes, self._door.did)

    async def handshake(self, call: Call[None, None]) -> bytes:
        """Look up handshakes."""
        return await self._answered(call.request, self._settings.lookup_bytes, self._door.handshake)

    async def _answered(self, request: web.Request, limit: int, answer: Answer) -> bytes:
        """Read the body while room is held for what has come of it, and answer."""
        client = self._clients.key(request)
        with self._door.turns.of_address(client) as grow:
            return await answer(await read_bytes(request, limit, grow), client)
