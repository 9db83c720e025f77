"""Key files and signatures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from events.errors import InvalidInput, LimitExceeded, Misconfigured
from node.crypto.base64_text import from_base64, from_base64url, to_base64, to_base64url
from node.crypto.keys import (
    KEY_FILE_TYPE,
    ServerKeys,
    UserKeys,
    create_server_keys,
    key_file_bytes,
    load_or_create_server_keys,
    load_server_keys,
    public_key_from_base64,
    verify_signature,
)
from tests.unit.crypto.conftest import NOW

# The order of the base point's subgroup (RFC 8032 section 5.1).
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "server-keys.json"


def write(path: Path, content: Any, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)


def test_created_keys_are_loaded_again_and_only_their_owner_may_read_them(path: Path) -> None:
    created = load_or_create_server_keys(path, NOW)
    loaded = load_or_create_server_keys(path, NOW + 1)
    assert (loaded.seed, loaded.created, loaded.address) == (created.seed, NOW, created.address)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def test_what_a_crash_left_of_making_keys_is_removed_at_the_next_start(path: Path) -> None:
    """The leftover has a private key in it: of nobody, or, when the name was linked already, of this node."""
    write(path.with_name(f".{path.name}.0123456789abcdef"), b"half of a key")
    created = load_or_create_server_keys(path, NOW)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    os.link(path, path.with_name(f".{path.name}.0123456789abcdef"))
    assert load_or_create_server_keys(path, NOW).seed == created.seed
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_two_fresh_key_files_differ(tmp_path: Path) -> None:
    assert create_server_keys(tmp_path / "a", NOW).seed != create_server_keys(tmp_path / "b", NOW).seed


def test_an_existing_file_is_never_replaced(path: Path) -> None:
    create_server_keys(path, NOW)
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="exists already"):
        create_server_keys(path, NOW)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_dangling_link_is_not_written_through(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Misconfigured):
        create_server_keys(path, NOW)
    with pytest.raises(Misconfigured):
        load_or_create_server_keys(path, NOW)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_may_touch_is_refused_with_the_command_that_helps(
    path: Path, alpha: ServerKeys, mode: int
) -> None:
    write(path, key_file_bytes(alpha), mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        load_server_keys(path)


def good(alpha: ServerKeys) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(key_file_bytes(alpha))
    return content


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "mailio_user_keys"}, {"type": ""}, {"type": None}, {"privateKey": ""}, {"privateKey": "!"},
        {"privateKey": to_base64(bytes(32))}, {"privateKey": to_base64(bytes(64))}, {"privateKey": to_base64(bytes(65))},
        {"privateKey": 5}, {"created": "now"}, {"created": None}, {"created": 1.5},
    ],
    ids=repr,
)  # fmt: skip
def test_a_malformed_key_file_is_refused_in_one_line_without_its_secret(
    path: Path, alpha: ServerKeys, changes: dict[str, Any]
) -> None:
    content = {**good(alpha), **changes}
    write(path, content)
    with pytest.raises(Misconfigured) as refused:
        load_server_keys(path)
    text = str(refused.value)
    assert str(path) in text
    assert "\n" not in text
    secret = str(content["privateKey"])
    assert len(secret) < 10 or secret[:10] not in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"x" * 20_000, b"{}"])
def test_a_file_that_is_something_else_is_refused(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(Misconfigured):
        load_server_keys(path)


def test_a_missing_file_a_directory_and_a_pipe_are_refused(path: Path) -> None:
    with pytest.raises(Misconfigured, match="no key file"):
        load_server_keys(path)
    path.mkdir(parents=True)
    with pytest.raises(Misconfigured):
        load_server_keys(path)
    pipe = path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(Misconfigured, match="regular file"):
        load_server_keys(pipe)


def test_a_public_key_member_and_others_are_ignored(path: Path, alpha: ServerKeys) -> None:
    write(path, {**good(alpha), "publicKey": to_base64(bytes(32)), "comment": "x"})
    assert load_server_keys(path).public_key == alpha.public_key


def test_keys_do_not_show_their_secret(alpha: ServerKeys, alice: UserKeys) -> None:
    for keys in (alpha, alice):
        assert keys.seed.hex() not in repr(keys)
        assert repr(keys) == f"{type(keys).__name__}({keys.address})"
    assert KEY_FILE_TYPE == "mailio_server_keys_ed25519"


def test_generated_user_keys_are_fresh_and_rebuilt_from_their_seeds() -> None:
    keys = UserKeys.generate()
    again = UserKeys(keys.seed, keys.agreement_seed)
    assert (again.address, again.agreement_public_key) == (keys.address, keys.agreement_public_key)
    assert UserKeys.generate().address != keys.address
    for seeds in ((b"", bytes(32)), (bytes(32), b"short")):
        with pytest.raises(InvalidInput):
            UserKeys(*seeds)


def test_a_signature_holds_for_its_key_and_message_only(alice: UserKeys, bob: UserKeys) -> None:
    signature = alice.sign(b"message")
    assert verify_signature(alice.public_key, b"message", signature)
    assert not verify_signature(alice.public_key, b"messagE", signature)
    assert not verify_signature(bob.public_key, b"message", signature)
    for bad in (b"", signature[:-1], signature + b"\x00"):
        assert not verify_signature(alice.public_key, b"message", bad)
    for key in (b"", alice.public_key[:-1], alice.public_key + b"\x00"):
        assert not verify_signature(key, b"message", signature)


def test_a_signature_has_no_second_form(alice: UserKeys) -> None:
    signature = alice.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little")
    for multiple in range(1, 8):
        shifted = scalar + multiple * GROUP_ORDER
        if shifted < 2**256:
            assert not verify_signature(
                alice.public_key, b"message", signature[:32] + shifted.to_bytes(32, "little")
            )


# The eight points of small order and their non-canonical spellings (RFC 7748 section 7 for Curve25519;
# the Edwards forms are computed from the curve equation).
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_of_small_order_verifies_nothing(point: str) -> None:
    key = bytes.fromhex(point)
    for commitment in (key, bytes.fromhex(SMALL_ORDER[0])):
        for message in (b"", b"anything", b"\x00" * 32):
            assert not verify_signature(key, message, commitment + bytes(32))


@pytest.mark.parametrize(
    "text",
    [None, 5, "", "!", to_base64(bytes(31)), to_base64(bytes(33)), to_base64(bytes(32))[:-1], "A" * 10_000],
)
def test_what_is_no_public_key_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="invalid public key"):
        public_key_from_base64(text)


def test_base64_has_one_spelling() -> None:
    assert from_base64("AAE=") == b"\x00\x01"
    assert from_base64url("_-8") == b"\xff\xef"
    assert to_base64url(b"\xff\xef") == "_-8"
    for text in ("AAF=", "AAE", "AAE==", " AAE=", "AAE=\n", "AA\nE=", "_-8=", "\u00c4AE="):
        with pytest.raises(InvalidInput):
            from_base64(text)
    for text in ("_-9", "_-8=", "/+8", "_-8\n", "A", "_ -8"):
        with pytest.raises(InvalidInput):
            from_base64url(text)
    with pytest.raises(LimitExceeded):
        from_base64("A" * 12, limit=8)
    with pytest.raises(InvalidInput):
        from_base64("AAE=", length=3)
