"""Blobs in local append-only segment files: one write and one sync for all who write at the same time.

Bodies are gathered on the loop while the previous batch is being synced in a single thread. A crash
leaves at most a torn tail that nobody was told about; opening cuts it off. The index is derived: it is
completed, or built anew, from the segments.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import structlog

from events.errors import Busy, CorruptRecord, NotFound, StorageUnavailable
from events.log import failpoints
from node.storage.appender import SEGMENT_BYTES, Appender, Sync, sync_folder
from node.storage.blobs import Doomed, Erasure, is_blob_name
from node.storage.erasing import find_doomed, overwrite
from node.storage.index import INDEX_FILE, BlobIndex, Entry
from node.storage.reading import Verified, erased, read_record, verify_entries
from node.storage.recent import Recent
from node.storage.recovery import Recovery, recover
from node.storage.segments import Place

PENDING_BYTES = 256 << 20
"""Bodies accepted and not yet synced; above it writers are told to come again, so memory stays bounded."""

OFF_LOOP_BYTES = 1 << 20
"""Bodies above this length are hashed and read in a thread: they would hold the loop for a millisecond."""

INDEX_BATCH = 256
"""New blobs noted in memory before they go to the index together …"""

INDEX_BYTES = 16 << 20
"""… or bytes of them: what is not indexed is walked at the next start after a crash, some 10 ms."""

RECENT_BYTES = 32 << 20
"""Blobs just written that are kept in memory: each is soon read by who files it and who shows it."""

RECENT_LENGTH = 256 << 10
"""Longest blob that is kept in memory: a large one would drive out many small ones."""

_log = structlog.get_logger("storage")


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a local blob store, in bytes."""

    segment_bytes: int = SEGMENT_BYTES
    pending_bytes: int = PENDING_BYTES


class _Batch:
    """Bodies that are synced together, by binary name. `done` resolves when they are."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.done = done
        # A batch whose writers were all cancelled has nobody to hear of its failure.
        done.add_done_callback(_hear)


class LocalBlobs:
    """The writing store of a folder. One process at a time may hold it (the log's lock sees to that)."""

    def __init__(
        self, folder: Path, index: BlobIndex, recovery: Recovery, settings: LocalSettings, sync: Sync
    ) -> None:
        self.folder = folder
        self.recovery = recovery
        self._settings = settings
        self._index = index
        self._appender = Appender(
            folder, recovery.segment, recovery.end, limit=settings.segment_bytes, sync=sync
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blob-sync")
        self._gathering: _Batch | None = None
        self._running: _Batch | None = None
        self._pending: dict[bytes, _Batch] = {}
        self._pending_bytes = 0
        self._fresh: dict[bytes, Place] = {}
        self._fresh_bytes = 0
        self._recent = Recent(RECENT_BYTES, RECENT_LENGTH)
        self._closed = False

    @classmethod
    def open(
        cls, folder: Path, settings: LocalSettings | None = None, sync: Sync = os.fdatasync
    ) -> LocalBlobs:
        """Open a folder, which is made when missing, and repair what a crash left.

        Blocks while segments that are not indexed are walked; `recovery` tells what was found.
        Raises StorageUnavailable when the folder can't be read or written.
        """
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                sync_folder(folder.parent)
            index = BlobIndex.open(folder / INDEX_FILE)
            recovery = recover(folder, index)
        except OSError as error:
            raise StorageUnavailable("storage is not available now", f"{folder}: {error}") from error
        if not recovery.clean:
            _log.warning("blobs recovered", folder=str(folder), **msgspec.to_builtins(recovery))
        return cls(folder, index, recovery, settings or LocalSettings(), sync)

    async def write(self, *bodies: bytes) -> list[str]:
        """See `BlobStore.write`."""
        digests = [
            hashlib.sha256(body).digest() if len(body) <= OFF_LOOP_BYTES else await _digest(body)
            for body in bodies
        ]
        if self._closed:
            raise StorageUnavailable("storage is closed")
        fresh = {
            digest: body for digest, body in zip(digests, bodies, strict=True) if not self._is_stored(digest)
        }
        waits = {self._pending[digest] for digest in fresh if digest in self._pending}
        new = {digest: body for digest, body in fresh.items() if digest not in self._pending}
        if new:
            waits.add(self._gather(new))
        await _all_synced(waits)
        return [digest.hex() for digest in digests]

    async def read(self, name: str) -> bytes:
        """See `BlobStore.read`."""
        if (kept := self._recent.get(name)) is not None:
            return kept
        entry = self._find(name)
        if entry is None:
            raise NotFound("no such blob", repr(name))
        if entry.erased:
            raise erased(entry.name)
        try:
            read = partial(read_record, self.folder, entry.name, entry.place)
            return read() if entry.place.length <= OFF_LOOP_BYTES else await asyncio.to_thread(read)
        except CorruptRecord:
            # The same content is then stored anew when it comes again.
            self._index.mark_damaged(entry.name)
            raise

    async def erase(self, doomed: Doomed) -> Erasure:
        """See `BlobStore.erase`. Looks at every blob, in a thread; writers go on meanwhile."""
        self._flush_index()
        if self._fresh:
            raise StorageUnavailable("storage is not available now", "not every blob could be indexed")
        found = await asyncio.to_thread(find_doomed, self.folder, doomed)
        await asyncio.to_thread(overwrite, self.folder, found)
        for entry in found:
            self._recent.forget(entry.name.hex())
        self._index.mark_erased([entry.name for entry in found])
        return Erasure(len(found), sum(entry.place.length for entry in found))

    async def destroy(self, name: str) -> None:
        """See `BlobStore.destroy`."""
        self._flush_index()
        entry = self._find(name)
        if entry is None or entry.erased:
            return
        await asyncio.to_thread(overwrite, self.folder, [entry])
        self._recent.forget(name)
        self._index.mark_erased([entry.name])

    async def size(self, name: str) -> int | None:
        """See `BlobStore.size`."""
        entry = self._find(name)
        return None if entry is None or entry.erased else entry.place.length

    @failpoints.after("blobs-closed")
    async def close(self) -> None:
        """Finish what is being written, then release the files."""
        self._closed = True
        while batch := self._running or self._gathering:
            await asyncio.wait([batch.done])
        self._thread.shutdown()
        self._appender.close()
        self._flush_index()
        self._index.close_synced()

    def verify(self) -> Iterator[Verified]:
        """Check every blob against its name, in disk order; see `reading.verify_entries`."""
        self._flush_index()
        return verify_entries(self.folder, self._index)

    def _find(self, name: str) -> Entry | None:
        if not is_blob_name(name):
            return None
        digest = bytes.fromhex(name)
        place = self._fresh.get(digest)
        return Entry(digest, place) if place else self._index.find(digest)

    def has_lost(self, name: str) -> bool:
        """Whether a blob is missing or known to be damaged; one that was erased is neither."""
        entry = self._find(name)
        return entry is None or entry.damaged

    def _is_stored(self, digest: bytes) -> bool:
        if digest in self._fresh:
            return True
        entry = self._index.find(digest)
        return entry is not None and not entry.state

    def _gather(self, new: dict[bytes, bytes]) -> _Batch:
        added = sum(map(len, new.values()))
        if self._pending_bytes and self._pending_bytes + added > self._settings.pending_bytes:
            raise Busy("storage is behind, try again", f"{self._pending_bytes} bytes wait to be synced")
        loop = asyncio.get_running_loop()
        if self._gathering is None:
            self._gathering = _Batch(loop.create_future())
            # Whoever else writes in this turn of the loop shares the sync.
            loop.call_soon(self._start)
        self._gathering.bodies.update(new)
        self._pending.update(dict.fromkeys(new, self._gathering))
        self._pending_bytes += added
        return self._gathering

    def _start(self) -> None:
        if self._running is not None or self._gathering is None:
            return
        batch, self._gathering = self._gathering, None
        self._running = batch
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._thread, self._appender.append, list(batch.bodies.items()))
        job.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: _Batch, job: asyncio.Future[list[Place]]) -> None:
        self._running = None
        for digest, body in batch.bodies.items():
            del self._pending[digest]
            self._pending_bytes -= len(body)
        error = job.exception()
        if error is None:
            for (digest, body), place in zip(batch.bodies.items(), job.result(), strict=True):
                self._fresh[digest] = place
                self._fresh_bytes += place.length
                self._recent.keep(digest.hex(), body)
            batch.done.set_result(None)
        else:
            batch.done.set_exception(error)
        self._start()
        if len(self._fresh) >= INDEX_BATCH or self._fresh_bytes >= INDEX_BYTES:
            self._flush_index()

    def _flush_index(self) -> None:
        """Move new blobs to the index. A failure is retried with the next batch: the blobs are safe."""
        if not self._fresh:
            return
        last = max(self._fresh.values(), key=lambda place: (place.segment, place.offset))
        try:
            entries = [Entry(digest, place) for digest, place in self._fresh.items()]
            self._index.add(entries, last.segment, last.end)
        except StorageUnavailable as error:
            _log.warning("blob index not written, kept in memory", waiting=len(self._fresh), error=str(error))
        else:
            self._fresh.clear()
            self._fresh_bytes = 0


def _hear(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()


async def _all_synced(batches: set[_Batch]) -> None:
    """Wait for all: one who waits for another's batch is answered when that one is synced, never before."""
    if len(batches) == 1:
        (batch,) = batches
        await asyncio.shield(batch.done)
        return
    results = await asyncio.gather(*(asyncio.shield(batch.done) for batch in batches), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _digest(body: bytes) -> bytes:
    """Hash a large body in a thread."""
    return (await asyncio.to_thread(hashlib.sha256, body)).digest()
