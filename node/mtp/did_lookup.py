"""DID lookups: from the hash of an email to a DID document (wire spec section 3.4)."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from events.errors import InvalidInput, LimitExceeded
from node.mtp.envelope import SIGNATURE_SCHEME
from node.mtp.message import MAX_TEXT, MAX_TIME
from node.mtp.status import MtpStatus

Read = TypeVar("Read", bound=msgspec.Struct)

HASH_SCHEME: Final = "SC_N32768_R8_P1_L32_B64"
"""Name of the scrypt parameters of section 1.8."""

MAX_LOOKUPS: Final = 50
"""Emails in one request: the recipients of one message that a client may send (section 5.4)."""


class LookupHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What stands before every lookup; only requests name the hash scheme. `timestamp` is in ms."""

    signature_scheme: str
    email_lookup_hash_scheme: str = ""
    timestamp: int


class DidLookup(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The `DIDLookup` of section 3.4. `did` is ours, for clients: it says which one was not found."""

    email_hash: str
    email: str
    supports_mailio: bool = False
    supports_standard_email: bool = False
    did_document: dict[str, Any] | None = None
    mtp_status_code: MtpStatus | None = None
    did: str = ""


class DidLookupRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who asks (it means nothing to the receiver), and for which emails."""

    sender_address: str
    lookup_header: LookupHeader
    did_lookups: list[DidLookup]


class DidLookupResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was found and what was not."""

    lookup_header: LookupHeader
    found_lookups: list[DidLookup] = []
    not_found_lookups: list[DidLookup] = []


def asking_header(at: int) -> LookupHeader:
    """Return the header of a request made at `at` (ms)."""
    return LookupHeader(signature_scheme=SIGNATURE_SCHEME, email_lookup_hash_scheme=HASH_SCHEME, timestamp=at)


def answering_header(at: int) -> LookupHeader:
    """Return the header of a reply given at `at` (ms)."""
    return LookupHeader(signature_scheme=SIGNATURE_SCHEME, timestamp=at)


def read_did_request(payload: dict[str, Any]) -> DidLookupRequest:
    """Read and validate the payload. Raises InvalidInput with Go's texts, LimitExceeded."""
    request = _converted(payload, DidLookupRequest)
    require_header(request.lookup_header)
    if not request.sender_address:
        raise InvalidInput("error in field SenderAddress, tag required, parameter ")
    if len(request.did_lookups) > MAX_LOOKUPS:
        raise LimitExceeded("too many lookups", f"{len(request.did_lookups)}, limit {MAX_LOOKUPS}")
    if any(len(one.email) > MAX_TEXT or len(one.email_hash) > MAX_TEXT for one in request.did_lookups):
        raise LimitExceeded("an email in the lookup is too long")
    return request


def read_header(value: object) -> LookupHeader:
    """Read and validate what stands before a lookup. Raises InvalidInput."""
    header = _converted(value, LookupHeader)
    require_header(header)
    return header


def _converted(value: object, kind: type[Read]) -> Read:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput("invalid format", str(error)[:200]) from None


def require_header(header: LookupHeader) -> None:
    """Validate what stands before a lookup. Raises InvalidInput."""
    if header.signature_scheme != SIGNATURE_SCHEME:
        raise InvalidInput(f"error in field SignatureScheme, tag oneof, parameter {SIGNATURE_SCHEME}")
    if not 0 < header.timestamp <= MAX_TIME:
        raise InvalidInput("error in field Timestamp, tag required, parameter ")
