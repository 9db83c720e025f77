"""Segment files and their index cut, flipped and lost: what an event names is readable, or it is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from events.errors import CorruptRecord, NotFound, StorageUnavailable
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mail import MailAccepted, Recipient
from events.policy import Transport
from node.soundness import Soundness, examine_stores
from node.storage.local import LocalBlobs, LocalSettings
from node.storage.segments import HEADER_SIZE
from tests.crash.rot import Disk, cuts, flips

MAILS = 12
SEGMENT = 1_300
"""A segment is full after some mails, so that there are three."""
LAST = "000003.seg"
FILES = ("000001.seg", "000002.seg", LAST, "index.sqlite", "index.sqlite-wal", "index.sqlite-state")


def accepted(blob: str, size: int) -> MailAccepted:
    return MailAccepted(
        transport=Transport.SMTP,
        blob=blob,
        size=size,
        recipients=(Recipient("0x1", "someone@alpha.example"),),
        envelope_sender="friend@beta.example",
        authors=("friend@beta.example",),
        message_id="",
        received_at=1,
        client="192.0.2.1",
        helo="beta.example",
        tls="",
    )


def body(number: int) -> bytes:
    return bytes((number,)) * (300 + number)


class Store:
    """A data folder, in memory where that can be, whose blobs can be put back."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.names: list[str] = []
        self.killed = self.closed = Disk({})

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    async def fill(self) -> None:
        """Accept some mails; keep the disk as `kill -9` and as a clean end leave it."""
        log = SqliteLog.open(self.data / "log.sqlite", SystemClock(), "test")
        store = LocalBlobs.open(self.blobs, LocalSettings(segment_bytes=SEGMENT))
        for number in range(MAILS):
            (name,) = await store.write(body(number))
            self.names.append(name)
            write = Write(f"mail-{number}", (accepted(name, len(body(number))),), expected=0)
            await log.append(write, origin=Origin(actor="smtp"))
        self.killed = Disk.of(self.blobs, *FILES)
        await store.close()
        self.closed = Disk.of(self.blobs, *FILES)
        await log.close()

    async def lost(self) -> set[str]:
        """Start, and return the names that can't be read."""
        store = LocalBlobs.open(self.blobs, LocalSettings(segment_bytes=SEGMENT))
        lost = set()
        for number, name in enumerate(self.names):
            try:
                assert await store.read(name) == body(number)
                assert not store.has_lost(name)
            except (CorruptRecord, NotFound):
                lost.add(name)
        await store.write(b"the next one")
        await store.close()
        return lost


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
async def store(folder: Path) -> Store:
    store = Store(folder)
    await store.fill()
    return store


async def require_readable_or_named(store: Store, disks: Iterable[tuple[str, Disk]]) -> int:
    """Whatever can't be read is named, by `verify` before and after a start; count the disks with a loss."""
    losses = 0
    for what, disk in disks:
        disk.put(store.blobs)
        before = named(await examine_stores(store.data))
        lost = await store.lost()
        told = await examine_stores(store.data)
        assert lost <= before, what
        assert lost <= named(told), what
        assert {fault.position for fault in told.faults if fault.blob in lost} == {
            store.names.index(name) + 1 for name in lost
        }, what
        losses += bool(lost)
    return losses


def named(told: Soundness) -> set[str]:
    return {fault.blob for fault in told.faults if fault.blob and fault.stream}


def last_record(store: Store) -> int:
    """Offset of the last record of the last segment."""
    return len(store.killed.files[LAST]) - len(body(MAILS - 1)) - HEADER_SIZE


async def test_a_sound_store_has_no_faults(store: Store) -> None:
    for disk in (store.killed, store.closed):
        assert await require_readable_or_named(store, [("nothing", disk)]) == 0
        assert (await examine_stores(store.data)).faults == []


async def test_an_unacknowledged_tail_cut_at_every_byte_goes_and_nothing_else(store: Store) -> None:
    whole = store.killed.files[LAST]
    torn = store.killed.with_file(LAST, whole + whole[last_record(store) :][::-1] + whole)
    for what, disk in cuts(torn, LAST, len(whole), 60):
        disk.put(store.blobs)
        assert await store.lost() == set(), what
        assert (await examine_stores(store.data)).faults == [], what


@pytest.mark.parametrize("end", ["killed", "closed"])
async def test_a_cut_at_every_byte_of_the_last_record_is_named(store: Store, end: str) -> None:
    disk = getattr(store, end)
    disks = list(cuts(disk, LAST, last_record(store), 80))
    assert await require_readable_or_named(store, disks) == len(disks)


@pytest.mark.parametrize("end", ["killed", "closed"])
async def test_flipped_bytes_of_bodies_and_headers_are_named(store: Store, end: str) -> None:
    disk = getattr(store, end)
    for segment in ("000001.seg", LAST):
        assert await require_readable_or_named(store, flips(disk, segment, 0, 40)) > 25


async def test_a_header_that_the_index_can_do_without_is_named_too(store: Store) -> None:
    for what, disk in flips(store.closed, "000002.seg", 0, 30):
        disk.put(store.blobs)
        assert named(await examine_stores(store.data)), what


@pytest.mark.parametrize("end", ["killed", "closed"])
@pytest.mark.parametrize("segment", ["000001.seg", "000002.seg", LAST])
async def test_a_lost_segment_is_named_and_its_content_is_taken_anew(
    store: Store, end: str, segment: str
) -> None:
    disk: Disk = getattr(store, end).with_file(segment, None)
    assert await require_readable_or_named(store, [(segment, disk)]) == 1
    disk.put(store.blobs)
    again = LocalBlobs.open(store.blobs, LocalSettings(segment_bytes=SEGMENT))
    if segment != LAST or end == "closed":
        assert not again.recovery.clean
    await again.write(*map(body, range(MAILS)))
    await again.close()
    assert await store.lost() == set()
    assert (await examine_stores(store.data)).faults == []


async def test_the_index_is_made_again_from_the_segments(store: Store) -> None:
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-state"):
        for disk in (store.killed.with_file(name, None), store.closed.with_file(name, b"nonsense" * 100)):
            if name == "index.sqlite-wal" and disk.files.get(name):
                continue  # beside a closed index SQLite ignores a log that is none
            assert await require_readable_or_named(store, [(name, disk)]) == 0


async def test_a_damaged_index_is_not_believed_after_it_was_found_out(store: Store) -> None:
    """Met while running: the operator is told to restart, and the restart heals it."""
    store.closed.put(store.blobs)
    running = LocalBlobs.open(store.blobs)
    path = store.blobs / "index.sqlite"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
        os.fsync(file.fileno())
    with pytest.raises(StorageUnavailable, match="restart the node"):
        await running.read(store.names[0])
    await running.close()
    assert await store.lost() == set()
