"""JWE in the one form that Mailio messages have; the node only makes them (wire spec sections 5.2, 5.3).

ECDH-ES+A256KW and A256GCM (RFC 7518 sections 4.6, 5.3) on X25519 (RFC 8037): all parameters in `protected`,
`kid` and `epk` in the recipient's header, sender and recipient in `aad`. The secret half of `epk` and the
content key are forgotten with the call: from then on the node can't open what it has made.
"""

from __future__ import annotations

import json
import secrets
import struct
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from events.errors import InvalidInput
from node.crypto.base64_text import to_base64url

TYPE: Final = "application/didcomm-encrypted+json"
ALGORITHM: Final = "ECDH-ES+A256KW"
CONTENT: Final = "A256GCM"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class SealTo(msgspec.Struct, frozen=True):
    """Who may read: `kid` is their `did:web:<serverDomain>#<address>`, `key` their X25519 key (32 bytes)."""

    kid: str
    key: bytes


def seal(plaintext: bytes, content_type: str, sender: str, reader: SealTo) -> dict[str, Any]:
    """Encrypt for one reader. Raises InvalidInput for a key that is none."""
    protected = _text({"typ": TYPE, "alg": ALGORITHM, "enc": CONTENT, "cty": content_type})
    aad = _text({"from": sender, "to": [reader.kid]})
    content_key, iv = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, f"{protected}.{aad}".encode("ascii"))
    epk, wrapping_key = _agree(reader.key)
    header = {"kid": reader.kid, "epk": {"kty": "OKP", "crv": "X25519", "x": to_base64url(epk)}}
    return {
        "aad": aad,
        "ciphertext": to_base64url(sealed[:-TAG_BYTES]),
        "iv": to_base64url(iv),
        "recipients": [
            {"encrypted_key": to_base64url(aes_key_wrap(wrapping_key, content_key)), "header": header}
        ],
        "tag": to_base64url(sealed[-TAG_BYTES:]),
        "protected": protected,
    }


def seal_file(identifier: str, key: bytes, content: bytes) -> bytes:
    """Encrypt an attachment as clients do: nonce, AES-256-GCM ciphertext and tag, bound to its identifier."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, identifier.encode())


def _agree(key: bytes) -> tuple[bytes, bytes]:
    """Return a fresh public key and the key that wraps the content key (RFC 7518 section 4.6.2)."""
    ephemeral = X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        raise InvalidInput("invalid public key", "nobody can be sealed to with it") from None
    # Algorithm, PartyUInfo and PartyVInfo each behind their length, and the number of bits.
    other = (
        struct.pack(">I", len(ALGORITHM)) + ALGORITHM.encode() + bytes(8) + struct.pack(">I", KEY_BYTES * 8)
    )
    derived = ConcatKDFHash(algorithm=SHA256(), length=KEY_BYTES, otherinfo=other).derive(shared)
    return ephemeral.public_key().public_bytes_raw(), derived


def _text(members: dict[str, Any]) -> str:
    """Write JSON as every client writes it, without spaces and escapes, in base64url."""
    return to_base64url(json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode())
