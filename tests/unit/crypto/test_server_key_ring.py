"""The keys that a server has besides the one that signs: in its file, and in what they are good for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from events.errors import Misconfigured, Unauthenticated
from node.crypto import keys as keys_module
from node.crypto.base64_text import to_base64
from node.crypto.credentials import issue_registration_credential, issuer_of, verify_registration_credential
from node.crypto.did_documents import ServerEndpoints, server_document, signing_key
from node.crypto.keys import (
    OtherKey,
    RetiredKey,
    Rotation,
    ServerKeys,
    Stage,
    UserKeys,
    create_server_keys,
    key_file_bytes,
    load_or_create_server_keys,
    load_server_keys,
    replace_server_keys,
)
from node.crypto.tokens import TokenIssuer
from node.discovery.documents import checked_document
from tests.unit.crypto.conftest import NOW

OLD, NEW, ELDEST = (OtherKey(bytes([n]) * 32, NOW - n) for n in (1, 2, 3))
DAY = 86_400_000


def retired(key: OtherKey, at: int = NOW, *, stolen: bool = False) -> RetiredKey:
    return RetiredKey(public_key=key.public_key, created=key.created, retired=at, stolen=stolen)


def keys_at(stage: Stage, *gone: RetiredKey) -> ServerKeys:
    """Keys in the middle of a change from OLD to NEW."""
    first, second = (NEW, OLD) if stage is Stage.SIGNING else (OLD, NEW)
    rotation = Rotation(stage=stage, other=second, since=NOW, published_at=NOW + 1, ttl=60)
    return ServerKeys(first.seed, first.created, rotation, gone)


@pytest.mark.parametrize("stage", [Stage.ANNOUNCED, Stage.PROMOTED, Stage.SIGNING])
def test_the_file_has_all_keys_and_how_far_it_is(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "server.json"
    create_server_keys(path, NOW)
    written = keys_at(stage, retired(ELDEST, stolen=True))
    replace_server_keys(path, written)
    read = load_server_keys(path)
    assert key_file_bytes(read) == key_file_bytes(written)
    assert (read.live, read.known, read.stage) == (written.live, written.known, stage)
    assert read.rotation is not None
    assert (read.rotation.since, read.rotation.published_at, read.rotation.ttl) == (NOW, NOW + 1, 60)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_reader_of_the_wire_s_file_finds_the_key_that_signs() -> None:
    content = json.loads(key_file_bytes(keys_at(Stage.SIGNING)))
    assert content["privateKey"] == to_base64(NEW.seed + NEW.public_key)


def test_a_file_that_can_not_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.json"
    before = key_file_bytes(create_server_keys(path, NOW))

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys_module, "_fill", full)
    with pytest.raises(Misconfigured, match="No space left"):
        replace_server_keys(path, keys_at(Stage.ANNOUNCED))
    assert path.read_bytes() == before


def test_a_crash_before_the_name_leaves_the_old_file_and_the_next_start_removes_the_rest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.json"
    create_server_keys(path, NOW, OLD.seed)
    aside = path.with_name(f".{path.name}.0123456789abcdef")
    aside.write_bytes(key_file_bytes(keys_at(Stage.ANNOUNCED)))
    assert load_or_create_server_keys(path, NOW).stage is Stage.STEADY
    assert not aside.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": {"stage": "later", "since": 1, "other": {"privateKey": "x", "created": 1}}},
        {"rotation": {"stage": "signing", "since": 1, "other": {"privateKey": "x", "created": 1}}},
        {"rotation": {"stage": "signing", "since": 1}},
        {"retired": [{"publicKey": "x", "created": 1, "retired": 1}]},
    ],
)
def test_a_file_with_half_a_rotation_is_refused_without_showing_a_key(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "server.json"
    keys = create_server_keys(path, NOW)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(Misconfigured) as refused:
        load_server_keys(path)
    assert to_base64(keys.seed)[:20] not in str(refused.value)


def test_one_key_readers_get_the_new_key_one_step_before_it_signs() -> None:
    old, new = OLD.public_key, NEW.public_key
    assert ServerKeys(OLD.seed, 0).published == (old, None)
    assert keys_at(Stage.ANNOUNCED).published == (old, new)
    assert keys_at(Stage.PROMOTED).published == (new, old)
    assert keys_at(Stage.PROMOTED).public_key == old
    assert keys_at(Stage.SIGNING).published == (new, old)
    assert keys_at(Stage.SIGNING).public_key == new


def test_the_first_key_s_address_stays_the_node_s_name_for_its_clients() -> None:
    names = {keys_at(stage).origin for stage in Stage if stage is not Stage.STEADY}
    names |= {ServerKeys(OLD.seed, 0).origin, ServerKeys(NEW.seed, 0, None, (retired(OLD),)).origin}
    assert names == {OLD.address}


def test_who_holds_the_keys_signs_by_the_new_one_from_then_on() -> None:
    held = ServerKeys(OLD.seed, 0)
    held.adopt(keys_at(Stage.SIGNING, retired(ELDEST)))
    assert held.sign(b"x") == NEW.sign(b"x")
    assert (held.address, held.did, held.known[-1]) == (NEW.address, NEW.did, ELDEST.public_key)


# Tokens


@pytest.fixture
def user() -> UserKeys:
    return UserKeys(b"u" * 32, b"v" * 32)


def test_a_session_goes_on_through_a_change_of_keys_and_ends_when_it_would_have(user: UserKeys) -> None:
    keys = ServerKeys(OLD.seed, 0)
    issuer = TokenIssuer(keys)
    token = issuer.issue(user.address, user.public_key, "jti", NOW)
    for changed in (
        keys_at(Stage.ANNOUNCED),
        keys_at(Stage.PROMOTED),
        keys_at(Stage.SIGNING),
        ServerKeys(NEW.seed, 0, None, (retired(OLD, NOW + 3 * DAY),)),
    ):
        keys.adopt(changed)
        assert issuer.verify(token, NOW + 29 * DAY).address == user.address
    with pytest.raises(Unauthenticated):
        issuer.verify(token, NOW + 30 * DAY)
    assert issuer.verify(issuer.issue(user.address, user.public_key, "jti", NOW), NOW)


def test_a_stolen_key_s_sessions_end_at_once(user: UserKeys) -> None:
    token = TokenIssuer(ServerKeys(OLD.seed, 0)).issue(user.address, user.public_key, "jti", NOW)
    keys = ServerKeys(NEW.seed, 0, None, (retired(OLD, NOW + 1000, stolen=True),))
    with pytest.raises(Unauthenticated):
        TokenIssuer(keys).verify(token, NOW + 2000)


@pytest.mark.parametrize(("issued", "days"), [(NOW + 5000, 30), (NOW - 1000, 60)])
def test_a_retired_key_makes_no_new_session_and_no_longer_one(user: UserKeys, issued: int, days: int) -> None:
    forged = TokenIssuer(ServerKeys(OLD.seed, 0), days * 86_400)
    token = forged.issue(user.address, user.public_key, "jti", issued)
    keys = ServerKeys(NEW.seed, 0, None, (retired(OLD, NOW),))
    with pytest.raises(Unauthenticated):
        TokenIssuer(keys).verify(token, NOW + 10_000)
    with pytest.raises(Unauthenticated):
        TokenIssuer(keys).verify(token, NOW + 31 * DAY)


def test_a_token_of_one_key_in_the_name_of_another_is_refused(user: UserKeys) -> None:
    mixed = ServerKeys(OLD.seed, 0)
    mixed.address = NEW.address
    token = TokenIssuer(mixed).issue(user.address, user.public_key, "jti", NOW)
    with pytest.raises(Unauthenticated):
        TokenIssuer(keys_at(Stage.SIGNING)).verify(token, NOW)


# Credentials and documents


def test_a_credential_of_a_former_key_still_verifies_by_it(user: UserKeys) -> None:
    credential = issue_registration_credential(user.address, "a.example", ServerKeys(OLD.seed, 0), NOW)
    after = ServerKeys(NEW.seed, 0, None, (retired(ELDEST), retired(OLD)))
    verify_registration_credential(credential, user.address, *issuer_of(credential, after.known))
    assert issuer_of({"issuer": ["no", "text"]}, after.known) == (NEW.address, NEW.public_key)


def test_the_server_s_document_lists_both_keys_and_old_readers_take_the_one_that_signs() -> None:
    document = server_document(NEW.public_key, ServerEndpoints("mio.a.example"), OLD.public_key)
    assert [one["id"] for one in document["verificationMethod"]] == [
        f"did:mailio:{NEW.address}#master",
        f"did:mailio:{OLD.address}#master",
    ]
    assert {one["controller"] for one in document["verificationMethod"]} == {str(NEW.did)}
    assert signing_key(checked_document(json.dumps(document).encode())) == NEW.public_key
