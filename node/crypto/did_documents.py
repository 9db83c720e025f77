"""DID documents of users and of the server, and the server's DID configuration.

Plain dictionaries in the member order that the reference server emits: order is part of what CBOR
signatures cover. Wire spec sections 1.4 and 1.5.
"""

from __future__ import annotations

from typing import Any, Final

import base58
import msgspec

from events.errors import InvalidInput
from events.identity import mailio_address, mailio_did
from node.crypto.base64_text import from_base64url, to_base64url
from node.crypto.credentials import domain_linkage_credential
from node.crypto.jws import HEADER_JWT, sign_compact
from node.crypto.keys import KEY_BYTES, ServerKeys

CONTEXTS: Final = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/suites/ed25519-2020/v1",
    "https://w3id.org/security/suites/x25519-2019/v1",
)
CONFIGURATION_CONTEXT: Final = "https://identity.foundation/.well-known/did-configuration/v1"
AUTHENTICATION_PATH: Final = "/api/v1/didauth"
MESSAGING_PATH: Final = "/api/v1/mtp/message"
MESSAGING_SERVICE: Final = "DIDCommMessaging"

_LOCAL_HOSTS = ("localhost", "127.0.0.1")


class ServerEndpoints(msgspec.Struct, frozen=True):
    """Where a server answers: its domain (no scheme, no port) and two paths that begin with `/`."""

    domain: str
    messaging_path: str = MESSAGING_PATH
    authentication_path: str = AUTHENTICATION_PATH


def user_document(
    ed25519_public: bytes, x25519_public: bytes, server_address: str, endpoints: ServerEndpoints
) -> dict[str, Any]:
    """Build the document of a user of this server. Raises InvalidInput for keys of a wrong length."""
    if len(x25519_public) != KEY_BYTES:
        raise InvalidInput("invalid public key", "X25519 key is not 32 bytes")
    did = str(mailio_did(mailio_address(ed25519_public)))
    agreement = {
        "id": did,
        "type": "X25519KeyAgreementKey2019",
        "controller": did,
        "publicKeyMultibase": base58.b58encode(x25519_public).decode("ascii"),
    }
    return {
        "@context": list(CONTEXTS),
        "id": did,
        "authentication": [f"{did}#master"],
        "verificationMethod": [_master_key(did, ed25519_public)],
        "keyAgreement": [agreement],
        "service": _services(server_address, endpoints),
    }


def server_document(
    ed25519_public: bytes, endpoints: ServerEndpoints, other: bytes | None = None
) -> dict[str, Any]:
    """Build the document that peers fetch from `/.well-known/did.json`. Raises InvalidInput.

    `other` is the second live key while keys change. It comes second: readers take the first.
    """
    address = mailio_address(ed25519_public)
    did = str(mailio_did(address))
    methods = [_master_key(did, ed25519_public)]
    if other is not None:
        methods.append(_master_key(str(mailio_did(mailio_address(other))), other) | {"controller": did})
    return {
        "@context": list(CONTEXTS),
        "id": did,
        "verificationMethod": methods,
        "service": _services(address, endpoints),
    }


def did_configuration(keys: ServerKeys, domain: str, now: int) -> dict[str, Any]:
    """Build `/.well-known/did-configuration.json` at `now` (ms): the credential, and it as a JWT.

    The member is `linked-dids` with a hyphen, unlike in the DIF document (wire spec Q12).
    """
    credential = domain_linkage_credential(keys, domain)
    did = str(keys.did)
    claims = {
        "iss": did,
        "sub": did,
        "nbf": now // 1000,
        "vc": {name: value for name, value in credential.items() if name != "proof"},
    }
    token = sign_compact(msgspec.json.encode(claims), keys, HEADER_JWT)
    return {"@context": CONFIGURATION_CONTEXT, "linked-dids": [credential, token]}


def messaging_endpoint(document: dict[str, Any]) -> str:
    """URL of a document's messaging service, scheme added; "" when it names none (section 1.4)."""
    services = document.get("service")
    for service in services if isinstance(services, list) else ():
        if isinstance(service, dict) and service.get("type") == MESSAGING_SERVICE:
            endpoint = service.get("serviceEndpoint")
            return _with_scheme(endpoint.removesuffix("/")) if isinstance(endpoint, str) and endpoint else ""
    return ""


def signing_key(document: dict[str, Any]) -> bytes:
    """Ed25519 key of a document's first verification method. Raises InvalidInput when it has none."""
    match document:
        case {"verificationMethod": [{"publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}, *_]}:
            return from_base64url(x, length=KEY_BYTES, limit=64)
    raise InvalidInput("invalid DID document", "no Ed25519 verification method")


def agreement_key(document: dict[str, Any]) -> bytes:
    """X25519 key of a document, with or without the multibase prefix `z` (Q6). Raises InvalidInput."""
    match document:
        case {"keyAgreement": [{"publicKeyMultibase": str(text)}, *_]} if len(text) <= 64:
            for candidate in (text, text.removeprefix("z")):
                raw = _base58(candidate)
                if len(raw) == KEY_BYTES:
                    return raw
    raise InvalidInput("invalid DID document", "no X25519 key agreement")


def _base58(text: str) -> bytes:
    try:
        return base58.b58decode(text)
    except ValueError:
        return b""


def _master_key(did: str, public_key: bytes) -> dict[str, Any]:
    return {
        "id": f"{did}#master",
        "type": "JsonWebKey2020",
        "controller": did,
        "publicKeyJwk": {"crv": "Ed25519", "kty": "OKP", "x": to_base64url(public_key)},
    }


def _services(server_address: str, endpoints: ServerEndpoints) -> list[dict[str, Any]]:
    """Service entries carry the server's address, also in users' documents."""
    authentication = {
        "id": str(mailio_did(server_address, "auth")),
        "type": "MailioDIDAuth",
        "serviceEndpoint": endpoints.domain + endpoints.authentication_path,
    }
    messaging = {
        "id": str(mailio_did(server_address, "didcomm")),
        "type": MESSAGING_SERVICE,
        "serviceEndpoint": endpoints.domain + endpoints.messaging_path,
        "accept": ["didcomm/v2", "didcomm/aip2;env=rfc587"],
    }
    return [authentication, messaging]


def _with_scheme(endpoint: str) -> str:
    if endpoint.startswith("http"):
        return endpoint
    local = any(host in endpoint for host in _LOCAL_HOSTS)
    return f"{'http' if local else 'https'}://{endpoint}"
