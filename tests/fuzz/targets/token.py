"""Invariant: no text is a token but the one that was issued; all others are refused as Unauthenticated."""

from __future__ import annotations

from events.errors import InvalidInput, Unauthenticated
from node.crypto.jws import verify_compact
from node.crypto.keys import ServerKeys, UserKeys
from node.crypto.tokens import TokenIssuer, presented_token

NOW = 1_760_000_000_000
KEYS = ServerKeys(bytes(range(32)), NOW)
USER = UserKeys(bytes(range(32)), bytes(range(32)))
ISSUER = TokenIssuer(KEYS)
GOOD = ISSUER.issue(USER.address, USER.public_key, "answered", NOW)
SEEDS = [
    GOOD.encode(),
    b"eyJhbGciOiJub25lIn0.e30.",
    GOOD.replace(".", "..").encode(),
    b"Bearer " + GOOD.encode(),
]


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        token = presented_token(text)
        claims = ISSUER.verify(token, NOW)
    except Unauthenticated:
        pass
    else:
        assert token == GOOD
        assert claims.address == USER.address
    try:
        verify_compact(text, KEYS.public_key)
    except (InvalidInput, Unauthenticated):
        return
    assert text == GOOD
