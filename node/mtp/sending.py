"""What a client sends: checked, made a message, promised to be delivered (wire spec section 5.4).

The message, its document and the promises of all deliveries are one append: an answer of 202 means that each
recipient will have it, or that the sender will be told why not.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from actors import mailbox
from actors.federation import Intervene
from actors.messages import Execute, Inspect
from actors.outgoing import KIND as FEDERATION
from events import delivery
from events.attempt import Addressee
from events.delivery import Cancel, DeliveryScheduled, Kind, delivery_id
from events.errors import Conflict, Forbidden, InvalidInput, LimitExceeded, MailioError, NotFound
from events.identity import Did, email_domain, normalise_domain, normalise_email, userdb_name, web_did
from events.log import failpoints
from events.log.log import Clock, Origin, Write
from events.mailbox import Mailbox, SendMessage
from node.mtp.envelope import SIGNATURE_SCHEME
from node.mtp.message import (
    INTENT_DELIVERY,
    INTENT_HANDSHAKE_REQUEST,
    INTENT_MESSAGE,
    MAX_ATTACHMENTS,
    RESPONSE_INTENTS,
    Attachment,
    AttachmentData,
    DidCommMessage,
    read_request,
)
from node.storage.blobs import Blobs
from projections.deliveries import DELIVERY_ID, DeliveryDocument
from projections.directory import AccountDirectory
from projections.view_store import Documents

MAX_RECIPIENTS: Final = 50
"""Recipients of one message, by email (wire spec section 5.4), and here by DID too: each may be a host."""

MAX_CIPHERTEXT: Final = 3_145_728
"""Characters of `body.ciphertext` (wire spec section 5.4)."""

MAX_FILES: Final = 16_777_216
"""Bytes of all attachments of a message: what a receiver's default takes, twice as base64."""

ENCRYPTED_MARK: Final = "?enc=1"
"""What marks the link of an attachment that goes with the message; others are lost (section 3.3.7)."""


class Unprocessable(InvalidInput):
    """Well formed, and still nothing that can be sent."""

    http = 422


class QuotaExceeded(MailioError):
    """The sender's mailbox is full, and sent messages are kept there."""

    http = 429
    mtp = "5.2.2"


class Actors(Protocol):
    """Where mailboxes and destinations are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class OwnFiles(Protocol):
    """Where users' uploaded files are."""

    async def read(self, owner: str, link: str) -> bytes:
        """Return the bytes behind a link of the owner's own. Raises Forbidden, NotFound."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A message that may be sent: as its sender keeps it, and as it goes out."""

    kept: DidCommMessage
    outgoing: DidCommMessage
    addressees: Mapping[str, tuple[Addressee, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """All recipients in lower case."""
        return tuple(one.name.lower() for group in self.addressees.values() for one in group)


class Sending:
    """Sends on behalf of accounts."""

    def __init__(
        self,
        *,
        actors: Actors,
        directory: AccountDirectory,
        documents: Documents,
        blobs: Blobs,
        files: OwnFiles,
        clock: Clock,
        server_domain: str,
        email_domains: Sequence[str],
        quota: int,
        lifetime_ms: int,
    ) -> None:
        """`documents` is the view of users' databases; `quota` is in bytes."""
        self._actors = actors
        self._directory = directory
        self._documents = documents
        self._blobs = blobs
        self._files = files
        self._clock = clock
        self._domain = server_domain
        self._email_domains = frozenset(email_domains)
        self._quota = quota
        self._lifetime = lifetime_ms

    async def send(self, address: str, stated: Mapping[str, Any], origin: Origin) -> str:
        """Check what an account's client wants to send, in the order of section 5.4; return the message id.

        Raises InvalidInput (400), Forbidden (403), Unprocessable (422), LimitExceeded (413), QuotaExceeded
        (429), and what is temporary.
        """
        message, files = self._bound(address, stated)
        await self._require_enabled(address)
        self._require_bounds(message, files)
        await self._require_room(address, message)
        prepared = Prepared(
            kept=message,
            outgoing=await self._with_files(address, message),
            addressees=await self._grouped(message),
        )
        await self._keep(address, prepared, origin)
        return message.id

    def _bound(self, address: str, stated: Mapping[str, Any]) -> tuple[DidCommMessage, int]:
        """Give the message what only the node may say, and validate it; return how many files it has."""
        now = self._clock.now()
        members = {name: value for name, value in stated.items() if value is not None}
        if not members.get("createdTime"):
            raise InvalidInput("error in field CreatedTime, tag required, parameter ")
        if members.get("intent") in {INTENT_DELIVERY, *RESPONSE_INTENTS}:
            raise InvalidInput(
                "error in field Intent, tag oneof, parameter message handshake handshake_request"
            )
        # Two ids of the clock: ascending in time, so that a sender's messages stand in order in the queue.
        ident = self._clock.event_id() + self._clock.event_id()
        files = members.get("attachments")
        members |= {
            "id": ident,
            "from": str(web_did(self._domain, address)),
            "createdTime": now,
            "intent": members.get("intent") or INTENT_MESSAGE,
            "thid": members.get("thid") or ident,
            "attachments": files[:MAX_ATTACHMENTS] if isinstance(files, list) else [],
        }
        request = {"signatureScheme": SIGNATURE_SCHEME, "timestamp": now, "didCommMessage": members}
        return read_request(request).did_comm_message, len(files) if isinstance(files, list) else 0

    async def _require_enabled(self, address: str) -> None:
        entry = await self._directory.by_address(address)
        if entry is None or not entry.enabled:
            raise Forbidden("user disabled")

    def _require_bounds(self, message: DidCommMessage, files: int) -> None:
        if not message.to and not message.to_emails:
            raise Unprocessable("No recipient")
        if len(message.to_emails) > MAX_RECIPIENTS or len(message.to) > MAX_RECIPIENTS:
            raise Unprocessable("too many recipients")
        if message.body is not None and len(message.body.ciphertext) > MAX_CIPHERTEXT:
            raise LimitExceeded("message too large")
        if files > MAX_ATTACHMENTS:
            raise Unprocessable("too many attachments")

    async def _require_room(self, address: str, message: DidCommMessage) -> None:
        state = await self._actors.ask(mailbox.KIND, address, Inspect())
        assert isinstance(state, Mailbox)
        size = len(message.body.ciphertext) if message.body is not None else 0
        if state.used + size > self._quota:
            raise QuotaExceeded("Quota exceeded")

    async def _with_files(self, address: str, message: DidCommMessage) -> DidCommMessage:
        """Return a copy whose attachments have their bytes (section 3.3.7, step 4)."""
        sent, left = [], MAX_FILES
        for attachment in message.attachments:
            content = await self._content(address, attachment)
            left -= len(content)
            if left < 0:
                raise LimitExceeded("the attachments are too large")
            data = AttachmentData(base64=base64.b64encode(content).decode(), links=None)
            sent.append(Attachment(attachment.id, data))
        return msgspec.structs.replace(message, attachments=sent)

    async def _content(self, address: str, attachment: Attachment) -> bytes:
        for link in attachment.data.links or ():
            if ENCRYPTED_MARK in link:
                return await self._files.read(address, link.replace(ENCRYPTED_MARK, ""))
        inline = attachment.data.base64
        if isinstance(inline, str) and inline:
            try:
                return base64.b64decode(inline, validate=True)
            except ValueError:
                raise InvalidInput("error in field Base64, tag base64, parameter ") from None
        raise Unprocessable("an attachment has no encrypted file of the sender's")

    # Recipients

    async def _grouped(self, message: DidCommMessage) -> dict[str, tuple[Addressee, ...]]:
        """Return the recipients by destination. With `to`, `toEmails` means nothing (section 3.3.7)."""
        groups: dict[str, dict[str, Addressee]] = {}
        for text in message.to:
            did = _user_did(text)
            one = Addressee(did=str(did), address=did.address)
            groups.setdefault(did.host, {})[one.did] = one
        for email in () if message.to else message.to_emails:
            destination, one = await self._by_email(email.email)
            groups.setdefault(destination, {})[one.name] = one
        return {destination: tuple(found.values()) for destination, found in groups.items()}

    async def _by_email(self, text: str) -> tuple[str, Addressee]:
        try:
            email = normalise_email(text)
        except InvalidInput:
            raise Unprocessable("one of the recipients has invalid email") from None
        if email_domain(email) not in self._email_domains:
            return email_domain(email), Addressee(email=email)
        entry = await self._directory.by_email(email)
        return self._domain, Addressee(email=email, address=entry.address if entry and entry.enabled else "")

    # Keeping

    @failpoints.after("message-promised")
    async def _keep(self, address: str, prepared: Prepared, origin: Origin) -> None:
        """Store bodies, then append the message and its deliveries, all or nothing."""
        message, now = prepared.kept, self._clock.now()
        document = _document(message)
        bodies = [document]
        if message.attachments:
            bodies.append(msgspec.json.encode({"didCommMessage": prepared.outgoing}))
        names = await self._blobs.write(*bodies, owners=(address,))
        shown = message.intent != INTENT_HANDSHAKE_REQUEST
        command = SendMessage(
            id=message.id,
            document=names[0] if shown else "",
            recipients=prepared.names,
            intent=message.intent,
            size=len(document) if shown else 0,
            sent_at=now,
        )
        writes = tuple(
            self._promise(address, message, destination, addressees, names[-1])
            for destination, addressees in prepared.addressees.items()
        )
        await self._actors.ask(mailbox.KIND, address, Execute(command, origin, writes))

    def _promise(
        self,
        owner: str,
        message: DidCommMessage,
        destination: str,
        addressees: tuple[Addressee, ...],
        blob: str,
    ) -> Write:
        now = self._clock.now()
        wanted = message.expires_time if message.expires_time > now else now + self._lifetime
        promise = DeliveryScheduled(
            owner=owner,
            kind=Kind.MESSAGE,
            message=message.id,
            destination=destination,
            addressees=addressees,
            blob=blob,
            scheduled_at=now,
            expires_at=min(wanted, now + self._lifetime),
        )
        return Write(delivery.stream(delivery_id(destination, message.id)), (promise,), expected=0)

    # Taking back

    async def cancel(self, address: str, message_id: str, origin: Origin) -> None:
        """Take back what has not gone yet. Raises NotFound, and Conflict when all of it has gone."""
        cancelled, late = 0, ""
        for destination in await self._destinations(address, message_id):
            command = Cancel(self._clock.now(), address)
            order = Intervene(delivery_id(destination, message_id), command, origin.actor)
            try:
                await self._actors.ask(FEDERATION, destination, order)
            except Conflict as error:
                late = error.public
            except NotFound:
                continue  # The document is the user's own, and may name what is somebody else's.
            else:
                cancelled += 1
        if not cancelled:
            raise Conflict(late) if late else NotFound("message not found")

    async def _destinations(self, address: str, message_id: str) -> list[str]:
        """Return where an account's message goes, as the document has it; it may say anything."""
        found = await self._documents.get(userdb_name(address), DELIVERY_ID + message_id)
        try:
            document = msgspec.json.decode(found.winner.body if found else b"", type=DeliveryDocument)
        except msgspec.MsgspecError:
            return []
        return list(dict.fromkeys(one.destination for one in document.recipients[:MAX_RECIPIENTS]))


def _user_did(text: str) -> Did:
    """Return a recipient's DID in its usual form. Raises Unprocessable."""
    try:
        did = Did.parse(text)
        host = normalise_domain(did.value) if did.method == "web" else ""
    except InvalidInput:
        host = ""
    if not host or not did.fragment or not did.address:
        raise Unprocessable("failed to validate recipient")
    return web_did(host, did.address)


def _document(message: DidCommMessage) -> bytes:
    """Return the document that the sender keeps (wire spec section 6.4), without folder and time."""
    members: dict[str, Any] = {
        "id": message.id,
        "from": message.from_,
        "didCommMessage": message,
        "isRead": True,
    }
    if message.pthid:
        members["isReplied"] = True
    return msgspec.json.encode(members, order="sorted")
