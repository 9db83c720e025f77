"""Envelopes: only for their owners, only in their place, and nothing of them can be exchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import Gone
from events.log.sealing import SealBroken
from node.crypto.envelope import Envelopes, head_size, key_ids
from node.crypto.vault import Vault
from tests.factories import OTHER, OWNER

THIRD = "0x" + "3" * 40


@pytest.fixture(scope="module")
def shared_vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault.open(tmp_path_factory.mktemp("vault") / "vault.sqlite")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "vault.sqlite")


def erase(vault: Vault, owner: str) -> None:
    vault.condemn(owner)
    vault.destroy(owner)


@pytest.mark.parametrize("named", [False, True])
@given(plain=st.binary(max_size=200), bound=st.binary(max_size=40), count=st.integers(1, 3))
def test_what_is_sealed_is_opened(
    shared_vault: Vault, named: bool, plain: bytes, bound: bytes, count: int
) -> None:
    envelopes = Envelopes(shared_vault, named=named)
    sealed = envelopes.seal(plain, (OWNER, OTHER, THIRD)[:count], bound)
    assert envelopes.open(sealed, bound) == plain
    assert len(plain) < 8 or plain not in sealed


@pytest.mark.parametrize("owners", [(OWNER,), (OWNER, OTHER)])
def test_no_byte_of_an_envelope_can_be_changed_and_none_cut_off(
    vault: Vault, owners: tuple[str, ...]
) -> None:
    envelopes = Envelopes(vault)
    sealed = envelopes.seal(b"the content", owners, b"here")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            envelopes.open(bytes(changed), b"here")
        with pytest.raises(SealBroken):
            envelopes.open(sealed[:place], b"here")
    with pytest.raises(SealBroken):
        envelopes.open(sealed + b"\0", b"here")


@pytest.mark.parametrize("owners", [(OWNER,), (OWNER, OTHER)])
def test_an_envelope_opens_in_its_own_place_and_for_its_own_use_only(
    vault: Vault, owners: tuple[str, ...]
) -> None:
    sealed = Envelopes(vault).seal(b"the content", owners, b"here")
    with pytest.raises(SealBroken):
        Envelopes(vault).open(sealed, b"there")
    with pytest.raises(SealBroken):
        Envelopes(vault, named=True).open(sealed, b"here")


def test_the_wraps_of_two_envelopes_can_not_be_exchanged(vault: Vault) -> None:
    envelopes = Envelopes(vault)
    one, other = (envelopes.seal(text, (OWNER, OTHER), b"x") for text in (b"one", b"two"))
    size = head_size(one)
    with pytest.raises(SealBroken):
        envelopes.open(one[:size] + other[size:], b"x")


def test_each_owner_left_can_open_it_and_nobody_when_all_are_erased(vault: Vault) -> None:
    envelopes = Envelopes(vault)
    owners = (OWNER, OTHER, THIRD)
    sealed = envelopes.seal(b"for three", owners, b"")
    for owner in owners[:2]:
        erase(vault, owner)
        assert envelopes.open(sealed, b"") == b"for three"
    erase(vault, THIRD)
    assert envelopes.open(sealed, b"") is None


def test_what_is_damaged_is_not_taken_for_erased(vault: Vault) -> None:
    envelopes = Envelopes(vault)
    sealed = bytearray(envelopes.seal(b"content", (OWNER, OTHER), b""))
    erase(vault, OTHER)
    sealed[-1] ^= 1
    with pytest.raises(SealBroken):
        envelopes.open(bytes(sealed), b"")


def test_nothing_is_sealed_for_the_erased_and_the_others_are_served(vault: Vault) -> None:
    envelopes = Envelopes(vault)
    vault.key_of(OWNER)
    erase(vault, OWNER)
    with pytest.raises(Gone):
        envelopes.seal(b"x", (OWNER,), b"")
    sealed = envelopes.seal(b"x", (OWNER, OTHER), b"")
    assert envelopes.open(sealed, b"") == b"x"
    assert key_ids(sealed[: head_size(sealed)]) == [vault.key_of(OTHER).id]


def test_named_envelopes_of_one_owner_are_the_same_and_tell_others_nothing(vault: Vault) -> None:
    named, random = Envelopes(vault, named=True), Envelopes(vault)
    assert named.seal(b"same", (OWNER,), b"") == named.seal(b"same", (OWNER,), b"")
    assert named.seal(b"same", (OWNER,), b"") != named.seal(b"same", (OTHER,), b"")
    assert random.seal(b"same", (OWNER,), b"") != random.seal(b"same", (OWNER,), b"")


def test_an_envelope_tells_whose_keys_open_it(vault: Vault) -> None:
    ids = [vault.key_of(owner).id for owner in (OWNER, OTHER)]
    for count in (1, 2):
        sealed = Envelopes(vault).seal(b"x", (OWNER, OTHER)[:count], b"")
        assert key_ids(sealed[: head_size(sealed)]) == ids[:count]
