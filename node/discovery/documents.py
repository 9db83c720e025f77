"""DID documents of others, checked before anybody uses them (wire spec section 1.4).

Mailio's DIDs are made of their keys, so a document proves itself: the key in it must give its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from events.errors import Fault, InvalidInput
from events.identity import mailio_address, mailio_did
from node.crypto.base64_text import from_base64url
from node.crypto.did_documents import agreement_key, messaging_endpoint, signing_key
from node.crypto.keys import KEY_BYTES

MAX_ITEMS: Final = 16
"""Keys, services or names in one list of a document; ours have two at most."""

Text = Annotated[str, msgspec.Meta(max_length=1_024)]
Texts = Annotated[list[Text], msgspec.Meta(max_length=MAX_ITEMS)]


class Doubt(StrEnum):
    """Why a document is not taken."""

    SHAPE = "it is no DID document that a Mailio server reads"
    OTHER_ID = "it is about somebody else"
    KEY = "its signing key is missing or malformed"
    OTHER_KEY = "its signing key is not the one that its id is made of"
    AGREEMENT = "its key for encryption is malformed"
    ELSEWHERE = "its messaging service is on another host"
    NO_SERVICE = "it has no messaging service"


class InvalidDocument(InvalidInput):
    """A host serves a document that can't be used."""

    fault = Fault.RECIPIENT
    smtp = "550 5.4.4"
    mtp = "5.4.4"

    def __init__(self, doubt: Doubt, detail: str = "") -> None:
        super().__init__(f"invalid DID document: {doubt}", detail)
        self.doubt = doubt


class Jwk(msgspec.Struct, omit_defaults=True):
    """A public key (RFC 8037)."""

    crv: Text
    kty: Text
    x: Text


class KeyMethod(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A key with its name and owner."""

    id: Text
    type: Text
    controller: Text
    public_key_jwk: Jwk | None = None
    public_key_multibase: Text = ""


class Service(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Where something is offered; the endpoint is a text, not DIDComm's object."""

    id: Text
    type: Text
    service_endpoint: Text
    accept: Texts = []


class _Document(msgspec.Struct, omit_defaults=True, rename="camel"):
    context: Texts = msgspec.field(name="@context")
    id: Text
    also_known_as: Texts = []
    authentication: Texts = []
    verification_method: Annotated[list[KeyMethod], msgspec.Meta(max_length=MAX_ITEMS)] = []
    key_agreement: Annotated[list[KeyMethod], msgspec.Meta(max_length=MAX_ITEMS)] = []
    service: Annotated[list[Service], msgspec.Meta(max_length=MAX_ITEMS)] = []


def checked_document(body: bytes, address: str = "") -> dict[str, Any]:
    """Read a document and return the members that the wire knows, in its order.

    `address` is whose document it must be (lower case); "": any server's. Raises InvalidDocument.
    """
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidDocument(Doubt.SHAPE, str(error)) from None
    found: dict[str, Any] = msgspec.to_builtins(document)
    own = _own_address(found)
    if document.id != str(mailio_did(own)):
        raise InvalidDocument(Doubt.OTHER_KEY, f"id {document.id}, key of {own}")
    if address and own != address:
        raise InvalidDocument(Doubt.OTHER_ID, f"asked for {address}, got {own}")
    _check_agreement(found, document.key_agreement)
    return found


def _own_address(document: dict[str, Any]) -> str:
    try:
        return mailio_address(signing_key(document))
    except InvalidInput as error:
        raise InvalidDocument(Doubt.KEY, str(error)) from None


def _check_agreement(document: dict[str, Any], methods: Sequence[KeyMethod]) -> None:
    """Check the first key for encryption, in either form, if there is one."""
    if not methods:
        return
    try:
        jwk = methods[0].public_key_jwk
        if jwk is None:
            agreement_key(document)
        elif (jwk.kty, jwk.crv) == ("OKP", "X25519"):
            from_base64url(jwk.x, length=KEY_BYTES, limit=64)
        else:
            raise InvalidInput("not an X25519 key")
    except InvalidInput as error:
        raise InvalidDocument(Doubt.AGREEMENT, str(error)) from None


def messaging_url(document: dict[str, Any], hosts: Sequence[str]) -> str:
    """Return the URL of a document's messaging service, which must be on one of the peer's own hosts.

    Wire spec section 10.3, S8: else a peer could have its mail posted to anybody. Raises InvalidDocument.
    """
    endpoint = messaging_endpoint(document)
    if not endpoint:
        raise InvalidDocument(Doubt.NO_SERVICE)
    try:
        host = urlsplit(endpoint).hostname
    except ValueError:
        host = None
    if host not in hosts:
        raise InvalidDocument(Doubt.ELSEWHERE, endpoint)
    return endpoint
