"""Passkeys with a software authenticator: both ceremonies, and everything that must break them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from events.errors import Conflict, Forbidden, InvalidInput
from node.crypto.base64_text import to_base64, to_base64url
from node.crypto.keys import UserKeys
from node.crypto.passkeys import PasskeyCredential, PasskeyRegistration, Passkeys
from node.crypto.single_use import LIFETIME_MS
from tests.fakes.authenticator import EDDSA, ES256, Authenticator, from_base64url
from tests.unit.crypto.conftest import SetClock

EMAIL = "alice@alpha.example"


@pytest.fixture
def passkeys(clock: SetClock) -> Passkeys:
    return Passkeys(clock, "alpha.example")


@pytest.fixture
def device() -> Authenticator:
    return Authenticator()


def registration_body(
    options: dict[str, Any], attestation: dict[str, Any], keys: UserKeys, **changes: Any
) -> dict[str, Any]:
    payload = {
        "smartKeyEncrypted": "c21hcnQ=",
        "preRotatedMailioKey": "rotated",
        "address": keys.address,
        "passwordShare": "share",
        "databasePassword": "database password",
        "email": EMAIL,
        "primaryEd25519PublicKey": to_base64(keys.public_key),
        "primaryX25519PublicKey": to_base64(keys.agreement_public_key),
        "challengeSignature": to_base64(keys.sign(options["challenge"].encode())),
        "challenge": options["challenge"],
        **changes,
    }
    return {"attestationResponse": attestation, "smartKeyPayload": payload}


def register(
    passkeys: Passkeys, device: Authenticator, keys: UserKeys, **changes: Any
) -> PasskeyRegistration:
    options = passkeys.registration_options(EMAIL, keys.address)
    return passkeys.finish_registration(registration_body(options, device.create(options), keys, **changes))


def log_in(passkeys: Passkeys, device: Authenticator, credential: PasskeyCredential) -> PasskeyCredential:
    return passkeys.finish_login(passkeys.open_login(device.get(passkeys.login_options())), [credential])


def test_registration_options_are_those_of_the_wire(passkeys: Passkeys, alice: UserKeys) -> None:
    options = passkeys.registration_options("Alice@Alpha.Example", alice.address)
    challenge = options.pop("challenge")
    assert len(from_base64url(challenge)) == 32
    algorithms = (-7, -35, -36, -257, -258, -259, -37, -38, -39, -8)
    expected = {
        "rp": {"name": "Mailio e-Mail", "id": "alpha.example"},
        "user": {"name": EMAIL, "displayName": "alice", "id": to_base64url(alice.address.encode())},
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in algorithms],
        "timeout": 300000,
        "authenticatorSelection": {
            "authenticatorAttachment": "platform", "requireResidentKey": True, "userVerification": "required",
        },
    }  # fmt: skip
    assert json.dumps(options) == json.dumps(expected)


def test_login_options_are_those_of_the_wire(passkeys: Passkeys) -> None:
    options = passkeys.login_options()
    assert len(from_base64url(options.pop("challenge"))) == 32
    assert options == {"timeout": 300000, "rpId": "alpha.example", "userVerification": "required"}


@pytest.mark.parametrize("algorithm", [ES256, EDDSA])
def test_a_registered_passkey_logs_in_again_and_again(
    passkeys: Passkeys, alice: UserKeys, algorithm: int
) -> None:
    device = Authenticator(algorithm=algorithm)
    registered = register(passkeys, device, alice)
    assert (registered.address, registered.email) == (alice.address, EMAIL)
    assert registered.ed25519_public_key == alice.public_key
    assert registered.smart_key.password_share == "share"
    assert registered.credential.transports == ("internal",)
    credential = registered.credential
    for count in (1, 2, 3):
        answer = passkeys.open_login(device.get(passkeys.login_options()))
        assert answer.address == alice.address
        credential = passkeys.finish_login(answer, [credential])
        assert credential.sign_count == count


def test_the_address_must_follow_from_the_submitted_key(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, bob: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, bob.address)
    body = registration_body(options, device.create(options), alice, address=bob.address)
    with pytest.raises(Forbidden, match="invalid mailio address"):
        passkeys.finish_registration(body)


def test_a_session_is_for_the_address_that_opened_it(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, bob: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, bob.address)
    with pytest.raises(Forbidden, match="invalid mailio address"):
        passkeys.finish_registration(registration_body(options, device.create(options), alice))


def test_a_session_is_for_the_email_that_opened_it(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    with pytest.raises(Conflict):
        register(passkeys, device, alice, email="mallory@alpha.example")


def test_the_challenge_must_be_signed_by_the_submitted_key(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, bob: UserKeys
) -> None:
    for signature in (to_base64(bob.sign(b"x")), to_base64(bytes(64)), "!", to_base64(bytes(63))):
        with pytest.raises(Forbidden, match="invalid challenge signature"):
            register(passkeys, device, alice, challengeSignature=signature)


def test_the_payloads_challenge_must_be_the_one_in_the_attestation(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    stale = passkeys.registration_options(EMAIL, alice.address)
    fresh = passkeys.registration_options(EMAIL, alice.address)
    with pytest.raises(Forbidden, match="registration failed"):
        passkeys.finish_registration(registration_body(fresh, device.create(stale), alice))


def test_a_registration_session_is_used_up_by_success_and_by_failure(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    body = registration_body(options, device.create(options), alice)
    passkeys.finish_registration(body)
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.finish_registration(body)
    options = passkeys.registration_options(EMAIL, alice.address)
    body = registration_body(options, device.create(options), alice)
    bad = copy.deepcopy(body)
    bad["smartKeyPayload"]["challengeSignature"] = to_base64(bytes(64))
    for attempt, text in ((bad, "invalid challenge signature"), (body, "session not found")):
        with pytest.raises(Forbidden, match=text):
            passkeys.finish_registration(attempt)


def test_sessions_end_after_five_minutes(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, clock: SetClock
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    body = registration_body(options, device.create(options), alice)
    answer = device.get(passkeys.login_options())
    clock.at += LIFETIME_MS + 1
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.finish_registration(body)
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.open_login(answer)


def test_others_asking_for_options_do_not_end_a_registration(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    passkeys.registration_options("mallory@alpha.example", alice.address)
    passkeys.finish_registration(registration_body(options, device.create(options), alice))


def test_registration_without_user_verification_is_refused(passkeys: Passkeys, alice: UserKeys) -> None:
    with pytest.raises(Forbidden, match="registration failed"):
        register(passkeys, Authenticator(verifies_user=False), alice)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://alpha.example", "https://alpha.example.evil.example"]
)
def test_ceremonies_of_another_origin_are_refused(passkeys: Passkeys, alice: UserKeys, origin: str) -> None:
    with pytest.raises(Forbidden):
        register(passkeys, Authenticator(origin=origin), alice)
    device = Authenticator()
    credential = register(passkeys, device, alice).credential
    device.origin = origin
    with pytest.raises(Forbidden):
        log_in(passkeys, device, credential)


def test_ceremonies_inside_a_foreign_frame_are_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    with pytest.raises(Forbidden):
        passkeys.finish_registration(
            registration_body(options, device.create(options, crossOrigin=True), alice)
        )
    register(passkeys, device, alice)
    with pytest.raises(Forbidden):
        passkeys.open_login(device.get(passkeys.login_options(), crossOrigin=True))


def test_another_relying_partys_passkey_is_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    foreign = {**options, "rp": {"name": "x", "id": "evil.example"}}
    with pytest.raises(Forbidden, match="registration failed"):
        passkeys.finish_registration(registration_body(options, device.create(foreign), alice))


@pytest.mark.parametrize(
    "member", ["smartKeyEncrypted", "address", "email", "databasePassword", "challenge", "passwordShare"]
)
@pytest.mark.parametrize("value", [None, "", 5, [], "x" * 70_000])
def test_a_missing_or_odd_member_of_the_payload_is_invalid_input(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, member: str, value: Any
) -> None:
    with pytest.raises(InvalidInput):
        register(passkeys, device, alice, **{member: value})


@pytest.mark.parametrize(
    "body", [None, [], "x", {}, {"attestationResponse": {}}, {"attestationResponse": {}, "smartKeyPayload": {}}, {"smartKeyPayload": {}}],
)  # fmt: skip
def test_what_is_no_registration_is_invalid_input(passkeys: Passkeys, body: Any) -> None:
    with pytest.raises(InvalidInput):
        passkeys.finish_registration(body)


@pytest.mark.parametrize(
    "attestation", [b"", b"\xff", b"\x81" * 5000, b"\x9b" + b"\xff" * 8, b"\xa0", b"\xa1\x63fmt\x64none", b"\xd8\x1c\x80",
                    b"\xa3\x63fmt\x05\x67attStmt\xa0\x68authData\x40", b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x05"],
)  # fmt: skip
def test_hostile_attestation_objects_are_refused_not_raised(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, attestation: bytes
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    answer = device.create(options)
    answer["response"]["attestationObject"] = to_base64url(attestation)
    with pytest.raises(Forbidden):
        passkeys.finish_registration(registration_body(options, answer, alice))


def test_every_truncated_attestation_object_is_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    whole = from_base64url(
        device.create(passkeys.registration_options(EMAIL, alice.address))["response"]["attestationObject"]
    )
    for cut in range(0, len(whole), 3):
        options = passkeys.registration_options(EMAIL, alice.address)
        answer = device.create(options)
        answer["response"]["attestationObject"] = to_base64url(whole[:cut])
        with pytest.raises(Forbidden):
            passkeys.finish_registration(registration_body(options, answer, alice))


@pytest.mark.parametrize("member", ["id", "rawId", "type", "response"])
@pytest.mark.parametrize("value", [None, 5, "", "other", {}, []])
def test_odd_members_of_an_attestation_are_refused_not_raised(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, member: str, value: Any
) -> None:
    options = passkeys.registration_options(EMAIL, alice.address)
    answer = {**device.create(options), member: value}
    with pytest.raises((Forbidden, InvalidInput)):
        passkeys.finish_registration(registration_body(options, answer, alice))


def test_a_login_answer_is_good_once(passkeys: Passkeys, device: Authenticator, alice: UserKeys) -> None:
    register(passkeys, device, alice)
    answer = device.get(passkeys.login_options())
    passkeys.open_login(answer)
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.open_login(answer)


def test_a_challenge_that_this_node_did_not_give_is_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    register(passkeys, device, alice)
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.open_login(device.get({"rpId": "alpha.example", "challenge": to_base64url(bytes(32))}))


def test_a_registration_challenge_does_not_log_in(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    register(passkeys, device, alice)
    challenge = passkeys.registration_options(EMAIL, alice.address)["challenge"]
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.open_login(device.get({"rpId": "alpha.example", "challenge": challenge}))


def test_a_cloned_authenticator_is_seen_by_its_counter(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    credential = register(passkeys, device, alice).credential
    clone = copy.deepcopy(device)
    credential = log_in(passkeys, device, log_in(passkeys, device, credential))
    assert credential.sign_count == 2
    with pytest.raises(Forbidden, match="login failed"):
        log_in(passkeys, clone, credential)


def test_an_authenticator_without_a_counter_is_accepted(passkeys: Passkeys, alice: UserKeys) -> None:
    device = Authenticator(counts=False)
    credential = register(passkeys, device, alice).credential
    assert log_in(passkeys, device, log_in(passkeys, device, credential)).sign_count == 0


def test_login_without_user_verification_is_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    credential = register(passkeys, device, alice).credential
    device.verifies_user = False
    with pytest.raises(Forbidden, match="login failed"):
        log_in(passkeys, device, credential)


def test_unknown_credential_and_wrong_signature_look_alike(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys
) -> None:
    credential = register(passkeys, device, alice).credential
    answer = device.get(passkeys.login_options())
    answer["response"]["signature"] = to_base64url(b"0" * 70)
    with pytest.raises(Forbidden) as wrong:
        passkeys.finish_login(passkeys.open_login(answer), [credential])
    with pytest.raises(Forbidden) as unknown:
        passkeys.finish_login(passkeys.open_login(device.get(passkeys.login_options())), [])
    assert wrong.value.public == unknown.value.public


@pytest.mark.parametrize("handle", ["", "0x12", "admin", "0x" + "g" * 40, "\xff" * 42])
def test_a_user_handle_that_is_no_address_is_refused(
    passkeys: Passkeys, device: Authenticator, alice: UserKeys, handle: str
) -> None:
    register(passkeys, device, alice)
    device.passkeys[-1].user_handle = handle.encode("latin-1")
    with pytest.raises(Forbidden):
        passkeys.open_login(device.get(passkeys.login_options()))


@pytest.mark.parametrize(
    "body", [None, {}, {"response": {}}, {"response": {"userHandle": None}}, {"response": {"userHandle": "x"}},
             {"response": {"userHandle": "x", "clientDataJSON": "!"}}, {"response": {"userHandle": "x", "clientDataJSON": "e30"}},
             {"response": {"userHandle": "x", "clientDataJSON": "A" * 70_000}}],
)  # fmt: skip
def test_what_is_no_assertion_is_invalid_input(passkeys: Passkeys, body: Any) -> None:
    with pytest.raises(InvalidInput):
        passkeys.open_login(body)


def test_open_sessions_are_bounded(clock: SetClock) -> None:
    passkeys = Passkeys(clock, "alpha.example", capacity=10)
    first = passkeys.login_options()["challenge"]
    for _ in range(10):
        passkeys.login_options()
    device = Authenticator()
    device.create({**passkeys.registration_options(EMAIL, "0x" + "0" * 40)})
    with pytest.raises(Forbidden, match="session not found"):
        passkeys.open_login(device.get({"rpId": "alpha.example", "challenge": first}))


def test_a_development_host_has_http_and_no_port_in_its_relying_party(
    clock: SetClock, alice: UserKeys
) -> None:
    passkeys = Passkeys(clock, "localhost:4200")
    device = Authenticator(origin="http://localhost:4200")
    assert log_in(passkeys, device, register(passkeys, device, alice).credential).sign_count == 1
