"""Blobs that were erased in place: gone for every reader, and no damage to anybody."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.errors import Gone, NotFound, StorageUnavailable
from node.storage.blobs import Start
from node.storage.erasing import find_doomed, overwrite
from node.storage.index import BlobIndex
from node.storage.local import LocalBlobs, LocalSettings
from node.storage.reading import BlobReader
from node.storage.segments import HEADER_SIZE, header, segment_path

DOOMED = [b"doomed " + os.urandom(100), b"doomed too", b"doomed " + os.urandom(3 << 20)]
KEPT = [b"kept", b"kept " + os.urandom(5_000), b""]


def doomed(start: Start) -> bool:
    return start(6) == b"doomed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[LocalBlobs]:
    store = LocalBlobs.open(folder)
    yield store
    await store.close()


def forget_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


async def mixed(store: LocalBlobs) -> tuple[list[str], list[str]]:
    """Store doomed and kept bodies in turn; their names."""
    names = []
    for pair in zip(DOOMED, KEPT, strict=True):
        names += await store.write(*pair)
    return names[::2], names[1::2]


async def holds(store: LocalBlobs | BlobReader, gone: list[str], kept: list[str]) -> None:
    for name in gone:
        with pytest.raises(Gone):
            await store.read(name)
    assert [await store.read(name) for name in kept] == KEPT


async def test_what_is_doomed_is_gone_and_everything_else_is_as_it_was(
    store: LocalBlobs, folder: Path
) -> None:
    gone, kept = await mixed(store)
    done = await store.erase(doomed)
    assert (done.blobs, done.bytes) == (3, sum(map(len, DOOMED)))
    await holds(store, gone, kept)
    assert await store.size(gone[0]) is None
    stored = segment_path(folder, 1).read_bytes()
    assert b"doomed" not in stored
    assert len(stored) == sum(HEADER_SIZE + len(body) for body in DOOMED + KEPT)
    assert (await store.erase(doomed)).blobs == 0


async def test_a_reader_in_another_process_is_told_the_same(store: LocalBlobs, folder: Path) -> None:
    gone, kept = await mixed(store)
    reader = BlobReader.open(folder)
    await store.erase(doomed)
    await holds(reader, gone, kept)
    await reader.close()


async def test_verification_counts_erased_blobs_apart_from_damaged_ones(store: LocalBlobs) -> None:
    gone, _ = await mixed(store)
    await store.erase(doomed)
    steps = list(store.verify())
    assert {step.name for step in steps if step.erased} == set(gone)
    assert [step.problem for step in steps if step.problem] == []


async def test_an_index_that_was_lost_knows_erased_blobs_again_and_reports_no_damage(folder: Path) -> None:
    store = LocalBlobs.open(folder)
    gone, kept = await mixed(store)
    await store.erase(doomed)
    await store.close()
    forget_index(folder)
    store = LocalBlobs.open(folder)
    assert (store.recovery.indexed, store.recovery.damaged, store.recovery.garbage_bytes) == (6, (), 0)
    await holds(store, gone, kept)
    await store.close()


@pytest.mark.parametrize("zeroed", [False, True])
async def test_an_erasure_that_was_interrupted_can_be_done_again(folder: Path, zeroed: bool) -> None:
    store = LocalBlobs.open(folder)
    gone, kept = await mixed(store)
    await store.close()
    (first, *_) = find_doomed(folder, doomed)
    if zeroed:
        overwrite(folder, [first])
    else:
        with segment_path(folder, 1).open("r+b") as file:
            file.write(header(first.name, first.place.length, erased=True))
    again = LocalBlobs.open(folder)
    assert [step.problem for step in again.verify() if step.problem] == []
    assert (await again.erase(doomed)).blobs == 3
    assert b"doomed" not in segment_path(folder, 1).read_bytes()
    await holds(again, gone, kept)
    await again.close()


async def test_erased_content_that_comes_again_is_stored_anew(store: LocalBlobs) -> None:
    gone, _ = await mixed(store)
    await store.erase(doomed)
    assert await store.write(DOOMED[0]) == [gone[0]]
    assert await store.read(gone[0]) == DOOMED[0]


async def test_the_memory_of_recent_blobs_forgets_too(store: LocalBlobs) -> None:
    (name,) = await store.write(b"doomed and just written")
    assert await store.read(name)
    await store.erase(doomed)
    with pytest.raises(Gone):
        await store.read(name)
    with pytest.raises(NotFound):
        await store.read("0" * 64)


async def test_a_record_whose_erased_header_is_torn_hides_nothing_behind_it(folder: Path) -> None:
    store = LocalBlobs.open(folder)
    _, kept = await mixed(store)
    await store.close()
    with segment_path(folder, 1).open("r+b") as file:
        file.write(header(b"\0" * 32, len(DOOMED[0]), erased=True)[:20])
    forget_index(folder)
    again = LocalBlobs.open(folder)
    assert [await again.read(name) for name in kept] == KEPT
    await again.close()


async def test_a_segment_that_is_lost_stands_in_the_way_of_no_erasure(folder: Path) -> None:
    store = LocalBlobs.open(folder, LocalSettings(segment_bytes=1))
    (lost,) = await store.write(b"doomed, but lost")
    (there,) = await store.write(b"doomed and there")
    await store.close()
    segment_path(folder, 1).unlink()
    store = LocalBlobs.open(folder)
    assert (await store.erase(doomed)).blobs == 1
    assert store.has_lost(lost)
    with pytest.raises(Gone):
        await store.read(there)
    await store.close()


async def test_an_erasure_that_cannot_see_all_blobs_does_not_say_that_it_is_done(
    store: LocalBlobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = await mixed(store)
    with monkeypatch.context() as disk:
        disk.setattr(BlobIndex, "add", full)
        with pytest.raises(StorageUnavailable):
            await store.erase(doomed)
    assert (await store.erase(doomed)).blobs == len(gone)
    await holds(store, gone, kept)


def full(*_: object) -> None:
    raise StorageUnavailable("no room", "the disk is full")
