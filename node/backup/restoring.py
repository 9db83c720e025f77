"""Restoring a node from a point: everything or nothing, and nothing single-use counts twice.

The files are put together in `.restoring` inside the data folder and moved to their places at the end, the
log last. While that folder is there no node starts; the next restore removes it.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import msgspec

from events.errors import Misconfigured
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.node import STREAM, NodeRestored, restored
from node.backup.checking import place_of, require_sound
from node.backup.copying import copy_file, make_folder, storage_errors, write_file
from node.backup.folder import BackupFolder
from node.backup.making import Tell
from node.backup.manifest import CONFIGURATION, LOG, Manifest
from node.core import CHECKPOINTS, RESTORING, SOFTWARE
from node.storage.appender import sync_folder
from node.storage.index import INDEX_FILE, BlobIndex
from node.storage.recovery import recover

CONFIGURATION_AS_IT_WAS: Final = "node.toml.restored"
"""Name of the restored configuration: never taken for one that is in force."""

OPERATOR: Final = Origin(actor="operator")


class Restored(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a restore did; `position` is the head of the log as it was backed up."""

    point: str
    node: str
    domain: str
    position: int
    size: int
    data: str
    configuration: str


def restore(folder: Path, data: Path, point: str | None, tell: Tell) -> Restored:
    """Make a data folder from a point, the newest if none is named.

    Raises Misconfigured when the place is taken, NotFound when the point is not there or not sound,
    StorageUnavailable when the place can't be written; then no node starts on what is there.
    """
    _require_free(data)
    manifest = require_sound(folder, point, tell)
    with storage_errors(f"{data}: can't be restored to"):
        make_folder(data)
        unfinished = data / RESTORING
        if unfinished.exists():
            shutil.rmtree(unfinished)
        for each in (unfinished, unfinished / "keys", unfinished / "blobs"):
            make_folder(each)
        _copy(BackupFolder(folder), manifest, unfinished, tell)
        asyncio.run(_mark(unfinished / LOG, manifest))
        _index(unfinished / "blobs")
        write_file(unfinished / CHECKPOINTS, msgspec.json.encode(manifest.checkpoints))
        for path in unfinished.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        _move(unfinished, data)
    has_configuration = (data / CONFIGURATION_AS_IT_WAS).exists()
    return Restored(
        point=manifest.point,
        node=manifest.node,
        domain=manifest.domain,
        position=manifest.position,
        size=manifest.size,
        data=str(data),
        configuration=str(data / CONFIGURATION_AS_IT_WAS) if has_configuration else "",
    )


def _require_free(data: Path) -> None:
    """Refuse a place that holds anything but what an interrupted restore left."""
    if not data.exists():
        return
    if not data.is_dir():
        raise Misconfigured(f"{data}: is not a folder: choose another with --into")
    left = {each.name for each in data.iterdir()}
    if left and RESTORING not in left:
        raise Misconfigured(
            f"{data}: is not empty, and nothing is overwritten: move it away, or choose another with --into"
        )


def _copy(backup: BackupFolder, manifest: Manifest, target: Path, tell: Tell) -> None:
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        tell("restoring", done, max(manifest.size, 1))

    for file in manifest.files:
        name = CONFIGURATION_AS_IT_WAS if file.name == CONFIGURATION else file.name
        copy_file(place_of(backup, manifest, file), target / name, file.size, moved)


async def _mark(path: Path, manifest: Manifest) -> None:
    """Say in the log that what follows is a new life of the node; a head of another log is refused."""
    clock = SystemClock()
    log = SqliteLog.open(path, clock, SOFTWARE)
    try:
        known = [record.event for record in await log.stream(STREAM)]
        before = [event for event in known if isinstance(event, NodeRestored)]
        event = restored(before, clock.now(), log.head, manifest.point)
        await log.append(Write(STREAM, (event,)), origin=OPERATOR)
    finally:
        await log.close()


def _index(folder: Path) -> None:
    """Let the blob store find everything and cut off what was half-written when it was copied."""
    index = BlobIndex.open(folder / INDEX_FILE)
    recover(folder, index)
    index.close_synced()


def _move(unfinished: Path, data: Path) -> None:
    """Put everything in its place. Interrupted, it leaves `.restoring`, with which no node starts."""
    for name in ("blobs", "keys"):
        sync_folder(unfinished / name)
        if (data / name).exists():
            shutil.rmtree(data / name)
        (unfinished / name).rename(data / name)
    for path in (unfinished / name for name in (CONFIGURATION_AS_IT_WAS, CHECKPOINTS, LOG)):
        if path.exists():
            path.rename(data / path.name)
    sync_folder(data)
    shutil.rmtree(unfinished)
    for folder in (data, data.parent):
        sync_folder(folder)
