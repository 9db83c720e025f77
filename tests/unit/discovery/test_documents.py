"""Documents of others: what is taken, and every way in which one is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from node.crypto.did_documents import ServerEndpoints, server_document, user_document
from node.crypto.keys import ServerKeys, UserKeys
from node.discovery.documents import Doubt, InvalidDocument, checked_document, messaging_url
from tests.vectors.vectors import vector

SERVER = ServerKeys(b"\x01" * 32, 0)
USER = UserKeys(b"\x02" * 32, b"\x03" * 32)
ENDPOINTS = ServerEndpoints("mio.beta.example")
DOCUMENT = user_document(USER.public_key, USER.agreement_public_key, SERVER.address, ENDPOINTS)
JWK_X25519 = {"kty": "OKP", "crv": "X25519", "x": "GYTl9FUAJEpNSwej2z4YHlr8uCjAvbFHI5Zm4WkGgzo"}


def changed(change: Callable[[Any], object]) -> bytes:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return json.dumps(document).encode()


def test_our_own_documents_come_back_unchanged() -> None:
    assert checked_document(json.dumps(DOCUMENT).encode(), USER.address) == DOCUMENT
    server = server_document(SERVER.public_key, ENDPOINTS)
    assert json.dumps(checked_document(json.dumps(server).encode())) == json.dumps(server)


@pytest.mark.parametrize("name", ["did-document-user", "did-document-server"])
def test_the_published_documents_are_taken(name: str) -> None:
    document = vector(name)[1]["document"]
    address = document["id"].removeprefix("did:mailio:")
    assert checked_document(json.dumps(document).encode(), address) == document


def test_the_document_in_a_published_lookup_is_taken() -> None:
    reply = vector("mtp-did-response")[1]
    (document,) = _documents(reply)
    assert checked_document(json.dumps(document).encode())["id"] == document["id"]


def _documents(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for item in value for one in _documents(item)]
    if not isinstance(value, dict):
        return []
    own = [value["didDocument"]] if isinstance(value.get("didDocument"), dict) else []
    return own + [one for name, item in value.items() if name != "didDocument" for one in _documents(item)]


def test_members_that_the_wire_does_not_know_are_left_out() -> None:
    body = changed(lambda document: document.update(secret="x", proof={"a": 1}))
    assert checked_document(body, USER.address) == DOCUMENT


def test_a_key_for_encryption_may_come_in_either_form() -> None:
    def with_jwk(document: Any) -> None:
        method = document["keyAgreement"][0]
        del method["publicKeyMultibase"]
        method["publicKeyJwk"] = JWK_X25519

    assert checked_document(changed(with_jwk), USER.address)["keyAgreement"][0]["publicKeyJwk"] == JWK_X25519


OTHER_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "RyG1tjInLmWmjdp6wltBhfiwGRbbGFwUKH25Lit3D64"}


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda d: d.update({"@context": "https://www.w3.org/ns/did/v1"}), Doubt.SHAPE),
        (lambda d: d.pop("@context"), Doubt.SHAPE),
        (lambda d: d.pop("id"), Doubt.SHAPE),
        (lambda d: d.update(id=7), Doubt.SHAPE),
        (lambda d: d["service"][1].update(serviceEndpoint={"uri": "https://x"}), Doubt.SHAPE),
        (lambda d: d.update(service=d["service"] * 9), Doubt.SHAPE),
        (lambda d: d.update(verificationMethod=d["verificationMethod"] * 17), Doubt.SHAPE),
        (lambda d: d["service"][1].update(serviceEndpoint="x" * 1_025), Doubt.SHAPE),
        (lambda d: d.pop("verificationMethod"), Doubt.KEY),
        (lambda d: d["verificationMethod"][0]["publicKeyJwk"].update(crv="P-256"), Doubt.KEY),
        (lambda d: d["verificationMethod"][0]["publicKeyJwk"].update(x="short"), Doubt.KEY),
        (lambda d: d["verificationMethod"][0].update(publicKeyJwk=OTHER_JWK), Doubt.OTHER_KEY),
        (lambda d: d.update(id=f"did:mailio:{SERVER.address}"), Doubt.OTHER_KEY),
        (lambda d: d.update(id=d["id"].upper()), Doubt.OTHER_KEY),
        (lambda d: d.update(id=f"did:web:mio.beta.example#{USER.address}"), Doubt.OTHER_KEY),
        (lambda d: d["keyAgreement"][0].update(publicKeyMultibase="z"), Doubt.AGREEMENT),
        (lambda d: d["keyAgreement"][0].update(publicKeyMultibase="0OIl"), Doubt.AGREEMENT),
        (lambda d: d["keyAgreement"][0].update(publicKeyJwk=OTHER_JWK), Doubt.AGREEMENT),
    ],
)
def test_a_bad_document_is_refused_by_name(change: Callable[[Any], object], doubt: Doubt) -> None:
    with pytest.raises(InvalidDocument) as refused:
        checked_document(changed(change), USER.address)
    assert refused.value.doubt is doubt


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"\xff", b'{"id":', b"[" * 100_000, b'{"@context":[' + b"[" * 30_000]
)
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidDocument) as refused:
        checked_document(body)
    assert refused.value.doubt is Doubt.SHAPE


def test_a_document_of_somebody_else_is_refused() -> None:
    with pytest.raises(InvalidDocument) as refused:
        checked_document(json.dumps(DOCUMENT).encode(), SERVER.address)
    assert refused.value.doubt is Doubt.OTHER_ID


def test_mail_goes_to_the_peers_own_host_only() -> None:
    assert messaging_url(DOCUMENT, ["mio.beta.example"]) == "https://mio.beta.example/api/v1/mtp/message"


@pytest.mark.parametrize(
    ("endpoint", "doubt"),
    [
        ("evil.example/api", Doubt.ELSEWHERE),
        ("https://mio.beta.example@evil.example/", Doubt.ELSEWHERE),
        ("https://mio.beta.example.evil.example/", Doubt.ELSEWHERE),
        ("http://127.0.0.1/", Doubt.ELSEWHERE),
        ("https://[", Doubt.ELSEWHERE),
        ("", Doubt.NO_SERVICE),
    ],
)
def test_a_service_elsewhere_is_not_used(endpoint: str, doubt: Doubt) -> None:
    document = json.loads(changed(lambda d: d["service"][1].update(serviceEndpoint=endpoint)))
    with pytest.raises(InvalidDocument) as refused:
        messaging_url(document, ["mio.beta.example"])
    assert refused.value.doubt is doubt
