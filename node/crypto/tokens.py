"""The client token: who a request of the client API comes from (wire spec section 1.11).

The signature is checked before anything in the token is read. Every claim is checked, which the
reference server does not do (wire spec section 10.3, S11). Public texts are those of the table in
section 1.11; the private reason goes to the operator.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import msgspec

from events.errors import InvalidInput, MailioError, Unauthenticated
from events.identity import Did, is_address, mailio_address, mailio_did
from node.crypto.base64_text import to_base64
from node.crypto.jws import sign_compact, verify_compact
from node.crypto.keys import ServerKeys, public_key_from_base64

AUDIENCE: Final = "mailio"
COOKIE: Final = "__mailio-jws-token"

DEFAULT_LIFETIME_S: Final = 30 * 86_400
"""What today's clients expect; shorter makes them log in more often, and is safe."""

CLOCK_SKEW_S: Final = 60
"""How far `iat` and `nbf` may lie ahead: several processes of one node, each with its own clock."""

MAX_TOKEN: Final = 4_096
"""Characters. A token has about 450; browsers refuse larger cookies."""

MAX_JTI: Final = 256
"""Characters of the nonce or challenge that was answered: 64 and 43 in practice."""


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says. Times are in seconds since the Unix epoch."""

    address: str
    user_public_key: bytes
    jti: str
    issued_at: int
    expires_at: int


class TokenIssuer:
    """Issues tokens by the server's present key, and verifies those of all its keys.

    A retired key's tokens go on until they expire: who is logged in does not notice a change of keys.
    """

    def __init__(self, keys: ServerKeys, lifetime_s: int = DEFAULT_LIFETIME_S) -> None:
        """Use the server's keys; a token lives `lifetime_s` seconds."""
        self._keys = keys
        self._lifetime_s = lifetime_s

    def issue(self, address: str, user_public_key: bytes, jti: str, now: int) -> str:
        """Issue a token at `now` (ms) to the user who answered `jti`. Raises InvalidInput."""
        if address != mailio_address(user_public_key):
            raise InvalidInput("invalid mailio address", "address and key do not belong together")
        issued = now // 1000
        claims = {
            "aud": AUDIENCE,
            "exp": issued + self._lifetime_s,
            "iat": issued,
            "iss": str(self._keys.did),
            "jti": jti,
            "sub": str(mailio_did(address)),
            "usrPubKey": to_base64(user_public_key),
        }
        return sign_compact(msgspec.json.encode(claims), self._keys)

    def verify(self, token: str, now: int) -> Claims:
        """Return the claims of a token that holds at `now` (ms). Raises Unauthenticated otherwise."""
        payload, signer = self._opened(token, now)
        claims = _read_claims(payload)
        if claims.get("aud") != AUDIENCE:
            _refuse("audience")
        if claims.get("iss") != str(mailio_did(mailio_address(signer))):
            _refuse("issuer")
        issued, expires = _checked_times(claims, now // 1000)
        if signer not in self._keys.live:
            self._check_retired(signer, issued, expires)
        address, public_key = _checked_subject(claims)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
            _refuse("jti")
        return Claims(address, public_key, jti, issued, expires)

    def _opened(self, token: str, now: int) -> tuple[bytes, bytes]:
        """Return the payload and the key that signed it: a live one, or one whose tokens may still run."""
        retired = (
            one.public_key
            for one in self._keys.retired
            if not one.stolen and now < one.retired + self._lifetime_s * 1000
        )
        refusal = Unauthenticated("Failed to verify JWS message")
        for key in (*self._keys.live, *retired):
            try:
                return verify_compact(token, key, limit=MAX_TOKEN), key
            except InvalidInput as error:
                raise Unauthenticated(error.public, error.private) from None
            except Unauthenticated as error:
                refusal = error
        raise refusal

    def _check_retired(self, signer: bytes, issued: int, expires: int) -> None:
        """Refuse what a retired key can't have signed in its time, with the life that tokens have."""
        (retired,) = (one.retired for one in self._keys.retired if one.public_key == signer)
        if issued * 1000 > retired or expires - issued > self._lifetime_s:
            _refuse("signed by a retired key")


def presented_token(authorization: str | None, cookie: str | None = None) -> str:
    """Take the token out of an `Authorization` header (with or without `Bearer `), else the cookie.

    Raises Unauthenticated when there is neither.
    """
    text = (authorization or cookie or "").strip()
    scheme, _, rest = text.partition(" ")
    token = rest.strip() if scheme.lower() == "bearer" and authorization else text
    if not token:
        raise Unauthenticated("Authorization header is missing")
    return token


def _refuse(reason: str) -> NoReturn:
    raise Unauthenticated("Failed to verify JWS message", reason)


def _read_claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(payload, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise Unauthenticated("Failed to parse JWS payload", "not a JSON object of distinct members")
    return claims


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _checked_times(claims: dict[str, Any], now_s: int) -> tuple[int, int]:
    issued, expires, not_before = (claims.get(name, default) for name, default in _TIMES)
    if type(issued) is not int or type(expires) is not int or type(not_before) is not int:
        _refuse("iat, exp or nbf is missing or no integer")
    if issued > now_s + CLOCK_SKEW_S or not_before > now_s + CLOCK_SKEW_S:
        _refuse("not yet valid")
    if expires <= now_s:
        _refuse("expired")
    return issued, expires


_TIMES: Final = (("iat", None), ("exp", None), ("nbf", 0))


def _checked_subject(claims: dict[str, Any]) -> tuple[str, bytes]:
    """Return address and key; the address must be the one that follows from the key."""
    subject, key_text = claims.get("sub"), claims.get("usrPubKey")
    try:
        did = Did.parse(subject if isinstance(subject, str) else "")
        public_key = public_key_from_base64(key_text)
    except MailioError as error:
        raise Unauthenticated("Failed to parse JWS payload", str(error)) from None
    if did != mailio_did(did.value) or not is_address(did.value):
        raise Unauthenticated("Failed to parse JWS payload", "sub is not did:mailio:<address>")
    if mailio_address(public_key) != did.value:
        _refuse("sub and usrPubKey do not belong together")
    return did.value, public_key
