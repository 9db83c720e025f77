"""Database passwords: salted scrypt at rest, and a fast path for clients that show them all the time.

A syncing client sends Basic authentication with every request, and scrypt takes 70 ms. Therefore a
pair that verified once is remembered by its HMAC under a key that only this process knows; neither
the password nor anything that survives the process can be learnt from it. The stored hash is part
of what is remembered, so a changed password ends the old one at once. Failures are not remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Final

from events.errors import InvalidInput, MailioError
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.scrypt_pool import Cost, ScryptPool

COST: Final = Cost(15, 8, 1)
"""70 ms and 32 MiB a guess. Clients draw database passwords at random, so this need not be more."""

MAX_PASSWORD: Final = 1_024
"""Octets; more is nobody's password."""

SALT_BYTES: Final = 16

DEFAULT_CACHE: Final = 50_000
"""Remembered pairs: about 8 MB; one per user and device generation."""

_SCHEME = "scrypt"
_MAX_LOG2_N = 20
"""A stored cost above 1 GiB is damage or an attack on the store, not a setting."""

_DECOY = f"{_SCHEME}${COST.log2_n}${COST.r}${COST.p}${to_base64(bytes(SALT_BYTES))}${to_base64(bytes(32))}"


class Passwords:
    """Hashes and verifies passwords in the scrypt pool."""

    def __init__(self, pool: ScryptPool, cache: int = DEFAULT_CACHE) -> None:
        """Use `pool`, remember up to `cache` verified pairs."""
        self._pool = pool
        self._size = cache
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    async def hash(self, password: str, salt: bytes | None = None) -> str:
        """Return the text to store: `scrypt$log2 N$r$p$salt$hash`. Raises InvalidInput, Busy."""
        secret = _checked(password)
        salt = salt or secrets.token_bytes(SALT_BYTES)
        derived = await self._pool.derive(secret, salt, COST)
        return f"{_SCHEME}${COST.log2_n}${COST.r}${COST.p}${to_base64(salt)}${to_base64(derived)}"

    async def verify(self, user: str, password: str, stored: str | None) -> bool:
        """Whether `password` is the one behind `stored`; None for a user who does not exist.

        An unknown user costs the same work as a wrong password. Raises Busy; InvalidInput when the
        stored text is damaged.
        """
        try:
            secret = _checked(password)
        except InvalidInput:
            return False
        mark = self._mark(user, secret, stored or "")
        if mark in self._verified:
            self._verified.move_to_end(mark)
            return True
        cost, salt, expected = _parse(stored or _DECOY)
        derived = await self._pool.derive(secret, salt, cost, len(expected))
        if not hmac.compare_digest(derived, expected) or stored is None:
            return False
        self._remember(mark)
        return True

    def _mark(self, user: str, secret: bytes, stored: str) -> bytes:
        """Name the triple; lengths stand in front so that no two triples run together."""
        parts = (user.encode(), stored.encode(), secret)
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)

    def _remember(self, mark: bytes) -> None:
        self._verified[mark] = None
        if len(self._verified) > self._size:
            self._verified.popitem(last=False)


def _checked(password: str) -> bytes:
    try:
        secret = password.encode()
    except UnicodeEncodeError:
        raise InvalidInput("invalid password") from None
    if not 0 < len(secret) <= MAX_PASSWORD:
        raise InvalidInput("invalid password", "empty or too long")
    return secret


def _parse(stored: str) -> tuple[Cost, bytes, bytes]:
    try:
        scheme, log2_n, r, p, salt, derived = stored.split("$")
        cost = Cost(int(log2_n), int(r), int(p))
        found = cost, from_base64(salt), from_base64(derived)
    except (ValueError, MailioError):
        raise InvalidInput("invalid password hash", "the stored hash is damaged") from None
    plausible = 1 <= cost.log2_n <= _MAX_LOG2_N and 1 <= cost.r <= 32 and 1 <= cost.p <= 16
    if scheme != _SCHEME or not plausible or len(found[2]) < 16:
        raise InvalidInput("invalid password hash", "the stored hash is damaged")
    return found
