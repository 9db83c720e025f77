"""Somebody to write to, out of their DID document (wire spec sections 1.2 and 1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import base58

from tests.client.python.encoding import from_base64url
from tests.client.python.errors import Refused
from tests.client.python.keys import address_of


@dataclass(frozen=True)
class Contact:
    """`did` is the `did:web:<server>#<address>` form that messages use; keys are 32 bytes."""

    did: str
    signing_key: bytes
    agreement_key: bytes

    @property
    def address(self) -> str:
        """The Mailio address."""
        return self.did.partition("#")[2]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Contact:
        """Read a DID document. Raises Refused when a key is missing, or the id is not that of the key.

        The id proves the signing key only. The agreement key is whatever the user's node says.
        """
        signing = _signing_key(document)
        if document.get("id") != f"did:mailio:{address_of(signing)}":
            raise Refused("the DID document's id does not belong to its signing key")
        did = f"did:web:{_host(document)}#{address_of(signing)}"
        return cls(did, signing, _agreement_key(document))


def address_in(did: str) -> str:
    """Return the address of a `did:web:<server>#<address>`; "" for anything else."""
    server, _, address = did.partition("#")
    return address if server.startswith("did:web:") else ""


def _signing_key(document: dict[str, Any]) -> bytes:
    match document:
        case {"verificationMethod": [{"publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}, *_]}:
            return _whole(from_base64url(x))
    raise Refused("the DID document has no Ed25519 key")


def _agreement_key(document: dict[str, Any]) -> bytes:
    match document:
        case {"keyAgreement": [{"publicKeyMultibase": str(text)}, *_]} if len(text) <= 64:
            # base58 without the prefix that multibase would have; `z` in front is tolerated.
            for spelling in (text, text.removeprefix("z")):
                try:
                    key = base58.b58decode(spelling)
                except ValueError:
                    continue
                if len(key) == 32:
                    return key
    raise Refused("the DID document has no X25519 key")


def _whole(key: bytes) -> bytes:
    if len(key) != 32:
        raise Refused("a key has 32 bytes")
    return key


def _host(document: dict[str, Any]) -> str:
    """Return the server's name, which stands in the messaging service's endpoint, without a scheme."""
    services = document.get("service")
    for service in services if isinstance(services, list) else ():
        match service:
            case {"type": "DIDCommMessaging", "serviceEndpoint": str(endpoint)}:
                host = endpoint.removeprefix("https://").removeprefix("http://").partition("/")[0]
                if host:
                    return host
    raise Refused("the DID document names no messaging service")
