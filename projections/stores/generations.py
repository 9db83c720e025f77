"""Which file a store is: the path is a link to its newest generation, so that a swap is one rename.

SQLite names a write-ahead log after the file behind a link. With a file name for each generation, an old
log can never be taken for that of a new file, whatever moment the machine stops at.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

from events.log import failpoints
from projections.stores.schema import touch

_SIDE_FILES = ("", "-wal", "-shm", "-journal")


def settle(path: Path) -> Path:
    """Give the file behind `path`, a new one if there is none; remove what an interrupted swap left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink() and path.exists():
        return path.resolve()
    target = path.resolve() if path.is_symlink() else path.with_name(f"{path.name}.g1")
    touch(target)
    if not path.is_symlink():
        _point(path, target)
    _link_aside(path).unlink(missing_ok=True)
    _sweep(path, keep=target)
    return target


def replace(path: Path, rebuilt: Path) -> Path:
    """Let `path` mean the file behind `rebuilt` from now on; return that file. Nothing is removed."""
    number = path.resolve().name.rpartition(".g")[2] if path.is_symlink() else ""
    target = path.with_name(f"{path.name}.g{int(number) + 1 if number.isdecimal() else 1}")
    _sweep(path, keep=path.resolve())
    _rename(rebuilt.resolve(), target)
    _point(path, target)
    if rebuilt.is_symlink():
        rebuilt.unlink()
    return target


def remove(path: Path) -> None:
    """Delete a store with all that belongs to it; one that isn't there is fine."""
    for suffix in _SIDE_FILES:
        Path(f"{path.resolve()}{suffix}").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@failpoints.after("swap-renamed")
def _rename(file: Path, target: Path) -> None:
    file.rename(target)


@failpoints.after("swap-pointed")
def _point(path: Path, target: Path) -> None:
    """Make `path` a link to its neighbour `target`, durably and in one step."""
    _linked(path, target).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@failpoints.after("swap-linked")
def _linked(path: Path, target: Path) -> Path:
    link = _link_aside(path)
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    return link


def _link_aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.link")


def _sweep(path: Path, keep: Path) -> None:
    """Remove every generation but one: a leftover log must never meet a new file of its name."""
    kept = {f"{keep.name}{suffix}" for suffix in _SIDE_FILES}
    for file in path.parent.glob(f"{glob.escape(path.name)}.g*"):
        if file.name not in kept:
            file.unlink(missing_ok=True)
