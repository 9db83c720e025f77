"""Tokens: what holds, and every way in which one that does not hold is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import warnings
from typing import Any

import pytest
from joserfc import jws as other_jws
from joserfc.jwk import OKPKey

from events.errors import InvalidInput, Unauthenticated
from node.crypto.base64_text import to_base64, to_base64url
from node.crypto.jws import HEADER, sign_compact
from node.crypto.keys import ServerKeys, UserKeys
from node.crypto.tokens import CLOCK_SKEW_S, DEFAULT_LIFETIME_S, TokenIssuer, presented_token
from tests.unit.crypto.conftest import NOW

NOW_S = NOW // 1000


@pytest.fixture
def issuer(alpha: ServerKeys) -> TokenIssuer:
    return TokenIssuer(alpha)


def claims_of(alpha: ServerKeys, alice: UserKeys, **changes: Any) -> dict[str, Any]:
    claims = {
        "aud": "mailio",
        "exp": NOW_S + 60,
        "iat": NOW_S,
        "iss": str(alpha.did),
        "jti": "nonce",
        "sub": str(alice.did),
        "usrPubKey": to_base64(alice.public_key),
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not ...}


def signed(alpha: ServerKeys, alice: UserKeys, **changes: Any) -> str:
    return sign_compact(json.dumps(claims_of(alpha, alice, **changes)).encode(), alpha)


def test_an_issued_token_is_read_back(issuer: TokenIssuer, alice: UserKeys) -> None:
    claims = issuer.verify(issuer.issue(alice.address, alice.public_key, "nonce", NOW), NOW)
    assert claims.address == alice.address
    assert claims.user_public_key == alice.public_key
    assert claims.jti == "nonce"
    assert claims.expires_at - claims.issued_at == DEFAULT_LIFETIME_S


def test_another_implementation_of_jws_reads_our_tokens(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys
) -> None:
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": to_base64url(alpha.public_key)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the name EdDSA, which the wire requires, is on its way out
        token = other_jws.deserialize_compact(
            issuer.issue(alice.address, alice.public_key, "n", NOW), key, algorithms=["EdDSA"]
        )
    assert token.headers() == {"alg": "EdDSA"}


def test_a_token_is_not_issued_for_an_address_that_is_not_the_keys(
    issuer: TokenIssuer, alice: UserKeys, bob: UserKeys
) -> None:
    with pytest.raises(InvalidInput):
        issuer.issue(bob.address, alice.public_key, "nonce", NOW)


def test_a_token_ends_in_the_very_second_it_says(issuer: TokenIssuer, alice: UserKeys) -> None:
    token = issuer.issue(alice.address, alice.public_key, "nonce", NOW)
    issuer.verify(token, NOW + DEFAULT_LIFETIME_S * 1000 - 1)
    with pytest.raises(Unauthenticated) as refused:
        issuer.verify(token, NOW + DEFAULT_LIFETIME_S * 1000)
    assert refused.value.private == "expired"


def test_a_token_from_a_clock_slightly_ahead_holds(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys
) -> None:
    issuer.verify(signed(alpha, alice, iat=NOW_S + CLOCK_SKEW_S, nbf=NOW_S + CLOCK_SKEW_S), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"}, {"aud": ["mailio"]}, {"aud": ...},
        {"iss": "did:mailio:0x" + "0" * 40}, {"iss": ...}, {"iss": None},
        {"exp": ...}, {"exp": NOW_S}, {"exp": NOW_S - 1}, {"exp": str(NOW_S + 60)}, {"exp": NOW_S + 60.5},
        {"exp": True}, {"exp": None}, {"exp": -1}, {"exp": float("inf")}, {"exp": float("nan")},
        {"iat": ...}, {"iat": NOW_S + CLOCK_SKEW_S + 1}, {"iat": "now"}, {"iat": False},
        {"nbf": NOW_S + CLOCK_SKEW_S + 1}, {"nbf": "0"}, {"nbf": None},
        {"sub": ...}, {"sub": ""}, {"sub": 7}, {"sub": "0x" + "0" * 40}, {"sub": "did:mailio:0x12"},
        {"sub": "did:mailio:0x446f4461302935ad8387d0349b726bf7dbbc5118#master"},
        {"sub": "did:web:0x446f4461302935ad8387d0349b726bf7dbbc5118"},
        {"sub": "did:mailio:0x446F4461302935AD8387D0349B726BF7DBBC5118"},
        {"sub": "did:mailio:0xb229e972e494372e5c1952f0b058041669f6623a"},
        {"sub": "did:mailio:0x446f4461302935ad8387d0349b726bf7dbbc5118\n"},
        {"sub": {"$ne": ""}}, {"sub": "did:mailio:" + "a" * 3000},
        {"usrPubKey": ...}, {"usrPubKey": ""}, {"usrPubKey": to_base64(bytes(32))}, {"usrPubKey": 5},
        {"jti": ...}, {"jti": ""}, {"jti": 3}, {"jti": "x" * 257},
    ],
    ids=repr,
)  # fmt: skip
def test_a_claim_that_is_missing_or_wrong_is_refused_though_the_server_signed_it(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys, changes: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        issuer.verify(signed(alpha, alice, **changes), NOW)


def test_a_claim_that_occurs_twice_is_refused(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys
) -> None:
    payload = json.dumps(claims_of(alpha, alice))[:-1] + f', "sub": "{alice.did}"}}'
    with pytest.raises(Unauthenticated):
        issuer.verify(sign_compact(payload.encode(), alpha), NOW)


@pytest.mark.parametrize("payload", [b"", b"7", b"[]", b"null", b"\xff", b"{", b'{"a":' + b"[" * 3000])
def test_a_payload_that_is_no_object_is_refused(
    issuer: TokenIssuer, alpha: ServerKeys, payload: bytes
) -> None:
    with pytest.raises(Unauthenticated):
        issuer.verify(sign_compact(payload, alpha), NOW)


def test_the_hmac_of_the_public_key_is_not_a_signature(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys
) -> None:
    head = to_base64url(b'{"alg":"HS256"}')
    body = to_base64url(json.dumps(claims_of(alpha, alice)).encode())
    mac = hmac.digest(alpha.public_key, f"{head}.{body}".encode(), hashlib.sha256)
    for tag in (mac, mac + mac):
        with pytest.raises(Unauthenticated):
            issuer.verify(f"{head}.{body}.{to_base64url(tag)}", NOW)


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none"}', '{"alg":"None"}', '{}', '{"alg":"HS256"}', '{"alg":"ES256"}', '{"alg":"Ed25519"}',
        '{"alg":"EdDSA","kid":"../../etc/passwd"}', '{"alg":"EdDSA","kid":"https://evil.example/key"}',
        '{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}}', '{"alg":"EdDSA","jku":"https://e.example"}',
        '{"alg":"EdDSA","crit":["exp"]}', '{"alg":"EdDSA","b64":false,"crit":["b64"]}', '{"alg":"none","alg":"EdDSA"}',
        '{"alg": "EdDSA"}', '{"typ":"JWT","alg":"EdDSA"}', '{"alg":"EdDSA","zip":"DEF"}',
    ],
)  # fmt: skip
def test_any_other_header_is_refused_even_when_the_server_key_signed_it(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys, header: str
) -> None:
    payload = json.dumps(claims_of(alpha, alice)).encode()
    with pytest.raises(Unauthenticated) as refused:
        issuer.verify(sign_compact(payload, alpha, header), NOW)
    assert refused.value.public == "Failed to verify JWS message"


def test_a_token_of_another_server_or_of_the_user_is_refused(
    issuer: TokenIssuer, alpha: ServerKeys, beta: ServerKeys, alice: UserKeys
) -> None:
    payload = json.dumps(claims_of(alpha, alice)).encode()
    for keys in (beta, alice):
        with pytest.raises(Unauthenticated):
            issuer.verify(sign_compact(payload, keys), NOW)


def test_every_single_changed_character_is_refused(issuer: TokenIssuer, alice: UserKeys) -> None:
    token = issuer.issue(alice.address, alice.public_key, "nonce", NOW)
    for index, letter in enumerate(token):
        other = "B" if letter == "A" else "A"
        with pytest.raises(Unauthenticated):
            issuer.verify(token[:index] + other + token[index + 1 :], NOW)


def test_other_spellings_of_a_good_token_are_refused(issuer: TokenIssuer, alice: UserKeys) -> None:
    token = issuer.issue(alice.address, alice.public_key, "nonce", NOW)
    head, body, signature = token.split(".")
    as_json = json.dumps({"protected": head, "payload": body, "signature": signature})
    general = json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare_bits = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    for text in (
        as_json, general, token + "=", token + "==", token + ".", "." + token, token + "\n", " " + token,
        f"{head}..{signature}", f"{head}.{body}.", f"{head}.{body}", spare_bits, token.replace(".", ".\u200b"),
        token + "\x00", "", ".", "..", "a.b.c", "a" * 5000, "a.b.c.d.e",
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            issuer.verify(text, NOW)


def test_a_token_beyond_the_size_limit_is_not_even_looked_at(
    issuer: TokenIssuer, alpha: ServerKeys, alice: UserKeys
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        issuer.verify(signed(alpha, alice, padding="x" * 4096), NOW)
    assert refused.value.public == "Invalid JWS message"


@pytest.mark.parametrize(
    ("authorization", "cookie", "token"),
    [
        ("abc", None, "abc"),
        ("Bearer abc", "def", "abc"),
        ("bearer  abc ", None, "abc"),
        (None, "def", "def"),
        ("", "def", "def"),
    ],
)
def test_the_token_is_found_with_and_without_bearer_and_in_the_cookie(
    authorization: str | None, cookie: str | None, token: str
) -> None:
    assert presented_token(authorization, cookie) == token


@pytest.mark.parametrize("authorization", [None, "", "  ", "Bearer", "Bearer "])
def test_no_token_at_all_says_so(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Authorization header is missing"):
        presented_token(authorization)


def test_the_header_on_the_wire_is_the_agreed_one(issuer: TokenIssuer, alice: UserKeys) -> None:
    assert issuer.issue(alice.address, alice.public_key, "n", NOW).startswith(
        to_base64url(HEADER.encode()) + "."
    )
