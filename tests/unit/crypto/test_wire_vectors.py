"""Every published vector, by its id: what it says holds, or what is done in its place and why."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import identity
from events.errors import InvalidInput
from events.identity import Did, mailio_address
from node.api.uploads import object_key
from node.crypto import cbor, credentials, nonces
from node.crypto.base64_text import from_base64, from_base64url, to_base64
from node.crypto.did_documents import ServerEndpoints, server_document, user_document
from node.crypto.email_hash import EmailHasher
from node.crypto.handshakes import handshake_document, sign_handshake, verify_handshake
from node.crypto.jws import verify_compact
from node.crypto.keys import (
    ServerKeys,
    SigningKeys,
    UserKeys,
    key_file_bytes,
    load_server_keys,
    verify_signature,
)
from node.crypto.scrypt_pool import ScryptPool
from node.crypto.tokens import TokenIssuer
from node.discovery import record
from node.mtp import envelope, message
from node.mtp.did_lookup import DidLookupResponse, read_did_request
from node.mtp.envelope import DID_LOOKUP, HANDSHAKE_LOOKUP, MESSAGE, Kind
from node.mtp.status import decode_statuses, encode_statuses
from node.sync.uploads import is_key
from tests.integration.api.harness import running, settings_for
from tests.integration.mtp.harness import receiver
from tests.vectors.vectors import all_vectors, vector

CHECKS: dict[str, Callable[..., Any]] = {}


def checks(*identifiers: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the check of these vectors: (input, expected) -> None."""

    def register(check: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS.update(dict.fromkeys(identifiers, check))
        return check

    return register


def seed_keys(hex_seed: str) -> ServerKeys:
    return ServerKeys(bytes.fromhex(hex_seed), 1_760_000_000_000)


@checks("address-1", "address-server-alpha", "address-server-beta", "address-user-alice", "address-user-bob")
def check_address(given: dict[str, Any], expected: dict[str, Any]) -> None:
    if "ed25519SeedHex" in given:
        keys = seed_keys(given["ed25519SeedHex"])
        assert to_base64(keys.public_key) == expected["ed25519PublicKeyBase64"]
        assert keys.address == expected["address"]
    else:
        assert mailio_address(from_base64(given["ed25519PublicKeyBase64"])) == expected["address"]


@checks("address-legacy-readme")
def check_legacy_address(given: dict[str, Any], expected: dict[str, Any]) -> None:
    address = mailio_address(from_base64url(given["ed25519PublicKeyBase64Url"]))
    assert address == expected["address"]
    assert address != expected["legacyAddressInReadme"]


@checks("emailhash-1", "emailhash-case", "emailhash-alice", "emailhash-bob")
async def check_email_hash(given: dict[str, Any], expected: dict[str, Any]) -> None:
    pool = ScryptPool(workers=1)
    assert await EmailHasher(pool).hash(given["email"]) == expected["emailHash"]
    pool.close()


@checks("mapping-id-1")
def check_mapping_id(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert identity.mapping_id(given["emailHash"]) == expected["mappingId"]


@checks("handshake-id-1", "handshake-id-2", "handshake-id-3", "handshake-id-4")
def check_handshake_id(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert identity.handshake_id(given["ownerAddress"], given["sender"]) == expected["handshakeId"]


@checks("cbor-handshake-fixture")
def check_client_cbor(given: dict[str, Any], expected: dict[str, Any]) -> None:
    raw = from_base64(given["cborBase64"])
    decoded = cbor.decode(raw)
    assert decoded == expected["decoded"]
    assert isinstance(decoded["created"], float)
    assert bytes.fromhex(expected["createdFloatHexBytes"]) in raw
    assert cbor.equal_to_json(decoded, expected["decoded"])


@checks("did-parse-1", "did-parse-2")
def check_did(given: dict[str, Any], expected: dict[str, Any]) -> None:
    did = Did.parse(given["did"])
    assert [did.method, did.value, did.fragment, str(did)] == [
        expected[name] for name in ("protocol", "value", "fragment", "string")
    ]


@checks("did-parse-3")
def check_did_with_colons(given: dict[str, Any], expected: dict[str, Any]) -> None:
    dids = [Did.parse(text) for text in given["dids"]]
    assert [did.value for did in dids] == expected["values"]
    assert [did.fragment for did in dids] == expected["fragments"]
    assert [str(did) for did in dids] == given["dids"]


@checks("strip-1", "strip-2", "strip-3", "strip-4")
def check_strip(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert identity.strip_identifier(given["identifier"]) == expected["bare"]


@checks("hex-1")
def check_hex(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert identity.userdb_name(given["text"]) == f"userdb-{expected['hex']}"


@checks("userdb-1")
def check_userdb(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert identity.userdb_name(given["address"]) == expected["database"]
    assert identity.userdb_owner(expected["database"]) == given["address"]


@checks("webauthn-clientdata")
def check_client_data(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert msgspec.json.decode(from_base64url(given["clientDataJSON"])) == expected["decoded"]


@checks("dns-1")
def check_dns_record(given: dict[str, Any], expected: dict[str, Any]) -> None:
    key = record.parse_record(given["txt"]).public_key
    assert to_base64(key) == expected["publicKeyBase64"]
    assert len(key) == expected["publicKeyLength"]
    assert record.record_name("mail.io") == given["name"]
    assert record.record_text(key) == given["txt"]


@checks("dns-2")
def check_dns_keys(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert [accepts(f"v=MAILIO1; k=ed25519; p={key}") for key in given["keys"]] == expected["valid"]


@checks("dns-3")
def check_zone_line(given: dict[str, Any], expected: dict[str, Any]) -> None:
    key = from_base64(given["publicKeyBase64"])
    assert record.zone_line(given["domain"], key) == expected["record"]


@checks("dns-4")
def check_bad_records(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert [accepts(text) for text in given["txts"]] == expected["accepted"]


def accepts(text: str) -> bool:
    try:
        record.parse_record(text)
    except InvalidInput:
        return False
    return True


@checks("server-keys-1")
def check_key_file(given: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    keys = ServerKeys(bytes.fromhex(given["ed25519SeedHex"]), given["created"])
    assert json.loads(key_file_bytes(keys)) == expected["file"]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(expected["file"]))
    path.chmod(0o600)
    loaded = load_server_keys(path)
    assert to_base64(loaded.public_key) == expected["publicKeyBase64"]
    assert str(loaded.did) == expected["serverDid"]
    assert loaded.created == given["created"]


@checks("jws-token-1")
def check_token(given: dict[str, Any], expected: dict[str, Any]) -> None:
    issuer = TokenIssuer(seed_keys(given["serverSeedHex"]))
    claims = given["claims"]
    key = from_base64(claims["usrPubKey"])
    now = claims["iat"] * 1000
    address = Did.parse(claims["sub"]).address
    assert issuer.issue(address, key, claims["jti"], now) == expected["token"]
    read = issuer.verify(expected["token"], now)
    assert (read.address, read.user_public_key, read.expires_at) == (address, key, claims["exp"])


@checks("did-document-user")
def check_user_document(given: dict[str, Any], expected: dict[str, Any]) -> None:
    user = UserKeys(bytes(32), bytes.fromhex(given["x25519PrivateSeedHex"]))
    assert to_base64(user.agreement_public_key) == given["x25519PublicKeyBase64"]
    endpoints = ServerEndpoints(given["serverDomain"], given["messagingPath"], given["authenticationPath"])
    server = mailio_address(from_base64(given["serverPublicKeyBase64"]))
    key = from_base64(given["ed25519PublicKeyBase64"])
    document = user_document(key, user.agreement_public_key, server, endpoints)
    assert json.dumps(document) == json.dumps(expected["document"]), "member order counts"


@checks("did-document-server")
def check_server_document(given: dict[str, Any], expected: dict[str, Any]) -> None:
    document = server_document(
        from_base64(given["serverPublicKeyBase64"]), ServerEndpoints(given["serverDomain"])
    )
    assert json.dumps(document) == json.dumps(expected["document"])


@checks("handshake-signed-by-user", "handshake-server-default")
def check_handshake(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = SigningKeys(bytes.fromhex(given.get("ownerSeedHex") or given["serverSeedHex"]))
    signed = sign_handshake(given["content"], keys)
    assert from_base64(signed["cborPayloadBase64"]).hex() == expected["cborHex"]
    assert signed == expected["handshake"]
    verified = verify_handshake(expected["handshake"], keys.address, keys.public_key)
    assert (verified.status, verified.created) == ("accepted", 1_760_000_000_000)


@checks("handshake-stored-document")
def check_stored_handshake(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = SigningKeys(b"\xb2" * 32)
    content = vector("handshake-signed-by-user")[0]["content"]
    identifier = identity.handshake_id(given["ownerAddress"], given["sender"])
    owner = str(identity.web_did("mio.beta.example", given["ownerAddress"]))
    document = handshake_document(identifier, sign_handshake(content, keys), owner, 1_760_000_000_000)
    assert document == expected["document"]
    assert identity.userdb_name(given["ownerAddress"]) == expected["database"]


@checks("handshake-nonce-body")
def check_nonce_body(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert nonces.nonce_body(given["nonce"]) == expected["plainBodyBase64"]
    assert nonces.nonce_of_body(expected["plainBodyBase64"]) == given["nonce"]


@checks("handshake-link")
def check_link(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert nonces.handshake_link(given["nonce"], given["serverDomain"], given["address"]) == expected["link"]


@checks("vc-registration")
def check_credential(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = seed_keys(given["serverSeedHex"])
    user = Did.parse(given["userDid"]).address
    at = given["issuanceUnixSeconds"] * 1000
    credential = credentials.issue_registration_credential(user, given["serverDomain"], keys, at)
    assert credential["id"] == expected["credentialId"]
    assert credential["proof"]["jws"] == expected["proofJws"]
    assert verify_compact(expected["proofJws"], keys.public_key).hex() == expected["cborHex"]
    read = credentials.verify_registration_credential(credential, user, keys.address, keys.public_key)
    assert read.domains == (given["serverDomain"],)


@checks("stats-keys")
def check_statistics_keys(given: dict[str, Any], expected: dict[str, Any]) -> None:
    sender, recipient = given["sender"], given["recipient"]
    assert identity.sent_key(sender, recipient) == expected["es"]
    assert identity.interest_key(sender, recipient) == expected["esint"]
    midday = given["dayUnixSeconds"] * 1000 + 43_200_000
    assert identity.sent_per_day_key(sender, midday) == expected["eds"]


@checks("ratio-1")
def check_ratio(given: dict[str, Any], expected: dict[str, Any]) -> None:
    percent = identity.interest_percent(given["interest"], given["received"])
    assert percent == expected["percent"]
    assert (percent >= given["readVsReceived"]) == (expected["folder"] == "goodreads")


@checks("webauthn-challenge-signature")
def check_challenge_signature(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = SigningKeys(bytes.fromhex(given["userSeedHex"]))
    assert to_base64(keys.sign(given["challenge"].encode())) == expected["challengeSignature"]


@checks("nonce-signature")
def check_nonce_signature(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = SigningKeys(bytes.fromhex(given["userSeedHex"]))
    signature = from_base64(expected["signatureBase64"], length=64)
    assert verify_signature(keys.public_key, given["nonce"].encode(), signature)
    assert keys.sign(given["nonce"].encode()) == signature


def check_request(kind: Kind, payload: object, given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys, domain = seed_keys(given["serverSeedHex"]), given["senderDomain"]
    body = envelope.sign_request(kind, payload, keys, domain)
    assert json.loads(body) == expected["body"]
    opened = envelope.open_request(kind, body)
    assert (opened.signed.hex(), opened.sender_domain) == (expected["cborHex"], domain)
    assert opened.payload == given[kind.request]
    assert opened.is_signed_by([keys.public_key])
    opened.require_covered()


def check_reply(body: bytes, kind: Kind, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(body) == expected["body"]
    opened = envelope.open_reply(kind, body)
    assert opened.signed.hex() == expected["cborHex"]
    assert opened.payload == given[kind.reply]
    assert opened.is_signed_by([seed_keys(given["serverSeedHex"]).public_key])
    opened.require_covered()


@checks("mtp-message-request", "mtp-message-attachment", "mtp-delivery-request")
def check_message_request(given: dict[str, Any], expected: dict[str, Any]) -> None:
    request = message.read_request(given["didCommRequest"])
    check_request(MESSAGE, request, given, expected)
    if "plainBody" in given:
        content = request.did_comm_message.plain_body
        assert json.loads(content) == given["plainBody"]
        assert encode_statuses(decode_statuses(content)) == content


@checks("mtp-message-receipt")
def check_receipt(given: dict[str, Any], expected: dict[str, Any]) -> None:
    stated = given["didCommRequest"]
    receipt = message.receipt(stated["didCommMessage"]["id"], stated["timestamp"])
    assert message.read_receipt(stated) == receipt
    keys = seed_keys(given["serverSeedHex"])
    body = envelope.sign_reply(MESSAGE, receipt, keys, given["senderDomain"])
    check_reply(body, MESSAGE, given, expected)


@checks("mtp-did-request")
def check_did_request(given: dict[str, Any], expected: dict[str, Any]) -> None:
    check_request(DID_LOOKUP, read_did_request(given["didLookupRequest"]), given, expected)


@checks("mtp-did-response")
def check_did_response(given: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = msgspec.convert(given["didLookupResponse"], DidLookupResponse)
    keys = seed_keys(given["serverSeedHex"])
    check_reply(envelope.sign_reply(DID_LOOKUP, answer, keys, lossy=True), DID_LOOKUP, given, expected)
    covered = envelope.open_reply(DID_LOOKUP, envelope.sign_reply(DID_LOOKUP, answer, keys))
    assert cbor.equal_to_json(cbor.decode(covered.signed), given["didLookupResponse"])


@checks("mtp-handshake-request")
def check_handshake_request(given: dict[str, Any], expected: dict[str, Any]) -> None:
    check_request(HANDSHAKE_LOOKUP, given["handshakeRequest"], given, expected)


@checks("mtp-handshake-response")
def check_handshake_response(given: dict[str, Any], expected: dict[str, Any]) -> None:
    keys = seed_keys(given["serverSeedHex"])
    body = envelope.sign_reply(HANDSHAKE_LOOKUP, given["handshakeResponse"], keys)
    check_reply(body, HANDSHAKE_LOOKUP, given, expected)


@checks("s3-presign-key")
def check_upload_key(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same key, below the same owner; the time in it is UTC, wherever the node stands."""
    at = datetime.fromisoformat(given["localTime"] + "Z")
    key = object_key(given["objectKey"], int(at.timestamp() * 1000))
    assert f"{given['address']}/{key}" == expected["key"]
    assert is_key(key)


@checks("s3-received-key")
async def check_received_file(given: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    """A received file is an attachment of its message's document: no bucket, and no key that content chooses.

    The vector's key has a slip in its time; its note leaves keys to the node. What it takes from the content,
    the hash, is where the wire has it (section 3.3.5, step 9).
    """
    data = {"base64": to_base64(given["contentUtf8"].encode()), "links": None}
    async with receiver(tmp_path) as node:
        alice = await node.node.user("alice")
        for number in (1, 2):
            sent = node.beta.message(alice) | {
                "id": f"{number:064x}",
                "attachments": [{"id": "a", "data": data}],
            }
            assert (await node.send(node.beta, sent)).status == 202
        documents = await node.documents(alice)
    files = [one["didCommMessage"]["attachments"][0]["data"] for one in documents]
    assert {one["hash"] for one in files} == {expected["key"].partition("/")[2].partition("_")[0]}
    assert len({one["links"][0] for one in files}) == 2
    assert all(one["links"][0].startswith(f"/{identity.userdb_name(alice.address)}/") for one in files)


@checks("mailgun-signature")
async def check_there_is_no_webhook(given: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    """Mail comes by SMTP alone: the right signature of a webhook opens no door.

    A webhook would take the word of a third party for sender and verdicts, without a session in which a sender
    could be refused: its refusals are mails to strangers (section 5.6), which the node never sends.
    """
    form = {"timestamp": given["timestamp"], "token": given["token"], "signature": expected["signature"]}
    async with running(settings_for(tmp_path)) as node:
        for path in ("/webhook", "/api/v1/webhook", "/api/v1/mailgun", "/mailgun/mime"):
            async with node.http.post(path, data={**form, "body-mime": "Subject: x\r\n\r\nx"}) as answer:
                assert answer.status in {404, 405}, path
        takes_forms = [one.path for one in node.routes if "form" in str(one.body)]
        assert takes_forms == []
        assert await node.core.log.read(0, types={"MailAccepted"}) == []


@pytest.mark.parametrize("identifier", all_vectors())
async def test_what_the_published_vector_says_holds(identifier: str, request: pytest.FixtureRequest) -> None:
    check = CHECKS[identifier]
    extra = {"tmp_path": request.getfixturevalue("tmp_path")} if "tmp_path" in check.__annotations__ else {}
    outcome = check(*vector(identifier), **extra)
    if outcome is not None:
        await outcome


def test_no_vector_is_forgotten_and_none_is_claimed_that_does_not_exist() -> None:
    assert set(CHECKS) == set(all_vectors())


SIGNED_ENVELOPES = [name for name in all_vectors() if name.startswith("mtp-")]


@pytest.mark.parametrize("identifier", SIGNED_ENVELOPES)
def test_signed_federation_bytes_decode_to_their_json_and_verify(identifier: str) -> None:
    given, expected = vector(identifier)
    body = expected["body"]
    signed = base64.b64decode(body["cborPayloadBase64"])
    keys = seed_keys(given["serverSeedHex"])
    assert verify_signature(keys.public_key, signed, base64.b64decode(body["signatureBase64"]))
    payload = next(value for value in body.values() if isinstance(value, dict))
    lossy = identifier == "mtp-did-response"
    assert cbor.equal_to_json(cbor.decode(signed), payload, lossy_did_documents=lossy)
    assert cbor.equal_to_json(cbor.decode(signed), payload) is not lossy


@pytest.mark.parametrize(
    "identifier",
    # A Go server's CBOR of DID documents and of handshakes' float times is not that of their JSON.
    [name for name in SIGNED_ENVELOPES if name not in {"mtp-did-response", "mtp-handshake-response"}],
)
def test_our_encoder_gives_the_same_bytes_as_the_reference(identifier: str) -> None:
    _, expected = vector(identifier)
    payload = next(value for value in expected["body"].values() if isinstance(value, dict))
    assert cbor.encode(payload).hex() == expected["cborHex"]
