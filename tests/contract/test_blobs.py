"""What every blob store promises, and what the local one does when it is killed, full, torn or rotten."""

# ruff: noqa: ASYNC220, ASYNC240 - the loop under test has nothing else to do

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from events.errors import Busy, CorruptRecord, Gone, NotFound, StorageUnavailable
from node.storage import index as index_module
from node.storage.blobs import BlobStore, blob_name
from node.storage.index import INDEX_FILE, BlobIndex, boot_id
from node.storage.local import LocalBlobs, LocalSettings
from node.storage.reading import BlobReader
from node.storage.segments import HEADER_SIZE, segment_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[BlobStore]:
    blobs = LocalBlobs.open(folder)
    yield blobs
    await blobs.close()


class Disk:
    """Syncs for real, and can be made slow or broken; `synced` is what a power loss would leave."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.synced: dict[str, int] = {}
        self.syncs = 0

    def sync(self, fd: int) -> None:
        self.entered.set()
        self.gate.wait()
        if self.error:
            raise self.error
        os.fdatasync(fd)
        self.syncs += 1
        self.synced[str(Path(f"/proc/self/fd/{fd}").readlink())] = os.fstat(fd).st_size


async def fill(folder: Path, *bodies: bytes) -> list[str]:
    store = LocalBlobs.open(folder)
    names = await store.write(*bodies)
    await store.close()
    return names


def forget_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


# --- the contract -------------------------------------------------------------------------------


async def test_a_blob_is_named_by_its_sha256_and_comes_back_unchanged(store: BlobStore) -> None:
    bodies = [b"", b"\0", b"hello", os.urandom(70_000), os.urandom(3 << 20)]
    names = await store.write(*bodies)
    assert names == [hashlib.sha256(body).hexdigest() for body in bodies]
    assert [await store.read(name) for name in names] == bodies
    assert [await store.size(name) for name in names] == [len(body) for body in bodies]


async def test_an_unknown_or_malformed_name_is_not_found(store: BlobStore) -> None:
    for name in (
        blob_name(b"never"),
        "",
        "../../etc/passwd",
        blob_name(b"x").upper(),
        "0" * 63 + "\n",
        "٠" * 64,
    ):
        assert await store.size(name) is None
        with pytest.raises(NotFound):
            await store.read(name)


async def test_the_same_content_twice_has_one_name_and_is_stored_once(store: LocalBlobs) -> None:
    names = await store.write(b"same", b"same")
    names += await store.write(b"same")
    await asyncio.gather(*(store.write(b"same", b"other") for _ in range(20)))
    assert set(names) == {blob_name(b"same")}
    assert segment_path(store.folder, 1).stat().st_size == 2 * HEADER_SIZE + len(b"same") + len(b"other")


async def test_many_concurrent_writers_all_get_what_they_wrote(store: BlobStore) -> None:
    bodies = [f"{number}".encode() * (number % 50) for number in range(500)]
    names = await asyncio.gather(*(store.write(body) for body in bodies))
    assert [await store.read(name) for (name,) in names] == bodies


async def test_a_destroyed_blob_is_gone_and_its_neighbours_stay(store: LocalBlobs) -> None:
    names = await store.write(b"one", b"the secret", b"three")
    await store.destroy(names[1])
    await store.destroy(names[1])
    with pytest.raises(Gone):
        await store.read(names[1])
    assert [await store.read(name) for name in (names[0], names[2])] == [b"one", b"three"]
    assert not store.has_lost(names[1])
    assert b"the secret" not in segment_path(store.folder, 1).read_bytes()
    assert [found.problem for found in store.verify()] == ["", "", ""]


async def test_content_that_comes_again_after_it_was_destroyed_is_stored_anew(store: LocalBlobs) -> None:
    (name,) = await store.write(b"again")
    await store.destroy(name)
    assert await store.write(b"again") == [name]
    assert await store.read(name) == b"again"


async def test_destroying_what_is_not_there_is_no_work(store: BlobStore) -> None:
    await store.destroy("0" * 64)
    await store.destroy("no name")


async def test_writing_nothing_is_no_work(store: BlobStore) -> None:
    assert await store.write() == []


async def test_a_closed_store_accepts_nothing(folder: Path) -> None:
    store = LocalBlobs.open(folder)
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.write(b"late")


# --- batches ------------------------------------------------------------------------------------


async def test_those_who_write_during_a_sync_share_the_next_one(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, sync=disk.sync)
    disk.gate.clear()
    writes = [asyncio.create_task(store.write(b"first"))]
    await asyncio.to_thread(disk.entered.wait)
    writes += [asyncio.create_task(store.write(b"%d" % number)) for number in range(99)]
    await asyncio.sleep(0)
    disk.gate.set()
    await asyncio.gather(*writes)
    assert disk.syncs == 2
    await store.close()


async def test_a_second_writer_of_the_same_content_is_not_answered_before_the_sync(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, sync=disk.sync)
    disk.gate.clear()
    first = asyncio.create_task(store.write(b"same"))
    await asyncio.to_thread(disk.entered.wait)
    second = asyncio.create_task(store.write(b"same"))
    third = asyncio.create_task(store.write(b"same", b"more"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    assert not third.done()
    with pytest.raises(NotFound):
        await store.read(blob_name(b"same"))
    disk.gate.set()
    assert await first == await second == [blob_name(b"same")]
    assert await third == [blob_name(b"same"), blob_name(b"more")]
    await store.close()


async def test_a_cancelled_writer_takes_nobody_else_down(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, sync=disk.sync)
    disk.gate.clear()
    cancelled = asyncio.create_task(store.write(b"same"))
    await asyncio.to_thread(disk.entered.wait)
    other = asyncio.create_task(store.write(b"same"))
    await asyncio.sleep(0)
    cancelled.cancel()
    disk.gate.set()
    assert await other == [blob_name(b"same")]
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await store.close()


async def test_closing_waits_for_what_is_being_written(folder: Path) -> None:
    store = LocalBlobs.open(folder)
    writes = [asyncio.create_task(store.write(b"%d" % number)) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    names = [name for (name,) in await asyncio.gather(*writes)]
    store = LocalBlobs.open(folder)
    assert store.recovery.clean
    assert [await store.read(name) for name in names] == [b"%d" % number for number in range(10)]
    await store.close()


async def test_a_writer_is_told_to_come_again_when_too_much_waits(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, LocalSettings(pending_bytes=1000), sync=disk.sync)
    disk.gate.clear()
    first = asyncio.create_task(store.write(b"a" * 2000))
    await asyncio.to_thread(disk.entered.wait)
    with pytest.raises(Busy):
        await store.write(b"b")
    disk.gate.set()
    await first
    await store.write(b"b")
    await store.close()


async def test_a_full_segment_is_followed_by_the_next(folder: Path) -> None:
    store = LocalBlobs.open(folder, LocalSettings(segment_bytes=1000))
    names = [(await store.write(b"%d" % number * 300))[0] for number in range(10)]
    await store.close()
    assert len(list(folder.glob("*.seg"))) > 3
    forget_index(folder)
    store = LocalBlobs.open(folder, LocalSettings(segment_bytes=1000))
    assert store.recovery.indexed == 10
    assert [await store.read(name) for name in names] == [b"%d" % number * 300 for number in range(10)]
    await store.close()


# --- the medium fails ---------------------------------------------------------------------------


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse every write beyond `size` bytes of a file: a real, partial write error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_when_the_disk_is_full_nothing_is_visible_and_writing_goes_on_when_there_is_space(
    folder: Path,
) -> None:
    store = LocalBlobs.open(folder)
    before = await store.write(b"before")
    big, small = [os.urandom(900_000) for _ in range(9)], b"small"
    with file_size_limit(4 << 20):
        results = await asyncio.gather(store.write(*big, small), store.write(small), return_exceptions=True)
        assert [type(result) for result in results] == [StorageUnavailable] * 2
        assert await store.size(blob_name(small)) is None
        assert segment_path(folder, 1).stat().st_size == HEADER_SIZE + len(b"before")
        assert await store.write(b"fits") == [blob_name(b"fits")]
    names = await store.write(*big, small)
    await store.close()
    store = LocalBlobs.open(folder)
    assert store.recovery.clean
    assert [await store.read(name) for name in before + names] == [b"before", *big, small]
    await store.close()


async def test_after_a_failed_sync_the_segment_is_left_for_ever(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, sync=disk.sync)
    first = await store.write(b"first")
    disk.error = OSError(5, "Input/output error")
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="Input/output"):
            await store.write(b"second")
        with pytest.raises(NotFound):
            await store.read(blob_name(b"second"))
    disk.error = None
    second = await store.write(b"second")
    assert segment_path(folder, 1).stat().st_size == HEADER_SIZE + len(b"first")
    assert [await store.read(name) for name in first + second] == [b"first", b"second"]
    await store.close()
    forget_index(folder)
    store = LocalBlobs.open(folder)
    assert store.recovery.indexed == 2
    await store.close()


async def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        LocalBlobs.open(tmp_path / "file" / "blobs")


# --- crashes ------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys
from pathlib import Path
from node.storage.local import LocalBlobs, LocalSettings

async def main():
    store = LocalBlobs.open(Path(sys.argv[1]), LocalSettings(segment_bytes=200_000))
    async def one(worker):
        while True:
            body = os.urandom(worker * 300)
            name, = await store.write(body)
            sys.stdout.write(name + "\\n")
            sys.stdout.flush()
    await asyncio.gather(*(one(worker) for worker in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 40, 700])
async def test_after_kill_9_every_acknowledged_blob_is_there(folder: Path, lines: int) -> None:
    command = [sys.executable, "-c", WRITER, str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout
        acknowledged = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [
            line for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
        ]
    store = LocalBlobs.open(folder)
    for line in acknowledged:
        name = line.decode().strip()
        assert blob_name(await store.read(name)) == name
    assert not store.recovery.damaged
    assert all(not checked.problem for checked in store.verify())
    await store.close()
    assert LocalBlobs.open(folder).recovery.clean


async def test_after_a_power_loss_every_acknowledged_blob_is_there(folder: Path, tmp_path: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, LocalSettings(segment_bytes=5000), sync=disk.sync)
    names = [(await store.write(b"%d" % number * 700))[0] for number in range(30)]
    disk.gate.clear()
    disk.entered.clear()
    unsynced = asyncio.create_task(store.write(b"unsynced"))
    await asyncio.to_thread(disk.entered.wait)
    left = tmp_path / "left"
    left.mkdir()
    for path, size in disk.synced.items():
        (left / Path(path).name).write_bytes(Path(path).read_bytes()[:size])
    disk.gate.set()
    await unsynced
    await store.close()
    # An index of an earlier run of the system, in whatever state, is not believed.
    (left / "index.sqlite").write_bytes(os.urandom(5000))
    (left / "index.sqlite-state").write_text("an earlier boot")
    store = LocalBlobs.open(left)
    assert [await store.read(name) for name in names] == [b"%d" % number * 700 for number in range(30)]
    assert await store.size(blob_name(b"unsynced")) is None
    await store.close()


async def test_a_record_torn_at_any_byte_is_cut_off_and_the_rest_stays(folder: Path, tmp_path: Path) -> None:
    names = await fill(folder, b"first", b"second", b"the last one")
    whole = segment_path(folder, 1).read_bytes()
    start = len(whole) - HEADER_SIZE - len(b"the last one")
    for length in range(start, len(whole)):
        torn = tmp_path / f"torn{length}"
        torn.mkdir()
        segment_path(torn, 1).write_bytes(whole[:length])
        store = LocalBlobs.open(torn)
        assert store.recovery.torn_bytes == length - start
        assert segment_path(torn, 1).stat().st_size == start
        assert [await store.size(name) for name in names] == [5, 6, None]
        assert await store.write(b"the last one") == names[2:]
        await store.close()
        assert segment_path(torn, 1).read_bytes() == whole
        shutil.rmtree(torn)


async def test_zeros_that_a_crash_left_behind_the_last_record_are_cut_off(folder: Path) -> None:
    names = await fill(folder, b"first")
    forget_index(folder)
    with segment_path(folder, 1).open("ab") as file:
        file.write(bytes(100_000))
    store = LocalBlobs.open(folder)
    assert store.recovery.torn_bytes == 100_000
    assert await store.read(names[0]) == b"first"
    await store.close()


async def test_a_flipped_byte_is_found_by_reading_and_names_the_blob(folder: Path) -> None:
    names = await fill(folder, b"first", b"second", b"third")
    whole = segment_path(folder, 1).read_bytes()
    for offset in range(HEADER_SIZE, HEADER_SIZE + len(b"first")):
        broken = bytearray(whole)
        broken[offset] ^= 0x40
        segment_path(folder, 1).write_bytes(broken)
        store = LocalBlobs.open(folder)
        with pytest.raises(CorruptRecord, match=names[0]):
            await store.read(names[0])
        assert await store.read(names[1]) == b"second"
        problems = [(checked.name, bool(checked.problem)) for checked in store.verify()]
        assert problems == [(names[0], True), (names[1], False), (names[2], False)]
        await store.close()


async def test_a_header_that_the_disk_cannot_read_is_named_and_the_check_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await fill(folder, b"first", b"second")
    pread = os.pread

    def rotten(fd: int, count: int, offset: int) -> bytes:
        if (count, offset) == (HEADER_SIZE, 0):
            raise OSError(errno.EIO, "Input/output error")
        return pread(fd, count, offset)

    store = LocalBlobs.open(folder)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pread", rotten)
        problems = [(checked.name, checked.problem) for checked in store.verify()]
    assert [name for name, _ in problems] == names
    assert "Input/output error" in problems[0][1]
    assert not problems[1][1]
    await store.close()


async def test_damaged_content_that_comes_again_is_stored_anew(folder: Path) -> None:
    names = await fill(folder, b"first", b"second")
    with segment_path(folder, 1).open("r+b") as file:
        file.seek(HEADER_SIZE)
        file.write(b"F")
    store = LocalBlobs.open(folder)
    with pytest.raises(CorruptRecord):
        await store.read(names[0])
    await store.write(b"first")
    assert await store.read(names[0]) == b"first"
    await store.close()


@pytest.mark.parametrize("offset", [0, 5, 20, 45, HEADER_SIZE + 2])
async def test_without_an_index_a_broken_record_hides_nothing_but_itself(folder: Path, offset: int) -> None:
    names = await fill(folder, b"first", b"second", b"third")
    forget_index(folder)
    with segment_path(folder, 1).open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff")
    store = LocalBlobs.open(folder)
    assert not store.recovery.clean
    assert not store.recovery.torn_bytes
    assert [await store.read(name) for name in names[1:]] == [b"second", b"third"]
    with pytest.raises((NotFound, CorruptRecord)):
        await store.read(names[0])
    # Damaged bytes are never taken for an acknowledged copy.
    assert await store.write(b"first") == names[:1]
    assert await store.read(names[0]) == b"first"
    await store.close()


async def test_acknowledged_blobs_beyond_the_end_of_a_shortened_segment_are_reported(folder: Path) -> None:
    names = await fill(folder, b"first", b"second", b"third")
    path = segment_path(folder, 1)
    os.truncate(path, path.stat().st_size - 2)
    store = LocalBlobs.open(folder)
    assert store.recovery.damaged == (names[2],)
    with pytest.raises(CorruptRecord, match=names[2]):
        await store.read(names[2])
    await store.write(b"third", b"fourth")
    assert [await store.read(name) for name in names] == [b"first", b"second", b"third"]
    await store.close()


async def test_an_index_that_a_power_loss_tore_is_never_believed_whatever_happens_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await fill(folder, b"first", b"second")
    with contextlib.closing(sqlite3.connect(folder / INDEX_FILE)) as torn:
        torn.execute("DELETE FROM blob")
        torn.commit()
    (folder / f"{INDEX_FILE}-state").write_text("an earlier run of the system")
    write_mark = index_module._write_mark

    def dies(path: Path, mark: str) -> None:
        write_mark(path, mark)
        raise KeyboardInterrupt

    with monkeypatch.context() as death:
        death.setattr(index_module, "_write_mark", dies)
        with pytest.raises(KeyboardInterrupt):
            LocalBlobs.open(folder)
    assert BlobIndex.open_read_only(folder / INDEX_FILE) is None
    store = LocalBlobs.open(folder)
    assert [await store.read(name) for name in names] == [b"first", b"second"]
    await store.close()


async def test_an_index_whose_end_a_reader_holds_back_is_not_called_synced(folder: Path) -> None:
    store = LocalBlobs.open(folder)
    store._index._connection.execute("PRAGMA busy_timeout = 0")
    await store.write(b"first")
    store.verify()
    with contextlib.closing(sqlite3.connect(folder / INDEX_FILE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blob").fetchone()
        await store.write(b"second")
        await store.close()
        assert (folder / f"{INDEX_FILE}-wal").stat().st_size
        assert (folder / f"{INDEX_FILE}-state").read_text() == boot_id()
    assert (await fill(folder, b"second")) == [blob_name(b"second")]


async def test_content_that_looks_like_a_record_stays_content(folder: Path) -> None:
    (inner,) = await fill(folder, b"inner")
    disguised = segment_path(folder, 1).read_bytes()
    shutil.rmtree(folder)
    names = await fill(folder, disguised, b"after")
    forget_index(folder)
    store = LocalBlobs.open(folder)
    assert store.recovery.indexed == 2
    assert await store.size(inner) is None
    assert [await store.read(name) for name in names] == [disguised, b"after"]
    await store.close()


# --- a second process ---------------------------------------------------------------------------


async def test_a_reader_sees_what_the_writer_has_acknowledged_at_once(folder: Path) -> None:
    store = LocalBlobs.open(folder, LocalSettings(segment_bytes=3000))
    reader = BlobReader.open(folder)
    for number in range(50):
        body = b"%d" % number * 200
        (name,) = await store.write(body)
        assert await reader.read(name) == body
        assert await reader.size(name) == len(body)
    with pytest.raises(NotFound):
        await reader.read(blob_name(b"never"))
    await reader.close()
    await store.close()


async def test_a_reader_finds_blobs_that_are_not_indexed(folder: Path) -> None:
    names = await fill(folder, b"first", b"second")
    forget_index(folder)
    reader = BlobReader.open(folder)
    assert [await reader.read(name) for name in names] == [b"first", b"second"]
    assert not list(folder.glob("index.sqlite"))
    await reader.close()


async def test_a_reader_is_not_misled_by_a_batch_that_was_taken_back(folder: Path) -> None:
    disk = Disk()
    store = LocalBlobs.open(folder, sync=disk.sync)
    await store.write(b"first")
    reader = BlobReader.open(folder)
    disk.gate.clear()
    disk.entered.clear()
    disk.error = OSError(28, "No space left on device")
    failing = asyncio.create_task(store.write(b"taken back", b"again"))
    await asyncio.to_thread(disk.entered.wait)
    assert await reader.read(blob_name(b"again")) == b"again"
    disk.gate.set()
    with pytest.raises(StorageUnavailable):
        await failing
    disk.error = None
    await store.write(b"again")
    assert await reader.read(blob_name(b"again")) == b"again"
    with pytest.raises(NotFound):
        await reader.read(blob_name(b"taken back"))
    await reader.close()
    await store.close()
