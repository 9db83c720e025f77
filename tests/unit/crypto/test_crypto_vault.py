"""The vault of users' keys: durable before use, gone when destroyed, never another one by accident."""

from __future__ import annotations

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from events.errors import Busy, Gone, Misconfigured, StorageUnavailable
from events.log.sealing import SealBroken
from node.crypto import vault as vault_module
from node.crypto.vault import KeyState, Vault
from tests.factories import OTHER, OWNER


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "vault.sqlite"


def secrets_in(path: Path) -> dict[str, bytes]:
    connection = sqlite3.connect(path)
    rows = dict(connection.execute("SELECT owner, secret FROM key").fetchall())
    connection.close()
    return rows


def destroy(vault: Vault, owner: str) -> None:
    vault.condemn(owner)
    vault.destroy(owner)


def test_a_key_is_durable_when_it_is_first_seen_and_the_same_ever_after(path: Path) -> None:
    vault = Vault.open(path)
    first = vault.key_of(OWNER)
    assert set(secrets_in(path)) == {OWNER}
    vault.close()
    again = Vault.open(path, vault.id).key_of(OWNER)
    assert (again.id, again.nonce_of(b"x")) == (first.id, first.nonce_of(b"x"))


def test_the_vault_and_its_folder_are_the_nodes_own(path: Path) -> None:
    Vault.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_keys_of_different_owners_and_uses_have_nothing_in_common(path: Path) -> None:
    vault = Vault.open(path)
    one, other = vault.key_of(OWNER), vault.key_of(OTHER)
    nonce = b"n" * 12
    sealed = {key.encrypt(nonce, b"same", b"") for key in (one.events, one.blobs, other.events, other.blobs)}
    assert len(sealed) == 4
    assert one.nonce_of(b"same") != other.nonce_of(b"same")


def test_a_key_does_not_show_its_secret(path: Path) -> None:
    key = Vault.open(path).key_of(OWNER)
    assert repr(key) == f"OwnerKey({OWNER})"


def test_a_destroyed_key_is_gone_and_its_owner_gets_no_other(path: Path) -> None:
    vault = Vault.open(path)
    key_id = vault.key_of(OWNER).id
    destroy(vault, OWNER)
    for reopened in (vault, Vault.open(path)):
        assert reopened.key(key_id) is None
        with pytest.raises(Gone):
            reopened.key_of(OWNER)
        assert reopened.destroyed() == {key_id}
    assert vault.key(vault.key_of(OTHER).id) is not None


def test_no_byte_of_a_destroyed_secret_is_left_in_the_folder(path: Path) -> None:
    vault = Vault.open(path)
    owners = [f"0x{number:040x}" for number in range(500)]
    for owner in owners:
        vault.key_of(owner)
    before = secrets_in(path)
    for owner in owners[::7]:
        destroy(vault, owner)
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for number, owner in enumerate(owners):
        assert (before[owner] in stored) == (number % 7 != 0)
    assert secrets_in(path)[owners[0]] == bytes(32)


def test_only_a_condemned_key_can_be_destroyed(path: Path) -> None:
    vault = Vault.open(path)
    key_id = vault.key_of(OWNER).id
    vault.destroy(OWNER)
    vault.condemn(OWNER)
    vault.spare(OWNER)
    vault.destroy(OWNER)
    assert vault.key(key_id) is not None


def test_a_condemned_key_opens_but_seals_no_more_until_it_is_spared(path: Path) -> None:
    vault = Vault.open(path)
    key_id = vault.key_of(OWNER).id
    vault.condemn(OWNER)
    vault.condemn(OWNER)
    for reopened in (vault, Vault.open(path)):
        assert reopened.key(key_id) is not None
        with pytest.raises(Busy):
            reopened.key_of(OWNER)
    vault.spare(OWNER)
    assert vault.key_of(OWNER).id == key_id


def test_an_erasure_that_was_begun_is_remembered_until_it_is_finished(path: Path) -> None:
    vault = Vault.open(path)
    vault.condemn(OWNER)
    vault.close()
    vault = Vault.open(path)
    assert vault.unfinished() == [(OWNER, KeyState.CONDEMNED)]
    vault.destroy(OWNER)
    vault.close()
    vault = Vault.open(path)
    assert vault.unfinished() == [(OWNER, KeyState.DESTROYED)]
    vault.finish(OWNER)
    assert vault.unfinished() == []


def test_a_key_that_never_was_there_is_not_taken_for_a_destroyed_one(path: Path) -> None:
    with pytest.raises(SealBroken, match="no key"):
        Vault.open(path).key(b"8 bytes.")


def test_a_reader_beside_the_daemon_sees_new_keys_and_notices_destroyed_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "LOOK_AGAIN_SECONDS", 0.0)
    vault = Vault.open(path)
    reader = Vault.open_read_only(path, vault.id)
    assert reader is not None
    key_id = vault.key_of(OWNER).id
    assert reader.key(key_id) is not None
    destroy(vault, OWNER)
    assert reader.key(key_id) is None


def test_a_busy_reader_sees_new_keys_and_notices_destroyed_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "COPIED_AFTER", 1)
    monkeypatch.setattr(vault_module, "CACHED_BESIDE_COPY", 1)
    vault = Vault.open(path)
    reader = Vault.open_read_only(path, vault.id)
    assert reader is not None
    before = [vault.key_of(f"0x{number:040x}") for number in range(3)]
    monkeypatch.setattr(vault_module, "LOOK_AGAIN_SECONDS", 1e9)
    for key in (*before, vault.key_of(OWNER), *before):
        found = reader.key(key.id)
        assert found is not None
        assert found.nonce_of(b"x") == key.nonce_of(b"x")
    gone = vault.key_of(OWNER).id
    destroy(vault, OWNER)
    monkeypatch.setattr(vault_module, "LOOK_AGAIN_SECONDS", 0.0)
    assert reader.key(gone) is None
    with pytest.raises(SealBroken, match="no key"):
        reader.key(b"8 bytes.")


def test_the_cache_forgets_and_finds_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "CACHED", 3)
    vault = Vault.open(path)
    keys = [vault.key_of(f"0x{number:040x}") for number in range(10)]
    for key in keys:
        found = vault.key(key.id)
        assert found is not None
        assert found.nonce_of(b"x") == key.nonce_of(b"x")


def test_erasing_lets_the_cache_of_all_others_grow_no_further(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "CACHED", 5)
    vault = Vault.open(path)
    for number in range(20):
        vault.key_of(f"0x{number:040x}")
        destroy(vault, f"0x{1_000 + number:040x}")
    assert len(vault._by_owner) <= 5


def test_threads_that_read_the_same_vault_do_not_trip_over_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "CACHED", 2)
    monkeypatch.setattr(vault_module, "CACHED_BESIDE_COPY", 2)
    monkeypatch.setattr(vault_module, "COPIED_AFTER", 3)
    writer = Vault.open(path)
    known = [writer.key_of(f"owner-{number}").id for number in range(12)]
    reader = Vault.open_read_only(path, writer.id)
    assert reader is not None

    def read(first: int) -> None:
        for key_id in (known[first:] + known[:first]) * 1_000:
            key = reader.key(key_id)
            assert key is not None
            assert key.id == key_id

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read, range(0, 12, 3)))
    finally:
        sys.setswitchinterval(switched)


def test_a_missing_vault_is_not_replaced_by_a_new_one_where_the_log_is_sealed(path: Path) -> None:
    with pytest.raises(Misconfigured, match="restore"):
        Vault.open(path, "0123456789abcdef")
    with pytest.raises(Misconfigured, match="restore"):
        Vault.open_read_only(path, "0123456789abcdef")
    assert not path.exists()
    assert Vault.open_read_only(path) is None


def test_another_vault_is_refused(path: Path) -> None:
    vault = Vault.open(path)
    vault.close()
    with pytest.raises(Misconfigured, match=vault.id):
        Vault.open(path, "0123456789abcdef")


def test_a_file_that_is_no_vault_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else" * 100)
    with pytest.raises(Misconfigured, match=r"vault\.sqlite"):
        Vault.open(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(Misconfigured, match="not a vault"):
        Vault.open(path)


def test_closing_waits_for_who_is_at_work_in_another_thread(path: Path) -> None:
    vault = Vault.open(path)
    with ThreadPoolExecutor(1) as threads:
        with vault._lock:
            closing = threads.submit(vault.close)
            with pytest.raises(TimeoutError):
                closing.result(0.05)
            vault._connection.execute("VACUUM")
        closing.result(5)
    with pytest.raises(StorageUnavailable):
        vault.unfinished()
