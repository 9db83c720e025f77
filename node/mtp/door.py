"""The door for peers, without HTTP: the three conversations, each from a body to a signed reply.

The path of every request: room for it, its sender (`verifying`), the sender's rate, then what it wants.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from events.errors import InvalidInput, MailioError
from events.log.log import Clock
from node.crypto.keys import SigningKeys
from node.mtp import did_lookup
from node.mtp.did_lookup import DidLookup, DidLookupResponse, LookupHeader, answering_header
from node.mtp.envelope import DID_LOOKUP, HANDSHAKE_LOOKUP, MESSAGE, InvalidEnvelope, Kind, sign_reply
from node.mtp.ports import HandshakeLookups
from node.mtp.receiving import Messages
from node.mtp.seen import SeenLookups
from node.mtp.turns import Turns
from node.mtp.verifying import Freshness, Verified, Verifier
from node.smtp.replies import printable
from projections.directory import AccountDirectory

_messages = structlog.get_logger("mtp")

Answer = Callable[[Verified], Awaitable[bytes]]
"""Answers a verified request with the body of a signed reply."""


class PeerDoor:
    """Answers requests of other nodes."""

    def __init__(
        self,
        *,
        verifier: Verifier,
        turns: Turns,
        freshness: Freshness,
        seen: SeenLookups,
        messages: Messages,
        directory: AccountDirectory,
        handshakes: HandshakeLookups,
        keys: SigningKeys,
        clock: Clock,
        heard: Callable[[str], None],
    ) -> None:
        """`keys` sign the replies; `heard` is told of each peer that has sent something signed."""
        self._heard = heard
        self.turns = turns
        self._verifier = verifier
        self._freshness = freshness
        self._seen = seen
        self._taken = messages
        self._directory = directory
        self._handshakes = handshakes
        self._keys = keys
        self._clock = clock

    async def message(self, body: bytes, client: str) -> bytes:
        """Take a message or delivery notification; the receipt means that it is on disk."""
        return await self._answered(MESSAGE, body, client, lambda one: self._taken.take(one, client))

    async def did(self, body: bytes, client: str) -> bytes:
        """Tell DID documents by email hashes (wire spec section 3.4)."""
        return await self._answered(DID_LOOKUP, body, client, self._did)

    async def handshake(self, body: bytes, client: str) -> bytes:
        """Tell a peer what owners say about its users (wire spec section 3.5)."""
        return await self._answered(HANDSHAKE_LOOKUP, body, client, self._handshake)

    async def _answered(self, kind: Kind, body: bytes, client: str, answer: Answer) -> bytes:
        """Verify and answer; raises what `Verifier.verify` and the answer raise, and TooManyRequests."""
        try:
            verified = await self._verifier.verify(kind, body)
        except InvalidEnvelope as error:
            self.turns.failed(client)
            _report(kind, client, "", error)
            raise
        self._heard(verified.peer)
        try:
            with self.turns.of_peer(verified.peer):
                return await answer(verified)
        except MailioError as error:
            _report(kind, client, verified.peer, error)
            raise

    async def _did(self, verified: Verified) -> bytes:
        request = did_lookup.read_did_request(verified.payload)
        self._require_current(verified, request.lookup_header)
        self.turns.asked(verified.peer, len(request.did_lookups))
        found, missing = [], []
        for asked in request.did_lookups:
            document = await self._document(asked.email_hash)
            bare = DidLookup(email_hash=asked.email_hash, email=asked.email)
            if document is None:
                missing.append(bare)
            else:
                found.append(_found(bare, document))
        reply = DidLookupResponse(
            lookup_header=answering_header(self._clock.now()), found_lookups=found, not_found_lookups=missing
        )
        return sign_reply(DID_LOOKUP, reply, self._keys)

    async def _document(self, email_hash: str) -> dict[str, Any] | None:
        entry = await self._directory.by_email_hash(email_hash)
        return await self._directory.did_document(entry.address) if entry and entry.enabled else None

    async def _handshake(self, verified: Verified) -> bytes:
        payload = verified.payload
        self._require_current(verified, did_lookup.read_header(payload.get("lookupHeader")))
        elements = payload.get("handshakeLookups")
        if not isinstance(elements, list):
            raise InvalidInput("error in field HandshakeLookups, tag required, parameter ")
        self.turns.asked(verified.peer, len(elements))
        reply = await self._handshakes.answer(verified.peer, payload)
        return sign_reply(HANDSHAKE_LOOKUP, reply, self._keys)

    def _require_current(self, verified: Verified, header: LookupHeader) -> None:
        """See that a lookup was made just now, and was not answered before."""
        self._freshness.require(header.timestamp)
        self._seen.require_new(verified.peer, verified.signature, header.timestamp)


def _found(bare: DidLookup, document: dict[str, Any]) -> DidLookup:
    return DidLookup(
        email_hash=bare.email_hash,
        email=bare.email,
        supports_mailio=True,
        supports_standard_email=True,
        did_document=document,
    )


def _report(kind: Kind, client: str, peer: str, error: MailioError) -> None:
    """Tell the operator why a peer got no answer; what a stranger wrote is made harmless."""
    _messages.info(
        "refused",
        request=kind.request,
        client=client,
        peer=peer,
        code=error.mtp,
        reason=printable(str(error)),
    )
