"""DID documents, DID configuration, credentials and DNS records."""

from __future__ import annotations

import copy
import json
from typing import Any

import base58
import pytest

from events.errors import Forbidden, InvalidInput
from node.crypto.credentials import (
    credential_id,
    domain_linkage_credential,
    issue_registration_credential,
    rfc3339,
    unix_seconds,
    verify_credential,
    verify_registration_credential,
)
from node.crypto.did_documents import (
    ServerEndpoints,
    agreement_key,
    did_configuration,
    messaging_endpoint,
    server_document,
    signing_key,
    user_document,
)
from node.crypto.jws import HEADER_JWT, verify_compact
from node.crypto.keys import ServerKeys, UserKeys
from tests.unit.crypto.conftest import NOW


@pytest.fixture
def document(alpha: ServerKeys, alice: UserKeys) -> dict[str, Any]:
    return user_document(
        alice.public_key, alice.agreement_public_key, alpha.address, ServerEndpoints("mio.alpha.example")
    )


@pytest.fixture
def credential(alpha: ServerKeys, alice: UserKeys) -> dict[str, Any]:
    return issue_registration_credential(alice.address, "mio.alpha.example", alpha, NOW + 123)


def test_keys_and_endpoint_are_read_back_from_a_document(document: dict[str, Any], alice: UserKeys) -> None:
    assert signing_key(document) == alice.public_key
    assert agreement_key(document) == alice.agreement_public_key
    assert messaging_endpoint(document) == "https://mio.alpha.example/api/v1/mtp/message"


def test_a_real_multibase_prefix_is_accepted(document: dict[str, Any], alice: UserKeys) -> None:
    document["keyAgreement"][0]["publicKeyMultibase"] = (
        "z" + base58.b58encode(alice.agreement_public_key).decode()
    )
    assert agreement_key(document) == alice.agreement_public_key


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [("h.example/x", "https://h.example/x"), ("https://h.example/x/", "https://h.example/x"), ("localhost:1/x", "http://localhost:1/x"),
     ("127.0.0.1/x", "http://127.0.0.1/x"), ("h.example//", "https://h.example/"), ("", ""), (5, ""), ({"uri": "x"}, "")],
)  # fmt: skip
def test_endpoints_get_their_scheme(alpha: ServerKeys, endpoint: Any, url: str) -> None:
    document = server_document(alpha.public_key, ServerEndpoints("mio.alpha.example"))
    document["service"][1]["serviceEndpoint"] = endpoint
    assert messaging_endpoint(document) == url


@pytest.mark.parametrize(
    "foreign", [{}, {"service": None}, {"service": "x"}, {"service": [5]}, {"service": [{"type": "Other", "serviceEndpoint": "x"}]},
                {"verificationMethod": [{"publicKeyJwk": {"kty": "EC"}}]}, {"verificationMethod": [{"publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}]},
                {"verificationMethod": []}, {"keyAgreement": [{"publicKeyMultibase": "0OIl"}]}, {"keyAgreement": [{"publicKeyMultibase": "z" * 10_000}]}],
)  # fmt: skip
def test_odd_foreign_documents_have_no_endpoint_and_no_keys(foreign: dict[str, Any]) -> None:
    assert messaging_endpoint(foreign) == ""
    for read in (signing_key, agreement_key):
        with pytest.raises(InvalidInput):
            read(foreign)


def test_documents_are_not_made_from_keys_of_a_wrong_length(alpha: ServerKeys, alice: UserKeys) -> None:
    for keys in ((alice.public_key, b""), (b"", alice.agreement_public_key)):
        with pytest.raises(InvalidInput):
            user_document(*keys, alpha.address, ServerEndpoints("x.example"))


def test_the_did_configuration_holds_the_credential_twice(alpha: ServerKeys) -> None:
    configuration = did_configuration(alpha, "mio.alpha.example", NOW + 5000)
    credential, token = configuration["linked-dids"]
    verify_credential(credential, alpha.address, alpha.public_key)
    assert credential["credentialSubject"] == {"id": str(alpha.did), "origin": "https://mio.alpha.example"}
    assert "id" not in credential
    claims = json.loads(verify_compact(token, alpha.public_key, HEADER_JWT))
    assert claims["iss"] == claims["sub"] == str(alpha.did)
    assert claims["nbf"] == NOW // 1000 + 5
    assert claims["vc"] == {name: value for name, value in credential.items() if name != "proof"}


def test_a_registration_credential_says_who_is_registered_where(
    credential: dict[str, Any], alpha: ServerKeys, alice: UserKeys
) -> None:
    read = verify_registration_credential(credential, alice.address, alpha.address, alpha.public_key)
    assert read.id == credential_id(alice.address, alpha.address)
    assert read.domains == ("mio.alpha.example",)
    assert credential["issuanceDate"] == "2025-10-09T08:53:20.123Z"
    assert list(credential) == [
        "@context", "id", "type", "issuer", "issuanceDate", "credentialSubject", "proof", "credentialStatus",
    ]  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for name in value for found in leaves(value[name], (*path, name))]
    if isinstance(value, list):
        return [found for index in range(len(value)) for found in leaves(value[index], (*path, index))]
    return [path]


# Not covered by the signature (wire spec section 1.6: the proof is left out), and without meaning here.
UNSIGNED = {("proof", "type"), ("proof", "created"), ("proof", "proofPurpose")}


def test_every_signed_member_of_a_credential_is_compared(
    credential: dict[str, Any], alpha: ServerKeys, alice: UserKeys
) -> None:
    for path in leaves(credential):
        changed = copy.deepcopy(credential)
        holder = changed
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = "2030-01-01T00:00:00Z" if str(path[-1]).endswith("Date") else "changed"
        if path in UNSIGNED:
            verify_registration_credential(changed, alice.address, alpha.address, alpha.public_key)
            continue
        with pytest.raises((Forbidden, InvalidInput)):
            verify_registration_credential(changed, alice.address, alpha.address, alpha.public_key)
    with pytest.raises(Forbidden):
        verify_credential({**credential, "extra": "x"}, alpha.address, alpha.public_key)


def test_credentials_of_another_user_issuer_or_kind_are_refused(
    credential: dict[str, Any], alpha: ServerKeys, beta: ServerKeys, alice: UserKeys, bob: UserKeys
) -> None:
    for user, issuer, key in (
        (bob.address, alpha.address, alpha.public_key),
        (alice.address, beta.address, beta.public_key),
        (alice.address, alpha.address, beta.public_key),
    ):
        with pytest.raises(Forbidden):
            verify_registration_credential(credential, user, issuer, key)
    with pytest.raises(Forbidden):
        verify_registration_credential(
            domain_linkage_credential(alpha, "x.example"), alice.address, alpha.address, alpha.public_key
        )


@pytest.mark.parametrize(
    "odd", [{}, {"issuer": 5}, {"issuer": "x", "proof": {}}, {"issuer": "x", "proof": {"jws": 5}}]
)
def test_what_is_no_credential_is_invalid_input(alpha: ServerKeys, odd: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        verify_credential(odd, alpha.address, alpha.public_key)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-10-09T08:53:20Z", NOW // 1000),
        ("2025-10-09T10:53:20.123456789+02:00", NOW // 1000),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_dates_of_the_reference_server_are_read(text: str, seconds: int) -> None:
    assert unix_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "2025-10-09", "2025-13-09T08:53:20Z", "2025-10-09T08:53:20", "2025-10-09 08:53:20Z", "x" * 1000],
)
def test_odd_dates_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        unix_seconds(text)


def test_written_dates_have_no_trailing_zeros() -> None:
    assert [rfc3339(NOW), rfc3339(NOW + 100), rfc3339(NOW + 7)] == [
        "2025-10-09T08:53:20Z", "2025-10-09T08:53:20.1Z", "2025-10-09T08:53:20.007Z",
    ]  # fmt: skip
