"""Messages of peers: from a verified request to a receipt (wire spec section 3.3).

When `take` returns, the message's bytes and its event are on disk, or were when it came for the first time:
the log has one stream for each (peer, message id), which it refuses to open twice. A sender whose answer was
lost sends again and gets the same receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from events import mail
from events.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    MailioError,
    NotFound,
    VersionConflict,
)
from events.event import Recorded
from events.identity import web_did
from events.log import failpoints
from events.log.log import Clock, Log
from events.mail import MailAccepted, Recipient, Turned
from events.policy import Reason, Transport
from node.acceptance import Acceptance, refusal
from node.crypto.keys import SigningKeys
from node.mtp import status
from node.mtp.envelope import MESSAGE, sign_reply
from node.mtp.message import DidCommMessage, local_recipients, read_request, receipt
from node.mtp.ports import Offers, Reports
from node.mtp.status import Code, decode_statuses
from node.mtp.stored import stored
from node.mtp.verifying import Freshness, Verified
from node.mtp.working import worked

MAIL_ID_DIGITS: Final = 32
"""Hex digits of a mail id. 128 bits of a hash: nobody finds a message that has the id of another mail."""

MAX_LOCAL: Final = 100
"""Recipients of one message at this node; clients may name 50 (section 5.4). Each costs some lookups."""


class TooManyRecipients(LimitExceeded):
    """The message is for more people than one request may be."""

    mtp = "5.5.3"


class DuplicateId(Conflict):
    """The peer has sent another message under this id before; that one stands."""


class HandshakeRefused(Forbidden):
    """The offer that the message shows is unknown, was used, or has expired."""

    mtp = str(status.HANDSHAKE_FAILED)


class _Nonce(msgspec.Struct):
    nonce: str


def mail_id(peer: str, message_id: str) -> str:
    """Compute the node's own id of a peer's message: one for each (peer, id), whatever the log holds."""
    digest = hashlib.sha256(f"mtp\n{peer}\n{message_id}".encode()).hexdigest()
    return digest[:MAIL_ID_DIGITS]


def content_digest(message: DidCommMessage) -> str:
    """Digest of what a message says: the same for a repetition, which has another time and signature."""
    return hashlib.sha256(msgspec.json.encode(message)).hexdigest()


class Messages:
    """Takes messages and delivery notifications of verified peers."""

    def __init__(
        self,
        *,
        log: Log,
        acceptance: Acceptance,
        offers: Offers,
        reports: Reports,
        freshness: Freshness,
        clock: Clock,
        keys: SigningKeys,
        server_domain: str,
    ) -> None:
        """`keys` sign the receipts of the server `server_domain`."""
        self._log = log
        self._acceptance = acceptance
        self._offers = offers
        self._reports = reports
        self._freshness = freshness
        self._clock = clock
        self._keys = keys
        self._domain = server_domain

    @failpoints.after("receipt-signed")
    async def take(self, verified: Verified, client: str) -> bytes:
        """Keep a message, or what a notification says, and return the signed receipt.

        `client` is the address that it came from. Raises InvalidInput and LimitExceeded for a message that
        is none, Forbidden for an author of another domain, what the policy refuses with when no recipient
        gets it, DuplicateId, Busy, StorageUnavailable.
        """
        size = len(verified.signed)
        request = await worked(size, read_request, verified.payload)
        message = request.did_comm_message
        author = _author(message, verified.peer)
        self._freshness.require(request.timestamp)
        if message.is_notification:
            await self._reports.record(verified.peer, message.id, decode_statuses(message.plain_body))
            return self._receipt(message.id, request.timestamp)
        ident, content = mail_id(verified.peer, message.id), await worked(size, content_digest, message)
        known = await self._known(ident)
        if known is None:
            known = await self._accept(ident, verified, client, message, author=author, content=content)
        _require_same(known, content)
        return self._receipt(message.id, known.metadata.at)

    def _receipt(self, message_id: str, at: int) -> bytes:
        return sign_reply(MESSAGE, receipt(message_id, at), self._keys, self._domain)

    async def _known(self, ident: str) -> Recorded | None:
        found = await self._log.stream(mail.stream(ident), limit=1)
        return found[0] if found else None

    async def _accept(
        self,
        ident: str,
        verified: Verified,
        client: str,
        message: DidCommMessage,
        *,
        author: str,
        content: str,
    ) -> Recorded:
        """Take responsibility; if another request with this id was faster, return its event."""
        raw = stored(verified)
        admitted, turned = await self._admit(message, author, len(raw))

        def event(blob: str) -> MailAccepted:
            return MailAccepted(
                transport=Transport.MTP,
                blob=blob,
                size=len(raw),
                recipients=admitted,
                envelope_sender=author,
                authors=(author,),
                message_id=message.id,
                received_at=self._clock.now(),
                client=client,
                helo=verified.peer,
                authenticated=True,
                content=content,
                introduces=message.introduces,
                turned=turned,
            )

        try:
            return await self._acceptance.keep(ident, [one.address for one in admitted], raw, event)
        except VersionConflict:
            if (known := await self._known(ident)) is None:
                raise
            return known

    @failpoints.after("peer-message-admitted")
    async def _admit(
        self, message: DidCommMessage, author: str, size: int
    ) -> tuple[tuple[Recipient, ...], tuple[Turned, ...]]:
        """Ask for each recipient whether it takes the message. Raises the refusal when none does."""
        admitted: list[Recipient] = []
        refused: dict[str, MailioError] = {}
        for address in _recipients(message, self._domain):
            found = await self._acceptance.judge(address, author, size, introduction=message.introduces)
            reason = found.reason
            if reason is not None or found.entry is None:
                refused[address] = refusal(reason or Reason.NO_SUCH_MAILBOX)
            elif message.redeems_offer and not await self._redeemed(message, address, author):
                refused[address] = HandshakeRefused("the handshake offer is unknown, used or expired")
            else:
                admitted.append(Recipient(address, found.entry.email, found.case.standing))
        if not admitted:
            raise _weightiest(refused.values())
        return tuple(admitted), tuple(_turned(address, error) for address, error in refused.items())

    async def _redeemed(self, message: DidCommMessage, owner: str, author: str) -> bool:
        """Use the offer up whose nonce the message shows (section 4.6); asked again, it counts again."""
        try:
            nonce = msgspec.json.decode(message.plain_body, type=_Nonce).nonce
        except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidInput):
            return False
        return await self._offers.redeem(owner, nonce, author, message.id)


def _author(message: DidCommMessage, peer: str) -> str:
    """Return the author's DID in its usual form. Raises Forbidden unless it is a user or server of the peer.

    The reference server lets every server write as any user of another one (section 10.3, S4).
    """
    try:
        did = message.author
    except InvalidInput:
        raise InvalidInput("error in field From, tag did, parameter ") from None
    if did.host != peer or not did.address:
        raise Forbidden("the author does not belong to the sender's domain", f"{message.from_} by {peer}")
    return str(web_did(peer, did.address))


def _recipients(message: DidCommMessage, domain: str) -> Sequence[str]:
    found = local_recipients(message, domain)
    if not found:
        raise NotFound("no local recipients found")
    if len(found) > MAX_LOCAL:
        raise TooManyRecipients(f"at most {MAX_LOCAL} recipients at once")
    return found


def _require_same(known: Recorded, content: str) -> None:
    """See that a message under a known id is that message. What was erased can't be compared any more."""
    if isinstance(known.event, MailAccepted) and known.event.content != content:
        raise DuplicateId("another message of this id was received before")


def _weightiest(errors: Iterable[MailioError]) -> MailioError:
    """Choose the refusal to answer with: one that passes, if any does, so that the sender tries again."""
    return min(errors, key=lambda error: not error.temporary)


def _turned(address: str, error: MailioError) -> Turned:
    return Turned(address, str(_code(error)), error.public)


def _code(error: MailioError) -> Code:
    """Return the code of section 3.9 for a recipient who was not admitted."""
    if type(error) is Forbidden:
        return status.HANDSHAKE_REVOKED
    return status.code_of(error)
