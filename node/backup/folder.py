"""The folder of a backup: which points there are, who may write, what an interrupted run left.

DIR/backup.lock
DIR/blobs/000001.seg …                      shared by all points; only ever appended to
DIR/points/20260102T030405.678Z/            one point: manifest.json, manifest.sig, log.sqlite, keys/ …
DIR/points/.unfinished-…                    what is being made, or being removed
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from events.errors import CorruptRecord, Misconfigured, NotFound
from node.backup.copying import make_folder
from node.backup.manifest import MAX_BYTES, Manifest, opened
from node.storage.appender import sync_folder

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
LOCK: Final = "backup.lock"
UNFINISHED: Final = ".unfinished-"

_POINT = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z")


def point_name(at: int) -> str:
    """Name a point after its time (ms); names sort as times do."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{at % 1000:03d}Z"


def point_time(name: str) -> int:
    """Return the time (ms) that a point is named after."""
    moment = datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


class BackupFolder:
    """One folder of points."""

    def __init__(self, path: Path) -> None:
        """Mean `path`, which need not exist."""
        self.path = path.absolute()
        self.blobs = self.path / "blobs"
        self.points_folder = self.path / "points"

    def points(self) -> list[str]:
        """Names of all finished points, oldest first."""
        if not self.points_folder.is_dir():
            return []
        return sorted(each.name for each in self.points_folder.iterdir() if _POINT.fullmatch(each.name))

    def point(self, name: str) -> Path:
        """Folder of a point."""
        return self.points_folder / name

    def chosen(self, name: str | None) -> str:
        """Return the named point, or the newest. Raises NotFound naming those that there are."""
        points = self.points()
        if not points:
            raise NotFound(f"{self.path}: there is no backup here; `mailio-node backup DIR` makes one")
        if name is not None and name not in points:
            raise NotFound(f"{self.path}: no point is called {name}: there are {', '.join(points)}")
        return name or points[-1]

    def manifest(self, name: str) -> Manifest:
        """Read a point's manifest. Raises what `manifest.opened` raises."""
        folder = self.point(name)
        try:
            content = _bounded(folder / MANIFEST)
            manifest = opened(content, _bounded(folder / SIGNATURE))
        except OSError as error:
            raise CorruptRecord("the manifest can't be read", f"{name}: {error}") from error
        if manifest.point != name:
            raise CorruptRecord("the manifest belongs to another point", f"{name}: {manifest.point[:80]}")
        return manifest

    def prepare(self) -> None:
        """Make the folder where it is missing. Raises Misconfigured for one that holds something else."""
        if self.path.is_dir() and not self.points_folder.is_dir():
            others = [each.name for each in self.path.iterdir() if each.name not in {LOCK, "blobs", "points"}]
            if others:
                raise Misconfigured(f"{self.path}: is not empty and no backup: choose an empty folder")
        for each in (self.path, self.blobs, self.points_folder):
            make_folder(each)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who writes here. Raises Misconfigured when another does."""
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise Misconfigured(f"{self.path}: another backup is being written there: wait for it") from None
        try:
            yield
        finally:
            os.close(fd)

    def begin(self, name: str) -> Path:
        """Make the folder in which a point is put together."""
        unfinished = self.points_folder / f"{UNFINISHED}{name}"
        make_folder(unfinished)
        return unfinished

    def publish(self, unfinished: Path, name: str) -> None:
        """Let a complete point be one, in one step. Its files are synced already; the folders are here."""
        for folder in [each for each in unfinished.rglob("*") if each.is_dir()]:
            sync_folder(folder)
        for each in (unfinished, self.blobs):
            sync_folder(each)
        unfinished.rename(self.point(name))
        for each in (self.points_folder, self.path, self.path.parent):
            sync_folder(each)

    def sweep(self) -> None:
        """Remove what an interrupted run left."""
        for each in self.points_folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(each)

    def needed(self) -> Sequence[str] | None:
        """Return the segment files that points use; None when some point can't say."""
        try:
            manifests = [self.manifest(name) for name in self.points()]
        except (CorruptRecord, Misconfigured):
            return None
        return [file.stored for manifest in manifests for file in manifest.files if file.shared]

    def prune(self, keep: int) -> list[str]:
        """Remove all points but the newest `keep`, and segments that none of those left needs.

        A point is out of sight before its first file goes. Segments stay while some manifest can't be read.
        """
        removed = self.points()[:-keep]
        for name in removed:
            self.point(name).rename(self.points_folder / f"{UNFINISHED}{name}")
        self.sweep()
        needed = self.needed()
        for file in self.blobs.iterdir() if needed is not None else ():
            if f"blobs/{file.name}" not in (needed or ()):
                file.unlink()
        return removed


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CorruptRecord("the manifest is too large", str(path))
    return content
