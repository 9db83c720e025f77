"""Handshake documents: reading, verifying and signing an owner's statement about a sender.

Wire spec sections 4.1 to 4.4. The reference server trusts the JSON unread (section 10.3, S6); here a
handshake counts only when the owner's registered key signed exactly this content.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final, NoReturn

import msgspec

from events.errors import Forbidden, InvalidInput, MailioError
from events.identity import is_address, is_document_hash, is_email_hash, mailio_address
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.cbor import decode, differences, encode
from node.crypto.keys import SIGNATURE_BYTES, ServerKeys, SigningKeys, verify_signature

DOCUMENT_TYPE: Final = "application/mailio-handshake+json"
SIGNATURE_SCHEME: Final = "EdDSA_X25519"

STATUSES: Final = frozenset({"accepted", "revoked", "notfound", "request"})
LEVELS: Final = frozenset({"none", "recaptchaV3", "poh", "personal"})
TYPES: Final = frozenset({"personal", "signup", "server", "user"})

MAX_HANDSHAKE: Final = 65_536
"""Octets of the JSON of one handshake; a usual one has 1,400."""

MAX_CBOR: Final = 16_384
"""Bytes of the signed content; a usual one has 450."""

MAX_FREQUENCY_MINUTES: Final = 10 * 366 * 24 * 60
"""Ten years: a sender who may write less often than that is revoked, not limited."""

MAX_CREATED_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: later times break the date functions of every client."""

_MAX_DOMAIN = 260  # a host name and a development port

_MEMBER_ORDER: Final = (
    "handshakeId", "originServer", "signupSubType", "signupRules", "status", "level", "ownerPublicKey",
    "ownerAddress", "senderMetadata", "signatureBase64", "type", "signatureScheme", "created",
)  # fmt: skip


class Refusal(StrEnum):
    """Why a handshake document does not count. It is the private text of the error raised."""

    NOT_A_HANDSHAKE = "not-a-handshake"
    TOO_LARGE = "too-large"
    MALFORMED_CBOR = "malformed-cbor"
    BAD_SIGNATURE = "bad-signature"
    FOREIGN_KEY = "owner-public-key-is-another"
    FOREIGN_ADDRESS = "owner-address-is-another"
    CONTENT_DIFFERS = "content-differs-from-what-was-signed"
    UNKNOWN_VOCABULARY = "unknown-type-status-level-or-scheme"
    BAD_MEMBER = "bad-member"


class VerifiedHandshake(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's statement about a sender, signed by the owner. `created` is in milliseconds.

    `id` is the `handshakeId` of the content, "" when it has none: whoever files it compares it with
    the document's id. `content` is the signed content as JSON data, unknown members included.
    """

    id: str
    owner: str
    status: str
    level: str
    type: str
    subtype: int
    frequency_minutes: int
    sender_email_hash: str
    sender_address: str
    origin_domain: str
    created: int
    content: dict[str, Any]


class _Origin(msgspec.Struct):
    domain: str


class _SignupRules(msgspec.Struct, rename="camel"):
    frequency_minutes: int = 0


class _Sender(msgspec.Struct, rename="camel"):
    email_hash: str = ""
    address: str = ""


class _Content(msgspec.Struct, rename="camel"):
    """The members of wire spec section 4.2 that mean something to a node."""

    origin_server: _Origin
    status: str
    level: str
    owner_public_key: str
    owner_address: str
    signature_scheme: str
    created: float
    handshake_id: str = ""
    signup_sub_type: int = 0
    signup_rules: _SignupRules | None = None
    sender_metadata: _Sender | None = None
    type: str = ""


def read_handshake_body(message_document: dict[str, Any]) -> dict[str, Any]:
    """Take the handshake out of `didCommMessage.plainBodyBase64` of a message document (section 4.4).

    Raises InvalidInput when there is none, or it is too large. Nothing is verified yet.
    """
    match message_document:
        case {"didCommMessage": {"plainBodyBase64": str(text)}}:
            return _decode_handshake(text)
    return _invalid(Refusal.NOT_A_HANDSHAKE)


def verify_handshake(
    document: dict[str, Any], owner_address: str, owner_public_key: bytes
) -> VerifiedHandshake:
    """Verify `{"content","signatureBase64","cborPayloadBase64"}` against the owner's registered key.

    Raises Forbidden when it is not what this owner signed, InvalidInput when it is malformed; the
    private text is a `Refusal`.
    """
    match document:
        case {"content": dict(content), "signatureBase64": str(signature), "cborPayloadBase64": str(payload)}:
            pass
        case _:
            _invalid(Refusal.NOT_A_HANDSHAKE)
    signed = _bytes_of(payload, None, Refusal.MALFORMED_CBOR)
    if not verify_signature(
        owner_public_key, signed, _bytes_of(signature, SIGNATURE_BYTES, Refusal.BAD_SIGNATURE)
    ):
        _forbidden(Refusal.BAD_SIGNATURE)
    _require_same_content(signed, content)
    members = _members(content)
    _require_owner(members, owner_address, owner_public_key)
    _require_vocabulary(members)
    return _verified(members, content)


def sign_handshake(content: dict[str, Any], keys: SigningKeys) -> dict[str, Any]:
    """Sign a handshake content as a client does; owner, key and scheme are filled in from `keys`.

    Raises InvalidInput when the result would not verify.
    """
    stated = {
        **content,
        "ownerPublicKey": to_base64(keys.public_key),
        "ownerAddress": keys.address,
        "signatureScheme": SIGNATURE_SCHEME,
    }
    known = [name for name in _MEMBER_ORDER if name in stated]
    ordered = {name: stated[name] for name in [*known, *(name for name in stated if name not in known)]}
    # In CBOR `created` is a float, in JSON a plain number (wire spec Q2).
    signed = encode({**ordered, "created": float(ordered.get("created", 0))})
    document = {
        "content": ordered,
        "signatureBase64": to_base64(keys.sign(signed)),
        "cborPayloadBase64": to_base64(signed),
    }
    verify_handshake(document, keys.address, keys.public_key)
    return document


def server_handshake(keys: ServerKeys, server_domain: str, level: str) -> dict[str, Any]:
    """Make the handshake that a node offers to senders whom an owner's book does not know (section 4.7).

    It says that they may write, and which level their handshakes need. Its id is the server's address and its
    time that of the key, so that it is always the same.
    """
    content = {
        "handshakeId": keys.address,
        "originServer": {"domain": server_domain},
        "status": "accepted",
        "level": level,
        "type": "server",
        "created": keys.created,
    }
    return sign_handshake(content, keys)


def handshake_document(
    identifier: str, handshake: dict[str, Any], owner_did: str, created: int
) -> dict[str, Any]:
    """Wrap a signed handshake as the document that a client writes into its own database (section 4.4)."""
    message = {
        "type": DOCUMENT_TYPE,
        "id": identifier,
        "from": owner_did,
        "intent": "handshake",
        "plainBodyBase64": to_base64(msgspec.json.encode(handshake)),
    }
    return {
        "_id": identifier,
        "id": identifier,
        "from": owner_did,
        "didCommMessage": message,
        "folder": "handshake",
        "created": created,
    }


def _decode_handshake(text: str) -> dict[str, Any]:
    if len(text) > MAX_HANDSHAKE * 4 // 3 + 4:
        _invalid(Refusal.TOO_LARGE)
    raw = _bytes_of(text, None, Refusal.NOT_A_HANDSHAKE)
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        _invalid(Refusal.NOT_A_HANDSHAKE)


def _bytes_of(text: str, length: int | None, refusal: Refusal) -> bytes:
    try:
        return from_base64(text, length=length, limit=MAX_HANDSHAKE * 2)
    except MailioError:
        _invalid(refusal)


def _require_same_content(signed: bytes, content: dict[str, Any]) -> None:
    try:
        decoded = decode(signed, limit=MAX_CBOR)
    except MailioError:
        _invalid(Refusal.MALFORMED_CBOR)
    if next(differences(decoded, content), None) is not None:
        _forbidden(Refusal.CONTENT_DIFFERS)


def _members(content: dict[str, Any]) -> _Content:
    """Read the members by type; an optional one that is null counts as absent, as in the comparison."""
    present = {name: value for name, value in content.items() if value is not None}
    try:
        return msgspec.convert(present, _Content)
    except msgspec.ValidationError:
        _invalid(Refusal.BAD_MEMBER)


def _require_owner(members: _Content, owner_address: str, owner_public_key: bytes) -> None:
    if members.owner_public_key != to_base64(owner_public_key):
        _forbidden(Refusal.FOREIGN_KEY)
    if members.owner_address != owner_address or owner_address != mailio_address(owner_public_key):
        _forbidden(Refusal.FOREIGN_ADDRESS)


def _require_vocabulary(members: _Content) -> None:
    known = (
        members.status in STATUSES
        and members.level in LEVELS
        and members.type in {*TYPES, ""}
        and members.signature_scheme == SIGNATURE_SCHEME
    )
    if not known:
        _invalid(Refusal.UNKNOWN_VOCABULARY)


def _verified(members: _Content, content: dict[str, Any]) -> VerifiedHandshake:
    sender = members.sender_metadata or _Sender()
    rules = members.signup_rules or _SignupRules()
    sound = (
        _is_handshake_id(members.handshake_id)
        and (not sender.address or is_address(sender.address))
        and (not sender.email_hash or is_email_hash(sender.email_hash))
        and len(members.origin_server.domain) <= _MAX_DOMAIN
        and 0 <= rules.frequency_minutes <= MAX_FREQUENCY_MINUTES
        and 0 <= members.signup_sub_type <= 255
        and math.isfinite(members.created)
        and 0 <= members.created <= MAX_CREATED_MS
    )
    if not sound:
        _invalid(Refusal.BAD_MEMBER)
    return VerifiedHandshake(
        id=members.handshake_id,
        owner=members.owner_address,
        status=members.status,
        level=members.level,
        type=members.type,
        subtype=members.signup_sub_type,
        frequency_minutes=rules.frequency_minutes,
        sender_email_hash=sender.email_hash,
        sender_address=sender.address.lower(),
        origin_domain=members.origin_server.domain,
        created=int(members.created),
        content=content,
    )


def _is_handshake_id(text: str) -> bool:
    """A hash of owner and sender; a server-level handshake has the server's address (section 4.3)."""
    return not text or is_document_hash(text) or is_address(text)


def _invalid(refusal: Refusal) -> NoReturn:
    raise InvalidInput("invalid handshake", refusal)


def _forbidden(refusal: Refusal) -> NoReturn:
    raise Forbidden("invalid handshake", refusal)
