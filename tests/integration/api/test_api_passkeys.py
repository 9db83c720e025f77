"""Registration and login by passkey through HTTP, with a software authenticator."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from events.account import DisableAccount
from events.log.clock import VirtualClock
from node.crypto.base64_text import to_base64
from node.crypto.tokens import COOKIE
from tests.fakes.authenticator import Authenticator, to_base64url
from tests.integration.api.harness import PASSWORD, Node, User, database, running, settings_for

BASE = "/api/v1/webauthn"


async def options(node: Node, user: User) -> Any:
    query = urlencode({"email": user.email, "address": user.address})
    return await node.get(f"{BASE}/registration_options?{query}")


def registration(user: User, attestation: dict[str, Any], challenge: str) -> dict[str, Any]:
    payload = {
        "smartKeyEncrypted": "encrypted",
        "preRotatedMailioKey": "next",
        "address": user.address,
        "passwordShare": "share",
        "databasePassword": PASSWORD,
        "email": user.email,
        "primaryEd25519PublicKey": to_base64(user.keys.public_key),
        "primaryX25519PublicKey": to_base64(user.keys.agreement_public_key),
        "challengeSignature": to_base64(user.keys.sign(challenge.encode())),
        "challenge": challenge,
    }
    return {"attestationResponse": attestation, "smartKeyPayload": payload}


async def register(node: Node, user: User, device: Authenticator, **changes: Any) -> Any:
    created = (await options(node, user)).json
    body = registration(user, device.create(created), created["challenge"])
    body["smartKeyPayload"] |= changes
    return await node.call("POST", f"{BASE}/registration_verify", body)


async def log_in(node: Node, device: Authenticator, **bent: Any) -> Any:
    wanted = (await node.get(f"{BASE}/login_options")).json
    return await node.call("POST", f"{BASE}/login_verify", device.get(wanted, **bent))


@pytest.fixture
def device() -> Authenticator:
    return Authenticator()


@pytest.fixture
def carol() -> User:
    return User("carol@alpha.example")


async def test_a_passkey_registers_logs_in_and_goes_on_with_the_cookie(
    node: Node, carol: User, device: Authenticator
) -> None:
    answer = await register(node, carol, device)
    assert answer.status == 200, answer
    assert SimpleCookie(answer.headers["Set-Cookie"])[COOKIE].value == answer.json["token"]
    answer = await log_in(node, device)
    assert answer.status == 200, answer
    session = answer.json
    assert (session["encryptedSmartKeyBase64"], session["smartKeyPasswordPart"]) == ("encrypted", "share")
    assert (session["email"], session["didDocument"]["id"]) == (carol.email, f"did:mailio:{carol.address}")
    assert SimpleCookie(answer.headers["Set-Cookie"])[COOKIE].value == session["jwsToken"]
    resumed = (await node.get("/api/v1/verify_cookie", Cookie=f"{COOKIE}={session['jwsToken']}")).json
    assert resumed == session | {"jwsToken": "", "didDocument": None}


async def test_the_database_password_of_a_registration_opens_the_sync_door(
    node: Node, carol: User, device: Authenticator
) -> None:
    await register(node, carol, device)
    entry = await node.core.accounts.authenticate_password(carol.address, PASSWORD)
    assert entry.database == database(carol)


async def test_the_counter_is_in_the_log_before_the_token_is_given(
    node: Node, carol: User, device: Authenticator
) -> None:
    await register(node, carol, device)
    for count in (1, 2):
        await log_in(node, device)
        (passkey,) = (await node.core.accounts.state(carol.address)).passkeys.values()
        assert passkey.sign_count == count


async def test_a_copied_passkey_whose_counter_stands_still_is_refused(
    node: Node, carol: User, device: Authenticator
) -> None:
    await register(node, carol, device)
    await log_in(node, device)
    device.passkeys[0].sign_count = 0
    answer = await log_in(node, device)
    assert (answer.status, answer.json["message"]) == (403, "login failed")


async def test_a_login_answer_is_good_once(node: Node, carol: User, device: Authenticator) -> None:
    await register(node, carol, device)
    answer = device.get((await node.get(f"{BASE}/login_options")).json)
    assert (await node.call("POST", f"{BASE}/login_verify", answer)).status == 200
    again = await node.call("POST", f"{BASE}/login_verify", answer)
    assert (again.status, again.json["message"]) == (403, "session not found")


@pytest.mark.parametrize("bent", [{"origin": "https://evil.example"}, {"type": "webauthn.create"}])
async def test_a_login_for_another_page_is_refused(
    node: Node, carol: User, device: Authenticator, bent: dict[str, str]
) -> None:
    await register(node, carol, device)
    assert (await log_in(node, device, **bent)).status == 403


async def test_an_unknown_account_reads_like_a_wrong_signature(
    node: Node, carol: User, device: Authenticator
) -> None:
    await register(node, carol, device)
    device.passkeys[0].user_handle = b"0x" + b"1" * 40
    unknown = await log_in(node, device)
    device.passkeys[0].user_handle = carol.address.encode()
    device.passkeys[0].key = ec.generate_private_key(ec.SECP256R1())
    wrong = await log_in(node, device)
    assert unknown.status == wrong.status == 403
    assert unknown.body == wrong.body


async def test_a_disabled_account_does_not_log_in(node: Node, carol: User, device: Authenticator) -> None:
    await register(node, carol, device)
    await node.core.accounts.execute(carol.address, DisableAccount(), "operator")
    answer = await log_in(node, device)
    assert (answer.status, answer.json["message"]) == (403, "user is disabled")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"challengeSignature": to_base64(bytes(64))}, (403, "invalid challenge signature")),
        ({"challenge": to_base64url(bytes(32))}, (403, "session not found")),
        ({"address": "0x" + "1" * 40}, (403, "invalid mailio address")),
        ({"email": "dave@alpha.example"}, (409, "email is not the one of the session")),
        ({"passwordShare": ""}, (400, "invalid registration")),
        ({"passwordShare": 7}, (400, "invalid registration")),
    ],
)
async def test_a_bent_registration_opens_no_account(
    node: Node, carol: User, device: Authenticator, changes: dict[str, Any], refusal: tuple[int, str]
) -> None:
    answer = await register(node, carol, device, **changes)
    assert (answer.status, answer.json["message"]) == refusal
    assert await node.core.directory.by_address(carol.address) is None


@pytest.mark.parametrize(
    "body", [{}, {"attestationResponse": {}}, {"attestationResponse": [], "smartKeyPayload": 1}]
)
async def test_a_registration_that_is_none_is_refused(node: Node, body: Any) -> None:
    assert (await node.call("POST", f"{BASE}/registration_verify", body)).status == 400


@pytest.mark.parametrize(
    "body", [{}, {"response": 7}, {"response": {"clientDataJSON": "x", "userHandle": "x"}}]
)
async def test_a_login_that_is_none_is_refused(node: Node, body: Any) -> None:
    assert (await node.call("POST", f"{BASE}/login_verify", body)).status in {400, 403}


async def test_options_are_refused_for_what_can_not_be_registered(
    node: Node, alice: User, carol: User
) -> None:
    for user, status in (
        (User(alice.email), 409),
        (User("abuse@alpha.example"), 409),
        (User("x@elsewhere.example"), 403),
        (User("no email"), 400),
    ):
        assert (await options(node, user)).status == status
    assert (await node.get(f"{BASE}/registration_options?email={carol.email}")).status == 400
    assert (await node.get(f"{BASE}/registration_options?email={carol.email}&address=x")).status == 400


async def test_an_account_without_smart_key_has_nothing_to_resume(node: Node, alice: User) -> None:
    answer = await node.get("/api/v1/verify_cookie", alice.token)
    assert (answer.status, answer.json["message"]) == (403, "smartkey not found")


async def test_a_ceremony_ends_after_five_minutes(tmp_path: Any, carol: User, device: Authenticator) -> None:
    clock = VirtualClock()
    async with running(settings_for(tmp_path), clock) as node:
        created = (await options(node, carol)).json
        clock.advance(300_001)
        body = registration(carol, device.create(created), created["challenge"])
        answer = await node.call("POST", f"{BASE}/registration_verify", body)
        assert (answer.status, answer.json["message"]) == (403, "session not found")
