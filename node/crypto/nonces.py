"""Nonces for challenge login and handshake offers (wire spec sections 1.9, 1.10, 4.6).

Unlike the reference server's they come from the operating system's generator, are taken once, and a
handshake nonce belongs to the address that offered it (wire spec section 10.3, S14).
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable
from typing import Final

import msgspec

from events.errors import Unauthenticated
from events.log.log import Clock
from node.crypto.single_use import DEFAULT_CAPACITY, LIFETIME_MS, Missing, SingleUse

LOGIN_LETTERS: Final = 64
HANDSHAKE_LETTERS: Final = 16

_LETTERS = re.compile(r"[a-zA-Z]{1,64}")


class Nonce(msgspec.Struct, frozen=True):
    """A nonce as the client gets it; `created` is in milliseconds."""

    nonce: str
    created: int


def random_letters(count: int) -> str:
    """Draw `count` letters a-zA-Z: 5.7 bits each, from the operating system's generator."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(count))


class NonceBook:
    """The open nonces of one kind. Bounded: see `node.crypto.single_use` for what a flood does."""

    def __init__(
        self,
        clock: Clock,
        length: int = LOGIN_LETTERS,
        lifetime_ms: int = LIFETIME_MS,
        capacity: int = DEFAULT_CAPACITY,
        letters: Callable[[int], str] = random_letters,
    ) -> None:
        """Open an empty book of nonces of `length` letters."""
        self._length = length
        self._letters = letters
        self._open: SingleUse[str] = SingleUse(clock, lifetime_ms, capacity)

    def __len__(self) -> int:
        return len(self._open)

    def issue(self, owner: str = "") -> Nonce:
        """Issue a nonce; with `owner` (an address) only that owner's side can take it."""
        nonce = self._letters(self._length)
        return Nonce(nonce, self._open.put(nonce, owner))

    def take(self, nonce: str, owner: str = "") -> None:
        """Use the nonce up. Raises Unauthenticated when it is unknown, used, expired or another's."""
        found = self._open.take(nonce) if _LETTERS.fullmatch(nonce) else Missing.UNKNOWN
        if found is Missing.EXPIRED:
            raise Unauthenticated("nonce expired")
        if found is Missing.UNKNOWN or found != owner:
            raise Unauthenticated("nonce not found")
