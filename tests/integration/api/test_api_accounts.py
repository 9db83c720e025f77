"""Registration and login by key, tokens in every bent form, finding somebody."""

from __future__ import annotations

import base64
import json
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from events.account import DisableAccount
from node.crypto.base64_text import to_base64, to_base64url
from node.crypto.keys import ServerKeys, UserKeys
from node.crypto.tokens import COOKIE, TokenIssuer
from tests.integration.api.harness import Node, User, running, settings_for

ME = "/api/v1/user/me"
DAY = 86_400_000


async def test_a_key_registers_then_logs_in_then_asks_who_it_is(node: Node) -> None:
    user = User("carol@alpha.example")
    answer = await node.call("POST", "/api/v1/register", user.registration(await node.nonce()))
    assert answer.status == 200, answer
    assert (await node.get(ME, answer.json["token"])).json["address"] == user.address
    answer = await node.call("POST", "/api/v1/login", user.proof(await node.nonce()))
    assert answer.status == 200, answer
    assert (await node.get(ME, answer.json["token"])).status == 200


async def test_registration_sets_the_cookie_of_the_wire_spec(node: Node) -> None:
    user = User("carol@alpha.example")
    answer = await node.call("POST", "/api/v1/register", user.registration(await node.nonce()))
    cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    assert cookie.value == answer.json["token"]
    assert (cookie["path"], cookie["domain"], cookie["max-age"]) == ("/", "mio.alpha.example", "2505600")
    assert cookie["httponly"] is True
    assert cookie["secure"] is True
    assert cookie["samesite"] == "Lax"
    assert cookie["expires"].endswith(" GMT")


async def test_member_names_are_read_in_any_case_and_unknown_members_ignored(node: Node) -> None:
    user = User("carol@alpha.example")
    body = user.registration(await node.nonce(), unknown=[1, {"deep": None}])
    answer = await node.call("POST", "/api/v1/register", {name.upper(): body[name] for name in body})
    assert answer.status == 200, answer


async def test_a_member_in_two_spellings_is_refused(node: Node) -> None:
    user = User("carol@alpha.example")
    body = user.registration(await node.nonce(), Email="mallory@alpha.example")
    answer = await node.call("POST", "/api/v1/register", body)
    assert (answer.status, answer.json["message"]) == (400, "invalid request: `email` occurs twice")


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"nonce": "a" * 64}, 401, "nonce not found"),
        ({"nonce": "../../x"}, 401, "nonce not found"),
        ({"signatureBase64": to_base64(bytes(64))}, 401, "invalid signature"),
        ({"signatureBase64": "x"}, 400, "invalid base64"),
        ({"mailioAddress": "0x" + "0" * 40}, 401, "invalid mailio address"),
        ({"ed25519SigningPublicKeyBase64": "AA=="}, 400, "invalid public key"),
        ({"ed25519SigningPublicKeyBase64": to_base64(bytes(32))}, 401, "invalid signature"),
        ({"x25519PublicKeyBase64": ""}, 400, None),
        ({"email": 7}, 400, "invalid request: Expected `str`, got `int` - at `$.email`"),
        ({"email": "no email"}, 400, "invalid email"),
        ({"email": "x@elsewhere.example"}, 409, "domain not supported"),
        ({"email": "alice@alpha.example"}, 409, "user already exists"),
        ({"email": "ALICE@ALPHA.example"}, 409, "user already exists"),
        ({"email": "Postmaster@alpha.example"}, 409, "this name is reserved"),
        ({"databasePassword": "x" * 5_000}, 400, None),
    ],
)
async def test_a_bad_registration_is_refused(
    node: Node, alice: User, changes: dict[str, Any], status: int, message: str | None
) -> None:
    user = User("carol@alpha.example")
    answer = await node.call("POST", "/api/v1/register", user.registration(await node.nonce()) | changes)
    assert answer.status == status, answer
    assert message is None or answer.json == {"code": status, "message": message}
    assert await node.core.directory.by_address(user.address) is None


async def test_a_nonce_is_good_once(node: Node) -> None:
    user, nonce = User("carol@alpha.example"), await node.nonce()
    assert (await node.call("POST", "/api/v1/register", user.registration(nonce))).status == 200
    answer = await node.call("POST", "/api/v1/login", user.proof(nonce))
    assert (answer.status, answer.json["message"]) == (401, "nonce not found")


async def test_a_key_opens_one_account_only(node: Node, alice: User) -> None:
    again = User("another@alpha.example", alice.keys)
    answer = await node.call("POST", "/api/v1/register", again.registration(await node.nonce()))
    assert answer.status == 409
    assert await node.core.directory.by_email("another@alpha.example") is None


async def test_nobody_registers_while_registration_is_closed(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, {"registration": False})) as node:
        user = User("carol@alpha.example")
        answer = await node.call("POST", "/api/v1/register", user.registration(await node.nonce()))
        assert (answer.status, answer.json["message"]) == (403, "registration is closed")
        query = f"?email=carol@alpha.example&address={user.address}"
        assert (await node.get(f"/api/v1/webauthn/registration_options{query}")).status == 403
        body: dict[str, Any] = {"attestationResponse": {}, "smartKeyPayload": {}}
        assert (await node.call("POST", "/api/v1/webauthn/registration_verify", body)).status == 403


async def test_a_failed_login_says_the_same_of_a_known_and_an_unknown_account(
    node: Node, alice: User
) -> None:
    bad = {"signatureBase64": to_base64(bytes(64))}
    answers = [
        await node.call("POST", "/api/v1/login", user.proof(await node.nonce()) | bad)
        for user in (alice, User("nobody@alpha.example"))
    ]
    assert answers[0].status == answers[1].status == 401
    assert answers[0].body == answers[1].body


async def test_somebody_elses_key_proves_nothing_about_an_account(node: Node, alice: User) -> None:
    for address in (alice.address, "0x" + "1" * 40):
        thief = User("mallory@alpha.example")
        answer = await node.call(
            "POST", "/api/v1/login", thief.proof(await node.nonce(), mailioAddress=address)
        )
        assert (answer.status, answer.json["message"]) == (401, "invalid mailio address")


async def test_a_proven_key_without_account_is_told_so(node: Node) -> None:
    answer = await node.call("POST", "/api/v1/login", User("n@alpha.example").proof(await node.nonce()))
    assert (answer.status, answer.json["message"]) == (404, "user not found")


async def test_a_disabled_account_neither_logs_in_nor_uses_its_token(node: Node, alice: User) -> None:
    await node.core.accounts.execute(alice.address, DisableAccount(), "operator")
    answer = await node.call("POST", "/api/v1/login", alice.proof(await node.nonce()))
    assert (answer.status, answer.json["message"]) == (403, "user is disabled")
    answer = await node.get(ME, alice.token)
    assert (answer.status, answer.json) == (401, {"error": "User account is disabled"})


async def test_an_account_whose_credential_this_server_did_not_issue_does_not_log_in(
    node: Node, alice: User
) -> None:
    node.core.keys = ServerKeys(bytes(32), node.core.keys.created)
    answer = await node.call("POST", "/api/v1/login", alice.proof(await node.nonce()))
    assert (answer.status, answer.json["message"]) == (403, "invalid credential")


# Tokens


async def test_a_token_is_taken_bare_as_bearer_and_as_cookie(node: Node, alice: User) -> None:
    assert (await node.get(ME, alice.token)).status == 200
    assert (await node.get(ME, f"Bearer {alice.token}")).status == 200
    assert (await node.get(ME, Cookie=f"{COOKIE}={alice.token}")).status == 200


async def test_without_a_token_the_reason_is_named(node: Node) -> None:
    answer = await node.get(ME)
    assert (answer.status, answer.json) == (401, {"error": "Authorization header is missing"})


def _claims(node: Node, user: User, **changes: Any) -> dict[str, Any]:
    now = node.core.clock.now() // 1000
    claims = {
        "aud": "mailio",
        "exp": now + 1000,
        "iat": now,
        "iss": str(node.core.keys.did),
        "jti": "challenge",
        "sub": f"did:mailio:{user.address}",
        "usrPubKey": to_base64(user.keys.public_key),
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def _signed(node: Node, claims: Any, header: dict[str, Any] | None = None, keys: Any = None) -> str:
    parts = (header or {"alg": "EdDSA"}, claims)
    text = ".".join(to_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{text}.{to_base64url((keys or node.core.keys).sign(text.encode()))}"


async def test_the_forger_of_these_tests_can_make_a_good_token(node: Node, alice: User) -> None:
    """Or else every attack below would be refused for the wrong reason."""
    assert (await node.get(ME, _signed(node, _claims(node, alice)))).status == 200


FORGED_CLAIMS: list[dict[str, Any]] = [
    {"exp": 1},
    {"exp": None},
    {"exp": "9999999999"},
    {"iat": 99_999_999_999},
    {"nbf": 99_999_999_999},
    {"aud": "else"},
    {"aud": ["mailio", "else"]},
    {"aud": None},
    {"iss": "did:mailio:0x" + "0" * 40},
    {"iss": None},
    {"sub": None},
    {"sub": "did:mailio:0x" + "0" * 40},
    {"sub": "did:web:alpha.example"},
    {"usrPubKey": None},
    {"usrPubKey": to_base64(bytes(32))},
    {"jti": None},
    {"jti": 7},
]


@pytest.mark.parametrize("changes", FORGED_CLAIMS, ids=lambda changes: json.dumps(changes)[:40])
async def test_a_token_with_a_wrong_claim_opens_nothing(
    node: Node, alice: User, changes: dict[str, Any]
) -> None:
    answer = await node.get(ME, _signed(node, _claims(node, alice, **changes)))
    assert answer.status in {400, 401}
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "EdDSA", "kid": "../../dev/null"},
        {"alg": "EdDSA", "crit": ["b64"], "b64": False},
        {"alg": "eddsa"},
        {},
    ],
)
async def test_a_token_with_another_header_opens_nothing(
    node: Node, alice: User, header: dict[str, Any]
) -> None:
    answer = await node.get(ME, _signed(node, _claims(node, alice), header or {"typ": "JWT"}))
    assert answer.status == 401


async def test_a_token_without_signature_or_of_another_key_opens_nothing(node: Node, alice: User) -> None:
    good = _signed(node, _claims(node, alice))
    head, payload, signature = good.split(".")
    none = to_base64url(b'{"alg":"none"}')
    tampered = to_base64url(json.dumps(_claims(node, User("m@alpha.example"))).encode())
    flattened = json.dumps({"protected": head, "payload": payload, "signature": signature})
    for token in (
        f"{none}.{payload}.",
        f"{head}.{payload}.",
        f"{head}.{tampered}.{signature}",
        _signed(node, _claims(node, alice), keys=alice.keys),
        flattened,
        good + "=",
        "." * 2,
        "x" * 5_000,
        base64.b64encode(good.encode()).decode(),
    ):
        answer = await node.get(ME, token)
        assert answer.status == 401, token
        assert list(answer.json) == ["error"]


async def test_a_token_of_another_server_opens_nothing(node: Node, alice: User) -> None:
    other = UserKeys.generate()
    answer = await node.get(
        ME, _signed(node, _claims(node, alice, iss=f"did:mailio:{other.address}"), keys=other)
    )
    assert (answer.status, answer.json) == (401, {"error": "Failed to verify JWS message"})


async def test_a_token_expires_after_its_days(node: Node, alice: User) -> None:
    issuer = TokenIssuer(node.core.keys)
    now = node.core.clock.now()
    for age, status in ((29 * DAY, 200), (31 * DAY, 401)):
        token = issuer.issue(alice.address, alice.keys.public_key, "old", now - age)
        assert (await node.get(ME, token)).status == status


async def test_a_token_of_an_account_that_is_not_there_opens_nothing(node: Node) -> None:
    answer = await node.get(ME, _signed(node, _claims(node, User("n@alpha.example"))))
    assert (answer.status, answer.json) == (401, {"error": "User account not found"})


async def test_logging_out_revokes_this_token_for_good_and_no_other(node: Node, alice: User) -> None:
    other = node.token(alice, "another device")
    answer = await node.get("/api/v1/logout", alice.token)
    assert (answer.status, answer.json) == (200, {"message": "logged out"})
    cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    assert (cookie.value, cookie["max-age"]) == ("", "0")
    assert "1970" in cookie["expires"]
    assert (await node.get(ME, alice.token)).status == 401
    assert (await node.get(ME, other)).status == 200


async def test_a_nonce_can_be_withdrawn(node: Node, alice: User) -> None:
    nonce = await node.nonce()
    answer = await node.call("DELETE", f"/api/v1/nonce/{nonce}", token=alice.token)
    assert (answer.status, answer.json) == (200, {"_id": nonce, "nonce": nonce})
    assert (await node.call("DELETE", f"/api/v1/nonce/{nonce}", token=alice.token)).status == 404
    assert (await node.call("POST", "/api/v1/login", alice.proof(nonce))).status == 401


# Finding somebody


async def test_an_address_is_found_by_email_and_its_hash(node: Node, alice: User) -> None:
    email_hash = (await node.core.directory.by_email(alice.email)).email_hash  # type: ignore[union-attr]
    query = {"email": alice.email, "emailHash": email_hash}
    answer = await node.get("/api/v1/findaddress?" + urlencode(query))
    assert (answer.status, answer.json) == (200, {"address": alice.address})


async def test_every_miss_reads_the_same(node: Node, alice: User, mallory: User) -> None:
    other = (await node.core.directory.by_email(mallory.email)).email_hash  # type: ignore[union-attr]
    answers = [
        await node.get("/api/v1/findaddress?" + urlencode({"email": email, "emailHash": value}))
        for email, value in (
            (alice.email, other),
            ("nobody@alpha.example", other),
            ("no email", other),
            (alice.email, "x"),
        )
    ]
    assert {(answer.status, answer.body) for answer in answers} == {
        (404, b'{"code":404,"message":"email not found"}')
    }


async def test_finding_needs_both(node: Node, alice: User) -> None:
    for query in ({"email": alice.email}, {"emailHash": "x"}, {"email": "", "emailHash": ""}, {}):
        assert (await node.get("/api/v1/findaddress?" + urlencode(query))).status == 400
