"""Making a point: log first, then blobs, then keys, then the configuration, in the end the manifest.

An event is written after the blobs and keys that it needs. What is copied later than the log therefore holds
everything that the copied log mentions, whatever the node goes on writing meanwhile; all but the raw message
for a mailbox that seals, if it is filed, and so overwritten, between the two copies (docs/encryption.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from events.errors import CorruptRecord, Misconfigured
from events.log.clock import SystemClock
from events.log.sqlite import Head, connect
from events.log.sqlite_log import SqliteLog
from node.backup.copying import (
    copy_file,
    copy_log,
    copy_sqlite,
    digest_of,
    extend,
    is_sqlite,
    storage_errors,
    write_file,
)
from node.backup.folder import MANIFEST, SIGNATURE, BackupFolder, point_name, point_time
from node.backup.manifest import BLOBS, CONFIGURATION, FORMAT, KEYS, LOG, Manifest, StoredFile, signed
from node.core import CHECKPOINTS, SOFTWARE
from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys, load_server_keys
from node.settings import Settings
from node.storage.checkpoints import read_checkpoints
from node.storage.segments import segment_numbers, segment_path

KEEP: Final = 3
"""Points kept. The log only grows, so an older point holds nothing that the newest lacks: it is there for the
day when the newest was damaged on its disk, or was taken of a node that was damaged already."""

Tell = Callable[[str, int, int], None]
"""Told (what is being done, done, in all); the two counts are bytes or events."""

_BESIDE = ("-wal", "-shm", "-journal", ".lock", ".new")
# What belongs to a file in use and not to its copy.


class Made(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run did. In bytes, `copied` is what was written now, `size` what the point consists of."""

    point: str
    node: str
    position: int
    size: int
    copied: int
    seconds: float
    points: list[str]
    removed: list[str]
    damaged: list[str]


def make(settings: Settings, configuration: Path, folder: Path, *, keep: int, tell: Tell) -> Made:
    """Add a point to a backup folder. Only reads the node, which may be running.

    Raises Misconfigured (a folder that can't be used), CorruptRecord (the log itself is damaged) and
    StorageUnavailable; earlier points are then as they were.
    """
    data = settings.node.data
    if not (data / LOG).exists():
        raise Misconfigured(f"{data}: there is no log here: has a node run with this configuration?")
    _require_apart(data, folder)
    keys = load_server_keys(data / "keys" / "server.json")
    backup = BackupFolder(folder)
    with storage_errors(f"{folder}: the backup can't be written, earlier points are as they were"):
        backup.prepare()
        with backup.locked():
            backup.sweep()
            last, damaged = _last(backup, keys)
            return _Making(settings, configuration, backup, keys, last, tell).run(keep, damaged)


def _require_apart(data: Path, folder: Path) -> None:
    """Refuse a backup inside the data folder, where the same disk and the same mistake would take both."""
    inner, outer = folder.resolve(), data.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise Misconfigured(f"{folder}: a backup and the data folder {data} must be apart: choose another")


def _last(backup: BackupFolder, keys: ServerKeys) -> tuple[Manifest | None, list[str]]:
    """Return the newest sound manifest, and the names of points whose manifests are not."""
    damaged: list[str] = []
    for name in reversed(backup.points()):
        try:
            manifest = backup.manifest(name)
        except CorruptRecord:
            damaged.append(name)
            continue
        if manifest.node not in keys.addresses:
            raise Misconfigured(
                f"{backup.path}: is the backup of another node ({manifest.node}, {manifest.domain}): "
                "choose another folder"
            )
        return manifest, damaged
    return None, damaged


class _Making:
    """One run. `_copied` counts the bytes written."""

    def __init__(  # noqa: PLR0917 - what is copied, where to, signed by whom, after what, and who is told
        self,
        settings: Settings,
        configuration: Path,
        backup: BackupFolder,
        keys: ServerKeys,
        last: Manifest | None,
        tell: Tell,
    ) -> None:
        self._data = settings.node.data
        self._domain = settings.node.server_domain
        self._configuration = configuration
        self._backup = backup
        self._keys = keys
        self._last = last
        self._tell = tell
        self._copied = 0
        self._needed = backup.needed()

    def run(self, keep: int, damaged: list[str]) -> Made:
        began = time.monotonic()
        at = time.time_ns() // 1_000_000
        name = self._name(at)
        folder = self._backup.begin(name)
        # Read before the log: what they say is finished has its answers in the copy.
        checkpoints = read_checkpoints(self._data / CHECKPOINTS)
        head = copy_log(self._data / LOG, folder / LOG, self._meter("log", self._log_bytes()))
        _require_chain(folder / LOG, head, self._tell)
        files = [self._entry(folder, LOG)]
        files += self._segments(self._continues(folder / LOG))
        files += self._key_files(folder)
        if self._configuration.is_file():
            copy_file(self._configuration, folder / CONFIGURATION)
            files.append(self._entry(folder, CONFIGURATION))
        manifest = msgspec.structs.replace(self._manifest(name, at, head, files), checkpoints=checkpoints)
        content, signature = signed(manifest, self._keys)
        write_file(folder / MANIFEST, content)
        write_file(folder / SIGNATURE, signature)
        self._backup.publish(folder, name)
        removed = self._backup.prune(keep)
        return Made(
            point=name,
            node=self._keys.address,
            position=head.position,
            size=manifest.size,
            copied=self._copied,
            seconds=round(time.monotonic() - began, 3),
            points=self._backup.points(),
            removed=removed,
            damaged=[point for point in damaged if point not in removed],
        )

    def _name(self, at: int) -> str:
        """Name the point after now, or after the newest point where the clock was set back."""
        points = self._backup.points()
        return point_name(max(at, point_time(points[-1]) + 1) if points else at)

    def _manifest(self, name: str, at: int, head: Head, files: list[StoredFile]) -> Manifest:
        return Manifest(
            format=FORMAT,
            software=SOFTWARE,
            node=self._keys.address,
            public_key=to_base64(self._keys.public_key),
            domain=self._domain,
            point=name,
            at=at,
            position=head.position,
            hash=head.hash.hex(),
            files=tuple(files),
        )

    # Log and keys

    def _log_bytes(self) -> int:
        return (self._data / LOG).stat().st_size

    def _continues(self, log: Path) -> bool:
        """Whether the log goes on from the last point: then its finished segments are what they were."""
        if self._last is None:
            return False
        with closing(connect(str(log), readonly=True)) as connection:
            found = connection.execute("SELECT hash FROM events WHERE position = ?", (self._last.position,))
            row = found.fetchone()
        return row is not None and bytes(row[0]).hex() == self._last.hash

    def _key_files(self, folder: Path) -> Iterator[StoredFile]:
        (folder / "keys").mkdir(mode=0o700, exist_ok=True)
        for source in sorted((self._data / "keys").iterdir()):
            if not source.is_file() or source.name.startswith(".") or source.name.endswith(_BESIDE):
                continue
            target = folder / "keys" / source.name
            if is_sqlite(source):
                copy_sqlite(source, target, lambda _: None)
            else:
                copy_file(source, target)
            yield self._entry(folder, KEYS + source.name)

    def _entry(self, folder: Path, name: str) -> StoredFile:
        size = (folder / name).stat().st_size
        self._copied += size
        return StoredFile(name=name, stored=name, size=size, sha256=digest_of(folder / name, size))

    # Blobs

    def _segments(self, continues: bool) -> list[StoredFile]:
        """Bring all segments up to date; finished ones that are there are not even looked at."""
        source = self._data / "blobs"
        numbers = segment_numbers(source) if source.is_dir() else []
        known = {file.name: file for file in (self._last.files if self._last else ()) if file.shared}
        found: list[StoredFile] = []
        due: list[tuple[Path, StoredFile | None, bool]] = []
        for number in numbers:
            path, before = segment_path(source, number), self._present(known, number)
            if before and before.final and continues:
                found.append(before)
            else:
                due.append((path, before, number < numbers[-1]))
        moved = self._meter("blobs", sum(p.stat().st_size - (b.size if b else 0) for p, b, _ in due))
        return found + [self._segment(*each, moved) for each in due]

    def _present(self, known: dict[str, StoredFile], number: int) -> StoredFile | None:
        """Return what the last point has of a segment, if the backup still has all of it."""
        before = known.get(BLOBS + segment_path(Path(), number).name)
        path = self._backup.path / before.stored if before else None
        return (
            before
            if path and path.is_file() and path.stat().st_size >= (before.size if before else 0)
            else None
        )

    def _segment(
        self,
        source: Path,
        known: StoredFile | None,
        final: bool,
        moved: Callable[[int], None],
    ) -> StoredFile:
        stored = known.stored if known else self._free_name(source.name)
        extended = extend(source, self._backup.path / stored, known, moved)
        if extended is None:
            stored, known = self._free_name(source.name), None
            extended = extend(source, self._backup.path / stored, None, moved)
        assert extended is not None
        size, digest = extended
        self._copied += size - (known.size if known else 0)
        return StoredFile(
            name=BLOBS + source.name, stored=stored, size=size, sha256=digest, shared=True, final=final
        )

    def _free_name(self, name: str) -> str:
        """Return a name for a new file among the segments that no point uses."""
        stored, number = BLOBS + name, 1
        while (self._backup.path / stored).exists() and (self._needed is None or stored in self._needed):
            number += 1
            stored = f"{BLOBS}{name}.{number}"
        return stored

    def _meter(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            self._tell(what, done, max(total, done))

        return moved


def _require_chain(path: Path, head: Head, tell: Tell) -> None:
    """Refuse to make a point of a damaged log: it would push sound ones out. Raises CorruptRecord."""
    bad = asyncio.run(_first_bad_in(path, head, tell))
    if bad is not None:
        raise CorruptRecord(
            "the log is damaged, no point was made of it: keep the points that there are",
            f"the record at position {bad} is not what was written",
        )


async def _first_bad_in(path: Path, head: Head, tell: Tell) -> int | None:
    log = SqliteLog.open(path, SystemClock(), SOFTWARE, readonly=True)
    try:
        return await first_bad(log, head.position, tell)
    finally:
        await log.close()


async def first_bad(log: SqliteLog, head: int, tell: Tell) -> int | None:
    """Check a copied log's chain, which must end at position `head`; return the first bad position."""
    async for step in log.verify():
        tell("chain", step.position, max(step.head, 1))
        if step.bad is not None:
            return step.bad
    return None if log.head == head else min(log.head, head) + 1
