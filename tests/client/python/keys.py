"""A user's keys, made from a mnemonic, and what follows from them (wire spec sections 1.1, 1.2, 1.10).

The wire does not say how clients get from words to keys. This library: seed of BIP-39, then HKDF (RFC 5869)
with SHA-256, no salt, and a name for each key, so that neither key tells anything about the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import OKPKey
from mnemonic import Mnemonic
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from tests.client.python.encoding import to_base64url
from tests.client.python.errors import Refused

SIGNING: Final = b"mailio ed25519 1"
AGREEMENT: Final = b"mailio x25519 1"
"""What the keys are called in HKDF; a number at the end, for the day when somebody needs a second pair."""

WORDS: Final = Mnemonic("english")
STRENGTH_BITS: Final = 256
"""Randomness of a new mnemonic: 24 words."""


def new_mnemonic() -> str:
    """Draw 24 words from the operating system's randomness."""
    return WORDS.generate(STRENGTH_BITS)


def address_of(signing_key: bytes) -> str:
    """Compute the Mailio address of a public Ed25519 key (section 1.1)."""
    return "0x" + hashlib.sha256(base64.b64encode(signing_key)).hexdigest()[-40:]


class Keys:
    """Both key pairs of a user. Never shows its secrets."""

    def __init__(self, signing_seed: bytes, agreement_seed: bytes) -> None:
        """Take two 32-byte seeds."""
        self._signing = SigningKey(signing_seed)
        self._agreement = PrivateKey(agreement_seed)
        self.signing_key = bytes(self._signing.verify_key)
        self.agreement_key = bytes(self._agreement.public_key)
        self.address = address_of(self.signing_key)

    def __repr__(self) -> str:
        return f"Keys({self.address})"

    @classmethod
    def from_mnemonic(cls, words: str, passphrase: str = "") -> Self:
        """Compute the keys of 12 to 24 words (BIP-39). Raises Refused when the words' checksum is wrong."""
        words = " ".join(words.lower().split())
        if not WORDS.check(words):
            raise Refused("these are not the words of a mnemonic: one is misspelt, missing or out of order")
        seed = Mnemonic.to_seed(words, passphrase)
        return cls(_derived(seed, SIGNING), _derived(seed, AGREEMENT))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the key file that `mailio-node account add` wrote."""
        content = json.loads(path.read_bytes())
        seeds = (content["signingSeed"], content["agreementSeed"])
        return cls(*(base64.b64decode(seed, validate=True) for seed in seeds))

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""
        return self._signing.sign(message).signature

    def login(self, nonce: str, email: str) -> dict[str, str]:
        """Answer the challenge `nonce`: the body of `POST /api/v1/login` (section 1.10)."""
        return {
            "email": email,
            "mailioAddress": self.address,
            "nonce": nonce,
            "ed25519SigningPublicKeyBase64": base64.b64encode(self.signing_key).decode(),
            "signatureBase64": base64.b64encode(self.sign(nonce.encode())).decode(),
        }

    def registration(self, nonce: str, email: str, database_password: str) -> dict[str, str]:
        """Answer the challenge and bring both public keys: the body of `POST /api/v1/register`."""
        agreement = base64.b64encode(self.agreement_key).decode()
        more = {"databasePassword": database_password, "x25519PublicKeyBase64": agreement}
        return self.login(nonce, email) | more

    def signing_jwk(self) -> OKPKey:
        """Return the Ed25519 pair for JOSE (RFC 8037)."""
        return _jwk("Ed25519", self.signing_key, bytes(self._signing))

    def agreement_jwk(self) -> OKPKey:
        """Return the X25519 pair for JOSE (RFC 8037)."""
        return _jwk("X25519", self.agreement_key, bytes(self._agreement))

    @property
    def box(self) -> PrivateKey:
        """The X25519 pair for NaCl boxes."""
        return self._agreement


def public_jwk(curve: str, key: bytes) -> OKPKey:
    """Return a public key for JOSE (RFC 8037); `curve` is Ed25519 or X25519."""
    return OKPKey.import_key({"kty": "OKP", "crv": curve, "x": to_base64url(key)})


def _jwk(curve: str, public: bytes, secret: bytes) -> OKPKey:
    return OKPKey.import_key(
        {"kty": "OKP", "crv": curve, "x": to_base64url(public), "d": to_base64url(secret)}
    )


def _derived(seed: bytes, name: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=name).derive(seed)
