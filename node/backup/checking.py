"""Checking a point: signature, hashes, the chain of the log, and that each blob that it mentions is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from events.errors import MailioError, NotFound
from events.event import Recorded
from events.log.sqlite_log import SqliteLog
from node.backup.copying import digest_of
from node.backup.folder import BackupFolder
from node.backup.making import Tell, first_bad
from node.backup.manifest import BLOBS, LOG, Manifest, StoredFile
from node.core import SOFTWARE
from node.mentioned import blobs_of
from node.storage.segments import Kind, walk
from node.stores import reading

PROBLEMS: Final = 100
"""Problems that a report names; more of them say nothing new."""

PAGE: Final = 500
"""Events read at once."""


class Checked(msgspec.Struct, kw_only=True, rename="camel"):
    """What checking a point found. `at` is in milliseconds; it is sound when there are no problems."""

    point: str
    node: str = ""
    domain: str = ""
    at: int = 0
    position: int = 0
    blobs: int = 0
    problems: list[str] = []

    @property
    def sound(self) -> bool:
        """Whether a restore from this point gives back everything."""
        return not self.problems


def check(folder: Path, point: str | None, tell: Tell, *, node: Sequence[str] = ()) -> Checked:
    """Check a point, the newest if none is named; `node` are the addresses of the node that it must belong
    to, the present one first, if it matters: one for each key that the node had.

    Raises NotFound when there is no such point.
    """
    backup = BackupFolder(folder)
    name = backup.chosen(point)
    checked = Checked(point=name)
    try:
        manifest = backup.manifest(name)
    except MailioError as error:
        checked.problems.append(str(error))
        return checked
    checked.node, checked.domain = manifest.node, manifest.domain
    checked.at, checked.position = manifest.at, manifest.position
    if node and manifest.node not in node:
        checked.problems.append(f"the backup is of another node ({manifest.node}), not of {node[0]}")
    _Check(backup, manifest, checked, tell).run()
    return checked


class _Check:
    def __init__(self, backup: BackupFolder, manifest: Manifest, checked: Checked, tell: Tell) -> None:
        self._backup = backup
        self._manifest = manifest
        self._checked = checked
        self._tell = tell
        self._done = 0
        self._erased: set[bytes] = set()

    def run(self) -> None:
        whole = [self._file(file) for file in self._manifest.files]
        required = {LOG, "keys/server.json"} - {file.name for file in self._manifest.files}
        for name in sorted(required):
            self._problem(f"{name}: is not part of the backup")
        blobs = set(self._sound_blobs())
        self._checked.blobs = len(blobs)
        if all(whole) and not required:
            asyncio.run(self._log(blobs))

    def _problem(self, text: str) -> None:
        if len(self._checked.problems) < PROBLEMS:
            self._checked.problems.append(text)

    def path(self, file: StoredFile) -> Path:
        return place_of(self._backup, self._manifest, file)

    def _file(self, file: StoredFile) -> bool:
        """Check one file; a segment that is damaged does not keep the log from being looked at."""
        path = self.path(file)
        try:
            size = path.stat().st_size
            fits = size >= file.size if file.shared else size == file.size
            if fits and digest_of(path, file.size, self._moved) == file.sha256:
                return True
            what = "has changed since the backup was made" if fits else f"has {size} bytes, not {file.size}"
        except OSError as error:
            what = error.strerror or "can't be read"
        self._problem(f"{file.stored}: {what}")
        return file.shared

    def _moved(self, count: int) -> None:
        self._done += count
        self._tell("files", self._done, max(self._manifest.size, 1))

    def _sound_blobs(self) -> Iterator[bytes]:
        """Binary names of all blobs whose bytes are right; those that were erased on purpose are noted."""
        segments = [file for file in self._manifest.files if file.name.startswith(BLOBS)]
        total, before = sum(file.size for file in segments), 0
        for file in segments:
            try:
                fd = os.open(self.path(file), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                for span in walk(fd, check=True):
                    if span.end > file.size:
                        break
                    self._tell("blobs", before + span.end, max(total, 1))
                    if span.kind is Kind.SOUND:
                        yield span.digest
                    elif span.kind is Kind.ERASED:
                        self._erased.add(span.digest)
            finally:
                os.close(fd)
            before += file.size

    async def _log(self, blobs: set[bytes]) -> None:
        """Check the chain, then read every event, with the keys that are part of the point."""
        try:
            async with reading(self._backup.point(self._manifest.point), SOFTWARE) as stores:
                bad = await first_bad(stores.log, self._manifest.position, self._tell)
                if bad is not None:
                    self._problem(f"{LOG}: the record at position {bad} is not what was written")
                    return
                async for record in _records(stores.log):
                    self._tell("events", record.position, stores.log.head)
                    self._event(record, blobs)
        except MailioError as error:
            self._problem(f"{LOG}: {error}")

    def _event(self, record: Recorded, blobs: set[bytes]) -> None:
        if record.position == self._manifest.position and record.hash.hex() != self._manifest.hash:
            self._problem(f"{LOG}: ends with another record than the manifest says")
        for name in blobs_of(record.event):
            if bytes.fromhex(name) not in blobs and bytes.fromhex(name) not in self._erased:
                self._problem(
                    f"blob {name}: missing or damaged; {type(record.event).__name__} needs it "
                    f"(position {record.position}, stream {record.stream})"
                )


async def _records(log: SqliteLog) -> AsyncIterator[Recorded]:
    after = 0
    while page := await log.read(after, PAGE):
        for record in page:
            yield record
        after = page[-1].position


def place_of(backup: BackupFolder, manifest: Manifest, file: StoredFile) -> Path:
    """Return where a file of a point lies."""
    return (backup.path if file.shared else backup.point(manifest.point)) / file.stored


def require_sound(folder: Path, point: str | None, tell: Tell) -> Manifest:
    """Return the manifest of a point that is sound. Raises NotFound naming what is wrong and what to do."""
    checked = check(folder, point, tell)
    backup = BackupFolder(folder)
    if not checked.sound:
        others = [name for name in backup.points() if name != checked.point]
        advice = f"try another with --point: {', '.join(others)}" if others else "there is no other point"
        count = f" and {len(checked.problems) - 1} more" if len(checked.problems) > 1 else ""
        raise NotFound(f"point {checked.point} is not sound: {checked.problems[0]}{count}; {advice}")
    return backup.manifest(checked.point)
