"""A software WebAuthn authenticator: what a browser and a platform authenticator do together.

Attestation `none`, ES256 or EdDSA, discoverable credentials, user verification, sign counter (WebAuthn
level 3, sections 5.8, 6.1, 6.5.2, 7). Every flag and byte a relying party must check can be bent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ES256: Final = -7
EDDSA: Final = -8

USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04
ATTESTED: Final = 0x40


def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Passkey:
    """One discoverable credential in the authenticator."""

    id: bytes
    rp_id: str
    user_handle: bytes
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    sign_count: int = 0

    def cose_key(self) -> bytes:
        """RFC 9053 sections 7.1 and 7.2."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            x = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            return cbor2.dumps({1: 1, 3: EDDSA, -1: 6, -2: x})
        numbers = self.key.public_key().public_numbers()
        x, y = (value.to_bytes(32, "big") for value in (numbers.x, numbers.y))
        return cbor2.dumps({1: 2, 3: ES256, -1: 1, -2: x, -3: y})

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        return self.key.sign(message, ec.ECDSA(SHA256()))


@dataclass
class Authenticator:
    """Holds passkeys and answers ceremonies for a page at `origin`."""

    origin: str = "https://alpha.example"
    algorithm: int = ES256
    verifies_user: bool = True
    counts: bool = True
    passkeys: list[Passkey] = field(default_factory=list)

    def create(self, options: dict[str, Any], **client_data: Any) -> dict[str, Any]:
        """`navigator.credentials.create`: a new passkey, and the JSON that goes to the server."""
        if self.algorithm not in {one["alg"] for one in options["pubKeyCredParams"]}:
            raise ValueError("the relying party does not want this algorithm")
        key = (
            ed25519.Ed25519PrivateKey.generate()
            if self.algorithm == EDDSA
            else ec.generate_private_key(ec.SECP256R1())
        )
        passkey = Passkey(
            secrets.token_bytes(32), options["rp"]["id"], from_base64url(options["user"]["id"]), key
        )
        self.passkeys.append(passkey)
        attested = bytes(16) + len(passkey.id).to_bytes(2, "big") + passkey.id + passkey.cose_key()
        data = self._authenticator_data(passkey, ATTESTED) + attested
        response = {
            "clientDataJSON": self._client_data("webauthn.create", options["challenge"], client_data),
            "attestationObject": to_base64url(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
            "authenticatorData": to_base64url(data),
            "publicKeyAlgorithm": self.algorithm,
            "transports": ["internal"],
        }
        return self._credential(passkey, response)

    def get(self, options: dict[str, Any], **client_data: Any) -> dict[str, Any]:
        """`navigator.credentials.get` with the newest passkey of the relying party."""
        passkey = next(one for one in reversed(self.passkeys) if one.rp_id == options["rpId"])
        passkey.sign_count += 1 if self.counts else 0
        data = self._authenticator_data(passkey, 0)
        client = self._client_data("webauthn.get", options["challenge"], client_data)
        signature = passkey.sign(data + hashlib.sha256(from_base64url(client)).digest())
        response = {
            "clientDataJSON": client,
            "authenticatorData": to_base64url(data),
            "signature": to_base64url(signature),
            "userHandle": to_base64url(passkey.user_handle),
        }
        return self._credential(passkey, response)

    def _authenticator_data(self, passkey: Passkey, flags: int) -> bytes:
        flags |= USER_PRESENT | (USER_VERIFIED if self.verifies_user else 0)
        return (
            hashlib.sha256(passkey.rp_id.encode()).digest()
            + bytes([flags])
            + passkey.sign_count.to_bytes(4, "big")
        )

    def _client_data(self, kind: str, challenge: str, changes: dict[str, Any]) -> str:
        data = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **changes}
        return to_base64url(json.dumps(data, separators=(",", ":")).encode())

    def _credential(self, passkey: Passkey, response: dict[str, Any]) -> dict[str, Any]:
        identifier = to_base64url(passkey.id)
        return {
            "id": identifier,
            "rawId": identifier,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
