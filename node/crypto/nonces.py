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

from events.errors import InvalidInput, Unauthenticated
from events.log.log import Clock
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.single_use import DEFAULT_CAPACITY, LIFETIME_MS, Missing, SingleUse

LOGIN_LETTERS: Final = 64
HANDSHAKE_LETTERS: Final = 16

MAX_NONCE_BODY: Final = 4_096
"""Characters of the plain body of a handshake request; a usual one has 40."""

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


def handshake_link(nonce: str, server_domain: str, address: str) -> str:
    """Text of a handshake offer, which its owner passes on out of band (wire spec section 4.6)."""
    return f"{nonce}:{server_domain}:{address}"


def nonce_body(nonce: str) -> str:
    """Return `plainBodyBase64` of a handshake request that answers an offer."""
    return to_base64(msgspec.json.encode({"nonce": nonce}))


def nonce_of_body(plain_body: object) -> str:
    """Read the nonce back: a JSON object of texts, 16 letters. Raises InvalidInput."""
    raw = from_base64(plain_body, limit=MAX_NONCE_BODY)
    try:
        nonce = msgspec.json.decode(raw, type=dict[str, str]).get("nonce", "")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        nonce = ""
    if len(nonce) != HANDSHAKE_LETTERS or not _LETTERS.fullmatch(nonce):
        raise InvalidInput("invalid handshake nonce")
    return nonce
