"""Token confusion: whatever a token says of itself, only the server's own EdDSA signature over right claims holds.

The answer: 401 (400 for what can't be read), the same for the API and the sync door, on every route.
`tests/unit/crypto/test_crypto_tokens.py` has the single cases; here they meet the door.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from node.crypto.base64_text import to_base64, to_base64url
from node.crypto.jws import HEADER, sign_compact
from node.crypto.keys import ServerKeys, UserKeys
from node.crypto.tokens import COOKIE, MAX_TOKEN
from tests.attacks.every_route import path_of, with_token
from tests.integration.api.harness import Node, User, database

ME = "/api/v1/user/me"
UNSIGNED = to_base64url(b'{"alg":"none"}')
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Order of the Ed25519 base point: S + ORDER is the malleable twin of a signature's S."""


def claims(node: Node, user: User, **changes: Any) -> dict[str, Any]:
    """Claims that hold; a change of `...` leaves one out."""
    now = node.core.clock.now() // 1000
    good = {
        "aud": "mailio",
        "exp": now + 600,
        "iat": now,
        "iss": str(node.core.keys.did),
        "jti": "answered",
        "sub": str(user.keys.did),
        "usrPubKey": to_base64(user.keys.public_key),
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def signed(node: Node, user: User, header: str = HEADER, **changes: Any) -> str:
    """A token that the server's own key signed."""
    return sign_compact(json.dumps(claims(node, user, **changes)).encode(), node.core.keys, header)


def macked(node: Node, user: User, header: str, key: bytes, digest: str = "sha256") -> str:
    text = f"{to_base64url(header.encode())}.{to_base64url(json.dumps(claims(node, user)).encode())}"
    return f"{text}.{to_base64url(hmac.digest(key, text.encode(), digest))}"


def pem(key: bytes) -> bytes:
    """The public key as the libraries of others are given it."""
    der = bytes.fromhex("302a300506032b6570032100") + key
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"


def forgeries(node: Node, user: User, other: User) -> dict[str, str]:
    """Tokens that must not hold, by what is wrong with them."""
    good, public = signed(node, user), node.core.keys.public_key
    head, body, signature = good.split(".")
    found = {
        "no algorithm": f"{UNSIGNED}.{body}.",
        "no algorithm, signature kept": f"{UNSIGNED}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "user's own signature": sign_compact(json.dumps(claims(node, user)).encode(), user.keys),
        "another server's signature": sign_compact(
            json.dumps(claims(node, user)).encode(), ServerKeys(bytes(32), 0)
        ),
        "malleable signature": f"{head}.{body}.{malleable(signature)}",
        "padded": f"{head}.{body}.{signature}==",
        "standard alphabet": f"{head}.{body}.{signature}".replace("-", "+").replace("_", "/") + "/",
        "last character's spare bits": good[:-1] + next_letter(good[-1]),
        "spaces": f"{head} .{body}.{signature}",
        "five pieces": f"{head}.{body}.{signature}.{head}.{body}",
        "a JSON serialisation": json.dumps({"protected": head, "payload": body, "signature": signature}),
        "huge": f"{head}.{body}{'A' * MAX_TOKEN}.{signature}",
        "empty pieces": "..",
        "claims that occur twice": twice(node, user, other),
    }
    for name, key in (("raw", public), ("hex", public.hex().encode()), ("pem", pem(public)), ("empty", b"")):
        for algorithm, digest in (("HS256", "sha256"), ("HS512", "sha512")):
            header = json.dumps({"alg": algorithm, "typ": "JWT"})
            found[f"{algorithm} with the {name} key"] = macked(node, user, header, key, digest)
            found[f"EdDSA, but {algorithm} with the {name} key"] = macked(node, user, HEADER, key, digest)
    for header in (
        '{"alg":"EdDSA","kid":"../../keys/server.json"}',
        '{"alg":"EdDSA","kid":"/dev/null"}',
        '{"alg":"EdDSA","jku":"https://evil.example/keys"}',
        '{"alg":"EdDSA","crit":["exp"],"exp":0}',
        '{"alg":"EdDSA","b64":false,"crit":["b64"]}',
        '{"alg":"EdDSA","zip":"DEF"}',
        '{"alg":"eddsa"}',
        '{"alg":"EdDSA","alg":"none"}',
    ):
        found[f"header {header}"] = signed(node, user, header)
    return found | {
        f"claims {change!r}": signed(node, user, **change) for change in wrong_claims(node, user, other)
    }


def wrong_claims(node: Node, user: User, other: User) -> list[dict[str, Any]]:
    now = node.core.clock.now() // 1000
    missing: list[dict[str, Any]] = [{name: ...} for name in claims(node, user)]
    return [
        *missing,
        {"exp": now - 1},
        {"exp": now},
        {"exp": str(now + 600)},
        {"exp": 1e300},
        {"nbf": now + 3_600},
        {"iat": now + 3_600},
        {"aud": "other"},
        {"aud": ["mailio", "other"]},
        {"iss": str(other.keys.did)},
        {"sub": str(other.keys.did)},
        {"sub": str(UserKeys.generate().did), "usrPubKey": to_base64(UserKeys.generate().public_key)},
        {"usrPubKey": to_base64(other.keys.public_key)},
        {"jti": ["answered"]},
    ]


def malleable(signature: str) -> str:
    raw = base64.urlsafe_b64decode(signature + "==")
    twin = int.from_bytes(raw[32:], "little") + ORDER
    return to_base64url(raw[:32] + twin.to_bytes(32, "little"))


def next_letter(letter: str) -> str:
    """Another letter with the same leading bits: a second spelling of the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) + 1]


def twice(node: Node, user: User, other: User) -> str:
    payload = json.dumps(claims(node, user))[:-1] + f',"sub":"{other.keys.did}"}}'
    return sign_compact(payload.encode(), node.core.keys)


async def test_no_forged_token_holds_at_any_door(node: Node, alice: User, mallory: User) -> None:
    good = signed(node, alice)
    assert (await node.get(ME, good)).status == 200, "or the forgeries below prove nothing"
    for name, forged in forgeries(node, alice, mallory).items():
        for headers in (
            {"Authorization": forged},
            {"Authorization": f"Bearer {forged}"},
            {"Cookie": f"{COOKIE}={forged}"},
        ):
            for path in (ME, f"/{database(alice)}"):
                answer = await node.get(path, **headers)
                assert answer.status in {400, 401}, (name, path)
                assert alice.address.encode() not in answer.body


async def test_every_route_with_a_token_refuses_a_forged_one(node: Node, alice: User) -> None:
    head, body, _ = signed(node, alice).split(".")
    unsigned = f"{UNSIGNED}.{body}."
    before = node.core.log.head
    for route in with_token(node):
        for forged in (unsigned, f"{head}.{body}.{to_base64url(hashlib.sha512(b'').digest())}"):
            answer = await node.call(route.method, path_of(route), {} if route.body else None, token=forged)
            assert answer.status in {400, 401}, route.path
    assert node.core.log.head == before


async def test_what_is_no_token_is_refused_like_a_wrong_one(node: Node, alice: User) -> None:
    for authorization in ("Bearer", "bearer  ", "Token x", "Negotiate x", "\t", "a" * 7_000):
        assert (await node.get(ME, Authorization=authorization)).status in {400, 401}, authorization


async def test_a_token_in_a_query_is_not_looked_at(node: Node, alice: User) -> None:
    """It would stand in the logs of every proxy."""
    for name in ("token", "access_token", "Authorization", COOKIE):
        assert (await node.get(f"{ME}?{name}={signed(node, alice)}")).status == 401
