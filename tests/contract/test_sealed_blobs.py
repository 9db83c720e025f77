"""Blobs that belong to users: one name for one content, readable by their owners alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.errors import CorruptRecord, Gone, Misconfigured, NotFound
from node.crypto.envelope import Envelopes
from node.crypto.vault import Vault
from node.storage.blobs import blob_name
from node.storage.local import LocalBlobs
from node.storage.reading import BlobReader
from node.storage.sealed import (
    LONGEST_START,
    MARK,
    OFF_LOOP_BYTES,
    SealedBlobs,
    SealedReader,
    head_length,
    owners_of,
)
from tests.factories import OTHER, OWNER

BODIES = [b"", b"\0", b"distinctive words", os.urandom(70_000), os.urandom(2 * OFF_LOOP_BYTES)]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "vault.sqlite")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalBlobs]:
    store = LocalBlobs.open(tmp_path / "blobs")
    yield store
    await store.close()


@pytest.fixture
def blobs(store: LocalBlobs, vault: Vault) -> SealedBlobs:
    return SealedBlobs(store, Envelopes(vault, named=True))


def erase(vault: Vault, owner: str) -> None:
    vault.condemn(owner)
    vault.destroy(owner)


@pytest.mark.parametrize("owners", [[OWNER], [OWNER, OTHER]])
async def test_bodies_come_back_and_the_store_holds_nothing_readable(
    blobs: SealedBlobs, store: LocalBlobs, owners: list[str]
) -> None:
    names = await blobs.write(*BODIES, owners=owners)
    assert [await blobs.read(name) for name in names] == BODIES
    stored = [await store.read(name) for name in names]
    assert [blob_name(each) for each in stored] == names
    for body, each in zip(BODIES[2:], stored[2:], strict=True):
        assert body not in each
        assert each.startswith(MARK)


async def test_the_same_content_of_one_owner_has_one_name_and_of_another_a_second(
    blobs: SealedBlobs,
) -> None:
    first = await blobs.write(b"same", b"same", owners=[OWNER])
    again = await blobs.write(b"same", owners=[OWNER])
    assert {*first, *again} == {first[0]}
    assert await blobs.write(b"same", owners=[OTHER]) != again


async def test_a_name_is_known_before_anything_is_stored(blobs: SealedBlobs) -> None:
    stored = await blobs.seal(b"a draft", OWNER)
    with pytest.raises(NotFound):
        await blobs.read(stored.name)
    await blobs.keep(stored)
    assert await blobs.read(stored.name) == b"a draft"
    assert await blobs.write(b"a draft", owners=[OWNER]) == [stored.name]


async def test_what_an_older_program_stored_is_given_back_as_it_is(
    blobs: SealedBlobs, store: LocalBlobs
) -> None:
    (name,) = await store.write(b"stored in the open")
    assert await blobs.read(name) == b"stored in the open"


async def test_a_shared_blob_is_read_until_its_last_owner_is_erased(blobs: SealedBlobs, vault: Vault) -> None:
    (name,) = await blobs.write(b"for two", owners=[OWNER, OTHER])
    erase(vault, OWNER)
    assert await blobs.read(name) == b"for two"
    erase(vault, OTHER)
    with pytest.raises(Gone):
        await blobs.read(name)


async def test_nothing_is_stored_for_the_erased(blobs: SealedBlobs, store: LocalBlobs, vault: Vault) -> None:
    vault.key_of(OWNER)
    erase(vault, OWNER)
    with pytest.raises(Gone):
        await blobs.write(b"too late", owners=[OWNER])
    (name,) = await blobs.write(b"for who is left", owners=[OWNER, OTHER])
    assert await blobs.read(name) == b"for who is left"


async def test_bytes_that_nobody_sealed_like_that_are_damage(blobs: SealedBlobs, store: LocalBlobs) -> None:
    sealed = await blobs.seal(b"content", OWNER)
    names = await store.write(sealed.sealed[:-1] + b"x", MARK, MARK + b"\0\0", MARK + os.urandom(50))
    for name in names:
        with pytest.raises(CorruptRecord, match=name):
            await blobs.read(name)


async def test_a_blob_tells_whose_it_is_without_a_key(blobs: SealedBlobs, vault: Vault) -> None:
    ids = [vault.key_of(owner).id for owner in (OWNER, OTHER)]
    sealed = MARK + Envelopes(vault, named=True).seal(b"x", (OWNER, OTHER), b"blob")
    head = sealed[: head_length(sealed[:LONGEST_START])]
    assert owners_of(head) == ids
    assert head_length(b"From: somebody") == 0


async def test_another_process_reads_with_the_vault_and_is_told_when_it_has_none(
    blobs: SealedBlobs, vault: Vault, tmp_path: Path
) -> None:
    (name,) = await blobs.write(b"content", owners=[OWNER])
    reader = SealedReader(BlobReader.open(tmp_path / "blobs"), Envelopes(vault, named=True))
    assert await reader.read(name) == b"content"
    with pytest.raises(Misconfigured, match="vault"):
        await SealedReader(BlobReader.open(tmp_path / "blobs"), None).read(name)
    await reader.close()
