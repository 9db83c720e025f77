"""The message that travels between nodes: `DIDCommMessage` (wire spec sections 3.3.1 and 5.2).

Members stand in the order in which Go signs them. `read_request` takes what may be in a message from a
stranger, nothing else: unknown members are lost at every hop of the reference server, and here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from events.errors import InvalidInput, LimitExceeded, MailioError
from events.identity import MAX_DID_LENGTH, Did
from node.crypto.base64_text import from_base64
from node.mtp.envelope import SIGNATURE_SCHEME

ENCRYPTED: Final = "application/didcomm-encrypted+json"
SIGNED: Final = "application/didcomm-signed+json"
HANDSHAKE: Final = "application/mailio-handshake+json"
HANDSHAKE_REQUEST: Final = "application/mailio-handshake-request+json"
HANDSHAKE_RESPONSE: Final = "application/mailio-handshake-response+json"
SMTP: Final = "application/mailio-smtp+json"
TYPES: Final = (ENCRYPTED, SIGNED, HANDSHAKE, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, SMTP)

INTENT_MESSAGE: Final = "message"
INTENT_HANDSHAKE: Final = "handshake"
INTENT_DELIVERY: Final = "delivery"
INTENT_HANDSHAKE_REQUEST: Final = "handshake_request"
INTENTS: Final = (INTENT_MESSAGE, INTENT_HANDSHAKE, INTENT_DELIVERY, INTENT_HANDSHAKE_REQUEST)
"""What may be sent. The reference server refuses every spelling of a response (section 4.6)."""

RESPONSE_INTENTS: Final = ("handsake_response", "handshake_response")
"""Taken, never sent: the first is the reference server's own spelling (Q1)."""

HANDSHAKE_INTENTS: Final = frozenset({INTENT_HANDSHAKE, INTENT_HANDSHAKE_REQUEST, *RESPONSE_INTENTS})

MAX_RECIPIENTS: Final = 1_000
"""Keys in one JWE, and DIDs in `to`: what SMTP servers take as recipients of a mail, and far above 50,
which is what clients may send to (section 5.4)."""

MAX_ATTACHMENTS: Final = 50
"""Attachments of one message (section 5.4)."""

MAX_TEXT: Final = 1_024
"""Characters of every member that is no content: ids, names, keys. An encrypted content key has 54."""

MAX_TIME: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: later times break the date functions of every client."""

Read = TypeVar("Read", bound=msgspec.Struct)

_ID = re.compile(r"(?!_)[A-Za-z0-9._:@<>+=-]{1,200}")


class EphemeralKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `epk` of a recipient: an X25519 key made for this message."""

    x: str = ""
    crv: str = ""
    kty: str = ""


class KeyHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose key it is: `kid` names a recipient as `did:web:<serverDomain>#<address>`."""

    kid: str
    epk: EphemeralKey | None = None


class JweRecipient(msgspec.Struct, frozen=True):
    """The content key, encrypted for one recipient."""

    encrypted_key: str
    header: KeyHeader


class Jwe(msgspec.Struct, frozen=True):
    """The encrypted content. Nodes never open it."""

    aad: str
    ciphertext: str
    iv: str
    recipients: list[JweRecipient]
    tag: str
    protected: str


class AttachmentData(msgspec.Struct, frozen=True):
    """A file: between servers its bytes in `base64` and `links` null; in a database `hash` and `links`."""

    hash: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    links: list[str] | None = None


class Attachment(msgspec.Struct, frozen=True):
    """A file with a name that the sender gave it."""

    id: str
    data: AttachmentData


class EmailRecipient(msgspec.Struct, frozen=True, rename="camel"):
    """A recipient that is known by email only; means nothing to a receiver."""

    email: str
    email_hash: str


class DidCommMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message in the order of its CBOR. Times in milliseconds.

    A receipt is one of which only `id` says something: `type` and `from` are there and empty.
    """

    type: str
    id: str
    from_: str = msgspec.field(name="from")
    to: list[str] = []
    to_emails: list[EmailRecipient] = []
    thid: str = ""
    pthid: str = ""
    expires_time: int = 0
    created_time: int = 0
    next: str = ""
    from_prior: str = ""
    intent: str = ""
    body: Jwe | None = None
    attachments: list[Attachment] = []
    plain_body_base64: str = ""

    @property
    def author(self) -> Did:
        """Who wrote it. Raises InvalidInput when `from` is no DID."""
        return Did.parse(self.from_)

    @property
    def is_notification(self) -> bool:
        """Whether it says what became of a message that its receiver sent."""
        return self.intent == INTENT_DELIVERY

    @property
    def introduces(self) -> bool:
        """Whether it asks for a handshake, or answers such a request."""
        return self.intent in HANDSHAKE_INTENTS

    @property
    def redeems_offer(self) -> bool:
        """Whether it has to show a nonce: all handshakes but answers to a request (section 4.6)."""
        return self.introduces and self.type != HANDSHAKE_RESPONSE

    @property
    def plain_body(self) -> bytes:
        """The decoded `plainBodyBase64`. Raises InvalidInput, LimitExceeded."""
        return from_base64(self.plain_body_base64, limit=len(self.plain_body_base64))


class DidCommRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The signed payload of a message and of its receipt. `timestamp` is in milliseconds."""

    signature_scheme: str = SIGNATURE_SCHEME
    timestamp: int
    did_comm_message: DidCommMessage


class _Known(msgspec.Struct, rename="camel"):
    """The JSON with everything optional: what is missing is told by name, in Go's words."""

    signature_scheme: str = ""
    timestamp: int = 0
    did_comm_message: dict[str, Any] | None = None


def receipt(message_id: str, at: int) -> DidCommRequest:
    """Return the receipt of a message, given at `at` (ms)."""
    return DidCommRequest(timestamp=at, did_comm_message=DidCommMessage(type="", id=message_id, from_=""))


def read_receipt(payload: dict[str, Any]) -> DidCommRequest:
    """Read a receipt; it is not validated as a message would be (Q10). Raises InvalidInput."""
    return _converted(payload, DidCommRequest)


def read_request(payload: dict[str, Any]) -> DidCommRequest:
    """Read and validate a message's payload.

    Raises InvalidInput with the texts of the reference server (section 0.3), LimitExceeded for more of
    something than any client sends.
    """
    known = _converted({name: value for name, value in payload.items() if value is not None}, _Known)
    if known.did_comm_message is None:
        _refuse("DidCommMessage", "required")
    stated = {name: value for name, value in known.did_comm_message.items() if value is not None}
    request = DidCommRequest(
        signature_scheme=known.signature_scheme,
        timestamp=known.timestamp,
        did_comm_message=_converted({"type": "", "id": "", "from": "", **stated}, DidCommMessage),
    )
    _require_valid(request)
    _require_bounded(request.did_comm_message)
    return request


def _converted(value: object, kind: type[Read]) -> Read:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput("invalid format", str(error)[:200]) from None


def _refuse(field: str, tag: str, parameter: str = "") -> NoReturn:
    raise InvalidInput(f"error in field {field}, tag {tag}, parameter {parameter}")


def _require_valid(request: DidCommRequest) -> None:
    """Apply the rules of section 5.2, and those of a node that means to file what it takes."""
    message = request.did_comm_message
    if request.signature_scheme != SIGNATURE_SCHEME:
        _refuse("SignatureScheme", "oneof", SIGNATURE_SCHEME)
    if not 0 < request.timestamp <= MAX_TIME:
        _refuse("Timestamp", "required")
    if message.type not in TYPES:
        _refuse("Type", "oneof" if message.type else "required", " ".join(TYPES) if message.type else "")
    if not message.from_:
        _refuse("From", "required")
    if message.intent not in {"", *INTENTS, *RESPONSE_INTENTS}:
        _refuse("Intent", "oneof", " ".join(INTENTS))
    if not _ID.fullmatch(message.id):
        # Section 10.3, S5. Go's rule is looser; its own ids have 64 hex digits.
        _refuse("ID", "id" if message.id else "required")
    _require_content(message)


def _require_content(message: DidCommMessage) -> None:
    if message.is_notification:
        if not message.to:
            _refuse("To", "required")
        if not message.plain_body_base64:
            _refuse("PlainBodyBase64", "required")
    elif message.body is None:
        _refuse("Body", "required")
    else:
        for name in ("aad", "ciphertext", "iv", "recipients", "tag", "protected"):
            if not getattr(message.body, name):
                _refuse(name.capitalize(), "min" if name == "recipients" else "required")
    _require_base64("PlainBodyBase64", message.plain_body_base64)
    for attachment in message.attachments:
        _require_base64("Base64", attachment.data.base64 or "")


def _require_base64(field: str, text: str) -> None:
    try:
        from_base64(text, limit=len(text))
    except InvalidInput:
        _refuse(field, "base64")


def _require_bounded(message: DidCommMessage) -> None:
    keys = message.body.recipients if message.body is not None else []
    for number, limit, what in (
        (len(keys), MAX_RECIPIENTS, "recipients"),
        (len(message.to), MAX_RECIPIENTS, "to"),
        (len(message.to_emails), MAX_RECIPIENTS, "toEmails"),
        (len(message.attachments), MAX_ATTACHMENTS, "attachments"),
    ):
        if number > limit:
            raise LimitExceeded(f"too many {what}", f"{number}, limit {limit}")
    if any(len(text) > MAX_TEXT for text in _names(message)) or len(message.from_) > MAX_DID_LENGTH:
        raise LimitExceeded("a name in the message is too long")
    if not (0 <= message.created_time <= MAX_TIME and 0 <= message.expires_time <= MAX_TIME):
        raise InvalidInput("invalid format", "a time that no calendar has")


def _names(message: DidCommMessage) -> Iterator[str]:
    """All texts of a message that are no content."""
    yield from (message.thid, message.pthid, message.next, message.from_prior, *message.to)
    for email in message.to_emails:
        yield from (email.email, email.email_hash)
    if message.body is not None:
        yield from (message.body.iv, message.body.tag)
        for key in message.body.recipients:
            epk = key.header.epk or EphemeralKey()
            yield from (key.encrypted_key, key.header.kid, epk.x, epk.crv, epk.kty)
    yield from (attachment.id for attachment in message.attachments)


def local_recipients(message: DidCommMessage, server_domain: str) -> Sequence[str]:
    """Addresses of the recipients that this server has, each once, in order (section 3.3.5, step 5).

    The first key for the author himself is passed over; `to` means nothing.
    """
    found: dict[str, None] = {}
    skipped = False
    for key in message.body.recipients if message.body is not None else ():
        if key.header.kid == message.from_ and not skipped:
            skipped = True
        elif address := _address_here(key.header.kid, server_domain):
            found[address] = None
    return tuple(found)


def _address_here(kid: str, server_domain: str) -> str:
    try:
        did = Did.parse(kid)
    except MailioError:
        return ""
    here = did.method == "web" and did.value.lower() == server_domain.lower()
    return did.address if here and did.fragment else ""
