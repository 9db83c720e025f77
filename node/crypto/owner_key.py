"""One user's secret key, and the keys that are derived from it, one for each use.

ChaCha20-Poly1305 (RFC 8439). Nonces of 96 bits are drawn at random or computed from what they are for;
either is safe for 2^32 messages of one user. Derivation: keyed BLAKE2b (RFC 7693) with the use as person.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class OwnerKey:
    """A key of the vault; `id` names it inside envelopes. Never shows its secret.

    `alone` is the head of an envelope that this key alone opens (`node.crypto.envelope`).
    """

    def __init__(self, key_id: bytes, owner: str, secret: bytes) -> None:
        """Take the 32 secret bytes."""
        self.id = key_id
        self.alone = b"\x00\x01" + key_id
        self.owner = owner
        self._secret = secret
        # No `cached_property`: until Python 3.12 it takes a lock, which costs as much as deriving the key.
        self._events: ChaCha20Poly1305 | None = None
        self._blobs: ChaCha20Poly1305 | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.owner})"

    @property
    def events(self) -> ChaCha20Poly1305:
        """What seals events."""
        if self._events is None:
            self._events = ChaCha20Poly1305(self._derived(b"mailio events"))
        return self._events

    @property
    def blobs(self) -> ChaCha20Poly1305:
        """What seals blobs."""
        if self._blobs is None:
            self._blobs = ChaCha20Poly1305(self._derived(b"mailio blobs"))
        return self._blobs

    @cached_property
    def _naming(self) -> bytes:
        return self._derived(b"mailio naming")

    def nonce_of(self, body: bytes) -> bytes:
        """Compute the nonce for a body, always the same one: who has not the key can't tell it."""
        return hashlib.blake2b(body, key=self._naming, digest_size=NONCE_BYTES).digest()

    def _derived(self, use: bytes) -> bytes:
        return hashlib.blake2b(key=self._secret, person=use, digest_size=32).digest()
