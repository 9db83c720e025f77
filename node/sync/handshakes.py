"""The verifier of handshake documents: the owner's registered key, the signed content, the document's id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from events.errors import Forbidden, MailioError
from events.handshake import Terms
from events.identity import handshake_id, handshake_ids, is_address, is_document_hash
from node.crypto.handshakes import (
    DOCUMENT_TYPE,
    Refusal,
    VerifiedHandshake,
    read_handshake_body,
    verify_handshake,
)

PublicKeyOf = Callable[[str], Awaitable[bytes]]
"""The registered Ed25519 key of an address. Raises NotFound."""


def is_handshake(document: dict[str, Any]) -> bool:
    """Tell whether a document claims to be a handshake (wire spec section 4.4).

    Requests from strangers lie in the same folder but have another type; older clients may leave the
    type out, then the body decides.
    """
    message = document.get("didCommMessage")
    if not isinstance(message, dict):
        return False
    if message.get("type") == DOCUMENT_TYPE:
        return True
    if document.get("folder") != "handshake" or message.get("type"):
        return False
    try:
        return "content" in read_handshake_body(document)
    except MailioError:
        return False


class SignedHandshakes:
    """A `HandshakeVerifier` that asks for the owner's key and compares the document's id."""

    def __init__(self, public_key_of: PublicKeyOf) -> None:
        self._public_key_of = public_key_of

    async def verify(self, owner: str, document_id: str, document: dict[str, Any]) -> Terms:
        """Return what the document says. Raises Forbidden with the named reason."""
        try:
            handshake = read_handshake_body(document)
            verified = verify_handshake(handshake, owner, await self._public_key_of(owner))
        except MailioError as error:
            # Only the named reasons are public; what a directory or a disk says privately is not.
            named = error.private if isinstance(error.private, Refusal) else "owner-is-unknown"
            raise Forbidden(f"invalid handshake: {named}", f"{owner} {document_id}") from error
        if document_id not in _ids(verified) or not _is_id(document_id):
            raise Forbidden("invalid handshake: document-id-is-another", f"{owner} {document_id}")
        by_hash = bool(verified.sender_email_hash) and (
            handshake_id(owner, verified.sender_email_hash) == document_id
        )
        return Terms(
            id=document_id,
            status=verified.status,
            level=verified.level,
            type=verified.type,
            subtype=verified.subtype,
            frequency_minutes=verified.frequency_minutes,
            sender_address=verified.sender_address,
            sender_email_hash=verified.sender_email_hash,
            origin_domain=verified.origin_domain,
            by_email_hash=by_hash,
            created=verified.created,
        )


def _ids(verified: VerifiedHandshake) -> list[str]:
    """Return the ids of documents that may hold a handshake: what the owner signed must say who is meant.

    Without a `handshakeId` the id has to follow from the signed sender. Else whoever can write to the
    database, but not sign, could put what the owner said of a friend under the id of somebody else.
    """
    if verified.id:
        return [verified.id]
    address, email_hash = verified.sender_address, verified.sender_email_hash
    return handshake_ids(verified.owner, address=address, email_hash=email_hash)


def _is_id(text: str) -> bool:
    return is_document_hash(text) or is_address(text)
