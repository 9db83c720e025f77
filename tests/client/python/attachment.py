"""Attachments, sealed before they are uploaded: the node and its storage see random bytes.

Sealed form: 12 bytes nonce, AES-256-GCM ciphertext, 16 bytes tag. Each has a key of its own, which stands in the
encrypted letter. The attachment's id is authenticated with it, so one can't be put in another's place.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.client.python.errors import Refused

NONCE_BYTES: Final = 12
OVERHEAD_BYTES: Final = NONCE_BYTES + 16


@dataclass(frozen=True)
class File:
    """A file as its owner knows it."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class SealedFile:
    """`data` is for the upload; `id` and `key` (32 bytes) are for those who may read it."""

    id: str
    key: bytes
    data: bytes


def seal_file(content: bytes) -> SealedFile:
    """Encrypt with a fresh key under a fresh id."""
    identifier, key, nonce = secrets.token_hex(16), secrets.token_bytes(32), secrets.token_bytes(NONCE_BYTES)
    return SealedFile(identifier, key, nonce + AESGCM(key).encrypt(nonce, content, identifier.encode()))


def open_file(identifier: str, key: bytes, data: bytes) -> bytes:
    """Decrypt what was downloaded. Raises Refused when it is not what was sealed."""
    if len(key) != 32 or len(data) < OVERHEAD_BYTES:
        raise Refused("not a sealed attachment")
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], identifier.encode())
    except InvalidTag:
        raise Refused("the attachment is not what was sealed") from None
