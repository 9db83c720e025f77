"""The way to other nodes: finds where a delivery goes, posts it signed, judges what comes back.

Wire spec section 3.3.7. Each attempt finds the way anew: addresses, keys and documents may have changed.
Where documents lead must be a host of the peer itself, and the receipt must be signed with the key that DNS
gives for that host, whatever the answer says of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog

from events.attempt import Addressee, Cause, Outcome, RecipientStatus, Verdict
from events.delivery import Delivery, Kind
from events.errors import Gone, InvalidInput, MailioError, NotFound
from events.identity import Did, mailio_address, web_did
from events.log import failpoints
from events.log.log import Clock
from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys, SigningKeys
from node.discovery.did_web import WebDids
from node.discovery.documents import messaging_url
from node.discovery.fetch import Fetched, GuardedClient
from node.mtp import status
from node.mtp.did_lookup import DidLookup
from node.mtp.envelope import MESSAGE, sign_request
from node.mtp.judging import (
    RECEIPT_BYTES,
    final,
    holds_another_key,
    later,
    of_error,
    of_receipt,
    of_status,
    opened_receipt,
    temporary,
    unsigned,
)
from node.mtp.message import INTENT_DELIVERY, SIGNED, DidCommMessage, DidCommRequest
from node.mtp.ports import PeerKeys
from node.mtp.resolving import EmailLookup, LookupFailed
from node.mtp.status import Code, encode_statuses
from node.rate import TooManyRequests
from node.storage.blobs import Blobs

_messages = structlog.get_logger("sender")

Answered = TypeVar("Answered")

LARGE_BYTES: Final = 131_072
"""Messages from this size on are signed in a thread."""

PACED: Final = 30
"""Seconds for which an attempt waits for its turn at a peer that is asked often."""

JSON: Final = {"Content-Type": "application/json"}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where a delivery goes: URLs, the recipients they are for, and what is known to be wrong with others."""

    endpoints: tuple[str, ...] = ()
    statuses: tuple[RecipientStatus, ...] = ()


class Payload(msgspec.Struct, frozen=True, rename="camel"):
    """What is in the blob of a delivery."""

    did_comm_message: DidCommMessage


class LocalDoor(Protocol):
    """The node's own door, for recipients who live here."""

    async def carry(self, delivery: Delivery, message: DidCommMessage) -> Outcome:
        """Deliver without a network."""


class Sender:
    """The courier of a node (`actors.outgoing.Courier`)."""

    def __init__(
        self,
        *,
        client: GuardedClient,
        dids: WebDids,
        keys: PeerKeys,
        lookup: EmailLookup,
        signing: ServerKeys,
        blobs: Blobs,
        clock: Clock,
        server_domain: str,
        local: LocalDoor,
    ) -> None:
        """`signing` signs in the name of `server_domain`, whose own recipients are reached by `local`."""
        self._client = client
        self._dids = dids
        self._peer_keys = keys
        self._lookup = lookup
        self._signing = signing
        self._blobs = blobs
        self._clock = clock
        self._domain = server_domain
        self._local = local

    @failpoints.after("attempt-answered")
    async def carry(self, delivery: Delivery) -> Outcome:
        """Try once. A fault of this node is an outcome too: tried a few times, then told to the sender."""
        try:
            outcome = await self._carried(delivery)
        except Gone:
            outcome = final(status.OTHER_FAILURE, "the message was erased", answered=False)
        except MailioError as error:
            outcome = of_error(error)
        except Exception as error:  # noqa: BLE001 - reported; the delivery is tried again or fails, never lost
            _messages.exception("an attempt failed in an unforeseen way", delivery=delivery.id)
            text = f"internal error: {type(error).__name__}"
            outcome = later(Cause.REFUSED, "4.3.0", text, answered=False)
        _report(delivery, outcome)
        return outcome

    async def _carried(self, delivery: Delivery) -> Outcome:
        message = await self._message(delivery)
        if delivery.destination == self._domain:
            return await self._local.carry(delivery, message)
        way = await self._way(delivery, message)
        if isinstance(way, Outcome):
            return way
        outcome = Outcome(verdict=Verdict.DELIVERED, code=str(status.DELIVERED), text="message sent")
        try:
            for endpoint in way.endpoints:
                outcome = await self._posted(endpoint, message)
                if outcome.verdict is not Verdict.DELIVERED:
                    break
        except MailioError as error:
            # The addresses stay known: the peer may have the message, and report of them.
            outcome = of_error(error)
        return msgspec.structs.replace(outcome, statuses=(*way.statuses, *outcome.statuses))

    async def _message(self, delivery: Delivery) -> DidCommMessage:
        """Return what goes out. Raises what `Blobs.read` raises, and InvalidInput."""
        if delivery.kind is Kind.REPORT:
            return self._notification(delivery)
        try:
            return msgspec.json.decode(await self._blobs.read(delivery.blob), type=Payload).did_comm_message
        except msgspec.MsgspecError as error:
            raise InvalidInput("the stored message can't be read", str(error)) from None

    def _notification(self, delivery: Delivery) -> DidCommMessage:
        """Return the delivery notification of wire spec section 3.3.6."""
        at = delivery.scheduled_at
        told = [
            Code.parse(one.code).status(one.text, address=one.address, at=at) for one in delivery.statuses
        ]
        return DidCommMessage(
            type=SIGNED,
            id=delivery.message,
            from_=f"did:web:{self._domain}:{mailio_address(self._signing.public_key)}",
            to=[one.did for one in delivery.addressees],
            intent=INTENT_DELIVERY,
            plain_body_base64=to_base64(encode_statuses(told)),
        )

    # Finding the way

    async def _way(self, delivery: Delivery, message: DidCommMessage) -> Way | Outcome:
        if delivery.kind is Kind.REPORT:
            document = await self._dids.server(delivery.destination)
            return Way(endpoints=(messaging_url(document, (delivery.destination,)),))
        dids = [one for one in delivery.addressees if one.did]
        if dids:
            return _joined(await asyncio.gather(*map(self._of_did, dids)))
        return await self._of_emails(delivery, message.from_)

    async def _of_did(self, addressee: Addressee) -> Way:
        did = Did.parse(addressee.did)
        try:
            document = await _paced(lambda: self._dids.resolve(did))
        except NotFound as error:
            return Way(statuses=(_status(status.BAD_MAILBOX, error.public, address=did.address),))
        return Way(endpoints=(messaging_url(document, (did.host,)),))

    async def _of_emails(self, delivery: Delivery, sender: str) -> Way | Outcome:
        emails = [one.email for one in delivery.addressees]
        try:
            asked = await self._lookup.asked(delivery.destination, emails, sender)
        except LookupFailed as error:
            cause = Cause.UNREACHABLE if error.passes else Cause.REFUSED
            return later(cause, temporary(str(error.code)), error.public, answered=False)
        ways = [self._of_lookup(one, asked.server) for one in asked.lookups]
        return _joined(await asyncio.gather(*ways))

    async def _of_lookup(self, one: DidLookup, server: str) -> Way:
        """Return the way to one email. The document is fetched from the server too, which proves it (S19)."""
        if one.did_document is None:
            plain = one.supports_standard_email and not one.supports_mailio
            text = (
                "the recipient's domain takes plain mail only"
                if plain
                else f"recipient not found: {one.email}"
            )
            return Way(statuses=(_status(status.BAD_MAILBOX, text, email=one.email),))
        address = Did.parse(str(one.did_document.get("id", ""))).address
        way = await self._of_did(Addressee(did=str(web_did(server, address))))
        known = way.statuses or (_status(status.DELIVERED, "message sent", address=address),)
        named = tuple(msgspec.structs.replace(each, email=one.email) for each in known)
        return Way(endpoints=way.endpoints, statuses=named)

    # Posting

    async def _posted(self, endpoint: str, message: DidCommMessage) -> Outcome:
        """Post to one endpoint and judge the answer. Raises what `GuardedClient.send` and keys raise."""
        answer = await self._taken(endpoint, message)
        judged = of_status(answer, self._clock.now())
        return judged or await self._receipt(answer, endpoint, message.id)

    async def _taken(self, endpoint: str, message: DidCommMessage) -> Fetched:
        """Send, while keys change a second time by the other one if the first is not what the peer holds."""
        request = DidCommRequest(timestamp=self._clock.now(), did_comm_message=message)
        first, *others = self._signing.signers
        answer = await self._sent(endpoint, await self._signed(request, first))
        for other in others:
            if holds_another_key(answer):
                answer = await self._sent(endpoint, await self._signed(request, other))
        return answer

    async def _signed(self, request: DidCommRequest, keys: SigningKeys) -> bytes:
        """Sign, in a thread where that takes long."""
        message = request.did_comm_message
        if sum(map(len, _bulk(message))) < LARGE_BYTES:
            return sign_request(MESSAGE, request, keys, self._domain)
        return await asyncio.to_thread(sign_request, MESSAGE, request, keys, self._domain)

    async def _sent(self, endpoint: str, body: bytes) -> Fetched:
        return await _paced(
            lambda: self._client.send("POST", endpoint, RECEIPT_BYTES, body=body, headers=JSON)
        )

    async def _receipt(self, answer: Fetched, endpoint: str, message_id: str) -> Outcome:
        opened = opened_receipt(answer)
        if isinstance(opened, Outcome):
            return opened
        server = urlsplit(endpoint).hostname or ""
        # The signature counts; the content type of an answer says nothing (wire spec section 3.3.4).
        if not opened.is_signed_by(await self._peer_keys.of(server)) and not opened.is_signed_by(
            await self._peer_keys.of(server, refresh=True)
        ):
            return unsigned(server)
        return of_receipt(opened, message_id, server)


async def _paced(ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """Ask at our own pace: the client refuses when the peer has been asked too often in a second."""
    for left in reversed(range(PACED)):
        try:
            return await ask()
        except TooManyRequests as error:
            if not left:
                raise
            await asyncio.sleep(error.retry_after)
    raise AssertionError("unreachable")


def _bulk(message: DidCommMessage) -> Sequence[str]:
    body = message.body
    files = [one.data.base64 for one in message.attachments if isinstance(one.data.base64, str)]
    return (body.ciphertext if body else "", message.plain_body_base64, *files)


def _joined(ways: Sequence[Way]) -> Way | Outcome:
    """Return one way for all; an outcome when there is none for anybody."""
    endpoints = tuple(dict.fromkeys(one for way in ways for one in way.endpoints))
    statuses = tuple(one for way in ways for one in way.statuses)
    if endpoints:
        return Way(endpoints=endpoints, statuses=statuses)
    first = statuses[0] if statuses else _status(status.BAD_MAILBOX, "no recipients")
    outcome = final(first.code, first.text, answered=False)
    return msgspec.structs.replace(outcome, statuses=statuses)


def _status(code: Code, text: str, *, address: str = "", email: str = "") -> RecipientStatus:
    return RecipientStatus(address=address, email=email, code=str(code), text=text)


def _report(delivery: Delivery, outcome: Outcome) -> None:
    """Tell the operator what an attempt came to."""
    _messages.info(
        "attempt",
        delivery=delivery.id,
        number=delivery.attempts,
        outcome=outcome.verdict,
        cause=outcome.cause or "",
        code=outcome.code,
        text=outcome.text,
    )
