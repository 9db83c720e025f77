"""Compact JWS with EdDSA over Ed25519: the only form of token and proof that the node speaks.

The protected header is one constant text and is compared, not parsed: a token can't choose its own
algorithm, key or critical extension, and the JSON serialisations of RFC 7515 never get that far.
Wire spec sections 1.5, 1.6, 1.11; RFC 7515 section 7.1; RFC 8037 section 3.1.
"""

from __future__ import annotations

import re
from typing import Final

from events.errors import InvalidInput, MailioError, Unauthenticated
from node.crypto.base64_text import from_base64url, to_base64url
from node.crypto.keys import SIGNATURE_BYTES, SigningKeys, verify_signature

HEADER: Final = '{"alg":"EdDSA"}'
HEADER_JWT: Final = '{"alg":"EdDSA","typ":"JWT"}'

MAX_JWS: Final = 16_384
"""Characters of a compact JWS: a registration credential has about 900, a token 450."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def sign_compact(payload: bytes, keys: SigningKeys, header: str = HEADER) -> str:
    """Sign `payload` and serialise it as compact JWS."""
    signed = f"{to_base64url(header.encode())}.{to_base64url(payload)}"
    return f"{signed}.{to_base64url(keys.sign(signed.encode()))}"


def verify_compact(text: str, public_key: bytes, header: str = HEADER, limit: int = MAX_JWS) -> bytes:
    """Return the payload of a compact JWS that `public_key` signed with exactly this header.

    Raises InvalidInput when it is no compact JWS, Unauthenticated when header or signature is wrong.
    """
    found = _COMPACT.fullmatch(text) if len(text) <= limit else None
    if found is None:
        raise InvalidInput("Invalid JWS message", "not a compact JWS")
    if found[1] != to_base64url(header.encode()):
        raise Unauthenticated("Failed to verify JWS message", "header is not the agreed one")
    payload, signature = _decoded(found[2], found[3])
    if not verify_signature(public_key, f"{found[1]}.{found[2]}".encode(), signature):
        raise Unauthenticated("Failed to verify JWS message", "signature")
    return payload


def _decoded(payload: str, signature: str) -> tuple[bytes, bytes]:
    try:
        return from_base64url(payload), from_base64url(signature, length=SIGNATURE_BYTES)
    except MailioError as error:
        raise InvalidInput("Invalid JWS message", str(error)) from None
