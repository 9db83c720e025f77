"""Envelopes: bytes encrypted for one or several users, readable as long as one of their keys is there.

    count (u16) | for each owner: key id (8) [ | wrapped content key (48) ] | nonce (12) | ciphertext and tag

One owner: encrypted under that owner's key. Several: under a content key made for this envelope alone,
which is wrapped for each of them. All before the nonce, and what the caller binds the envelope to, is
authenticated with the content, so nothing of it can be exchanged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from events.errors import Gone
from events.log.sealing import SealBroken
from node.crypto.owner_key import NONCE_BYTES, TAG_BYTES, OwnerKey
from node.crypto.vault import ID_BYTES, Vault

_COUNT = struct.Struct(">H")
_CONTENT_KEY_BYTES: Final = 32
_WRAPPED_BYTES: Final = _CONTENT_KEY_BYTES + TAG_BYTES
_ONE: Final = _COUNT.pack(1)
_ONE_HEAD: Final = _COUNT.size + ID_BYTES
_ONE_CONTENT: Final = _ONE_HEAD + NONCE_BYTES
_WRAP: Final = b"wrap"


class Envelopes:
    """Seals and opens with the keys of a vault; a `Sealer` for the log.

    With `named`, one owner's envelope is computed: the same content gives the same envelope.
    """

    def __init__(self, vault: Vault, *, named: bool = False) -> None:
        """Use the keys for blobs when `named`, else those for events."""
        self._vault = vault
        self._named = named

    @property
    def vault(self) -> str:
        """Identity of the vault."""
        return self._vault.id

    def _cipher(self, key: OwnerKey) -> ChaCha20Poly1305:
        return key.blobs if self._named else key.events

    def seal(self, plain: bytes, owners: Sequence[str], bound: bytes, *, unique: bool = False) -> bytes:
        """Encrypt for the owners that are left; at least one must be named.

        With `unique`, the envelope is like no other, also for content that was sealed before.
        Raises Gone when all of them were erased, StorageUnavailable.
        """
        if len(owners) == 1:
            key = self._vault.key_of(owners[0])
            head = key.alone
            if self._named:
                nonce = os.urandom(NONCE_BYTES) if unique else key.nonce_of(plain)
                return head + nonce + key.blobs.encrypt(nonce, plain, head + bound)
            nonce = os.urandom(NONCE_BYTES)
            return head + nonce + key.events.encrypt(nonce, plain, head + bound)
        return self._seal_for_all(plain, self._left(owners), bound, unique=unique)

    def _left(self, owners: Sequence[str]) -> list[OwnerKey]:
        keys = []
        for owner in owners:
            try:
                keys.append(self._vault.key_of(owner))
            except Gone:
                continue
        if not keys:
            raise Gone("this account was erased", ", ".join(owners))
        return keys

    def _seal_for_all(self, plain: bytes, keys: Sequence[OwnerKey], bound: bytes, *, unique: bool) -> bytes:
        if len(keys) == 1:
            return self.seal(plain, [keys[0].owner], bound, unique=unique)
        nonce, content = os.urandom(NONCE_BYTES), os.urandom(_CONTENT_KEY_BYTES)
        wraps = [key.id + self._cipher(key).encrypt(nonce, content, _WRAP + bound) for key in keys]
        head = _COUNT.pack(len(keys)) + b"".join(wraps)
        return head + nonce + ChaCha20Poly1305(content).encrypt(nonce, plain, head + bound)

    def open(self, envelope: bytes, bound: bytes) -> bytes | None:
        """Return what was sealed, None when all keys were destroyed.

        Raises SealBroken, also for a key that never was in this vault; StorageUnavailable.
        """
        try:
            if envelope.startswith(_ONE):
                return self._open_single(envelope, bound)
            return self._open_shared(envelope, bound)
        except InvalidTag:
            raise SealBroken("the sealed content is not what was written here") from None

    def _open_single(self, envelope: bytes, bound: bytes) -> bytes | None:
        if len(envelope) < _ONE_CONTENT + TAG_BYTES:
            raise SealBroken("the envelope is too short")
        head = envelope[:_ONE_HEAD]
        key = self._vault.key(head[_COUNT.size :])
        if key is None:
            return None
        nonce, sealed = envelope[_ONE_HEAD:_ONE_CONTENT], envelope[_ONE_CONTENT:]
        return (key.blobs if self._named else key.events).decrypt(nonce, sealed, head + bound)

    def _open_shared(self, envelope: bytes, bound: bytes) -> bytes | None:
        size = head_size(envelope)
        if len(envelope) < size + NONCE_BYTES + TAG_BYTES:
            raise SealBroken("the envelope is too short")
        head, nonce = envelope[:size], envelope[size : size + NONCE_BYTES]
        step = ID_BYTES + _WRAPPED_BYTES
        for start in range(_COUNT.size, size, step):
            key = self._vault.key(head[start : start + ID_BYTES])
            if key is not None:
                wrapped = head[start + ID_BYTES : start + step]
                content = self._cipher(key).decrypt(nonce, wrapped, _WRAP + bound)
                sealed = memoryview(envelope)[size + NONCE_BYTES :]
                return ChaCha20Poly1305(content).decrypt(nonce, sealed, head + bound)
        return None


def head_size(start: bytes) -> int:
    """Length of what stands before the nonce, from the first bytes of an envelope. Raises SealBroken."""
    if len(start) < _COUNT.size or not (count := _COUNT.unpack_from(start)[0]):
        raise SealBroken("the envelope names no key")
    return _ONE_HEAD if count == 1 else _COUNT.size + int(count) * (ID_BYTES + _WRAPPED_BYTES)


def key_ids(head: bytes) -> list[bytes]:
    """Return the ids of the keys that open an envelope, from its head."""
    step = ID_BYTES if head.startswith(_ONE) else ID_BYTES + _WRAPPED_BYTES
    return [head[start : start + ID_BYTES] for start in range(_COUNT.size, len(head), step)]
