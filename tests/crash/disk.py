"""A disk that may forget: what a process did to its files, and what of it is there after the power went.

`disk.c` stands between the process and its files and writes down every write, sync and name, and every answer
that went out. `Image.at` makes of it the files as they may be found at a point of that story: all that was
synced is there, and of the rest nothing, everything, or any part, by blocks and in any order.
"""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

import msgspec

SOURCE = Path(__file__).with_name("disk.c")
BLOCK = 4_096
"""Bytes that a disk writes whole or not at all."""

_HEAD = struct.Struct("<cBHQQQ")
_ORDERS = struct.Struct("<7i")


def built(folder: Path) -> Path:
    """Compile the library that goes before libc. Raises CalledProcessError."""
    library = folder / "disk.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


class Calls(Enum):
    """Which calls a fault meets; the values are those of `disk.c`."""

    WRITE = 1
    SYNC = 2
    OPEN = 4
    TRUNCATE = 8
    NAME = 16
    ANY = 31


class Faults:
    """Makes calls of a running process fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_ORDERS.size))
        with path.open("r+b") as file:
            self._orders = mmap.mmap(file.fileno(), _ORDERS.size)

    def arm(self, calls: Calls, nth: int, error: int, *, sticky: bool, partial: bool = False) -> None:
        """Let the nth call from now on fail with an errno, and with `sticky` all that follow.

        With `partial`, a write that fails has first written its first half.
        """
        self._orders[:] = _ORDERS.pack(0, nth, error, sticky, partial, 0, 0)
        self._orders[:4] = struct.pack("<i", calls.value)

    def disarm(self) -> int:
        """Let everything work again; return how many calls have failed."""
        self._orders[:4] = bytes(4)
        return self.failed

    @property
    def failed(self) -> int:
        """Calls that have failed since `arm`."""
        failed: int = _ORDERS.unpack(self._orders[:])[5]
        return failed


class Step(msgspec.Struct, frozen=True):
    """One thing that happened. `op` as in `disk.c`."""

    op: str
    flags: int
    name: str
    number: int
    offset: int
    data: bytes
    length: int


def story(trace: Path) -> list[Step]:
    """Read what a process did, in order; a record that it died in the middle of does not count."""
    raw = trace.read_bytes()
    steps, at = [], 0
    while at + _HEAD.size <= len(raw):
        op, flags, named, number, offset, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        size = length if op in b"WN" else 0
        name, data = raw[at : at + named].decode(), raw[at + named : at + named + size]
        at += named + size
        if at <= len(raw):
            steps.append(Step(op.decode(), flags, name, number, offset, data, length))
    return steps


class Loss(Enum):
    """What becomes of everything that was not synced."""

    ALL = "all of it is lost"
    NONE = "all of it is there"
    SOME = "any blocks and names of it are there"
    LATE = "the last of it is there, what came before is not"


class _File:
    """The synced content of a file, and what was written since."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.pending: list[Step] = []

    def sync(self) -> None:
        for step in self.pending:
            _apply(self.synced, step)
        self.pending.clear()

    def fail(self) -> None:
        """A sync that failed: the kernel may drop what was to be written and take it for clean ever after."""
        self.pending.clear()

    def content(self, loss: Loss, chance: random.Random) -> bytes:
        found = bytearray(self.synced)
        for step in _kept(self.pending, loss, chance):
            _apply(found, step)
        return bytes(found)


def _kept(pending: Sequence[Step], loss: Loss, chance: random.Random) -> list[Step]:
    """Which unsynced writes reach the disk, and which blocks of them."""
    if loss is Loss.ALL:
        return []
    if loss is Loss.NONE:
        return list(pending)
    if loss is Loss.LATE:
        return list(pending[-1:])
    blocks = [block for step in pending for block in _blocks(step) if chance.random() < 0.5]
    chance.shuffle(blocks)
    return blocks


def _blocks(step: Step) -> Iterator[Step]:
    """Cut a write at the borders of the disk's blocks."""
    if step.op != "W":
        yield step
        return
    at = 0
    while at < len(step.data):
        size = min(BLOCK - (step.offset + at) % BLOCK, len(step.data) - at)
        yield Step("W", 0, "", step.number, step.offset + at, step.data[at : at + size], size)
        at += size


def _apply(content: bytearray, step: Step) -> None:
    if step.op == "W":
        if len(content) < step.offset:
            content.extend(bytes(step.offset - len(content)))
        content[step.offset : step.offset + len(step.data)] = step.data
    elif len(content) > step.offset:
        del content[step.offset :]
    else:
        content.extend(bytes(step.offset - len(content)))


class Image:
    """All files of a folder, followed step by step. Numbers of files are used again: a new name is a new file."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, _File | str] = {}
        self._durable: dict[str, _File | str] = {}
        self._pending: list[tuple[str, dict[str, _File | str | None]]] = []

    def follow(self, step: Step) -> None:
        """Take the next step of the story."""
        match step.op:
            case "O":
                self._open(step)
            case "W" | "T":
                self._files[step.number].pending.append(step)
            case "S":
                self._files[step.number].sync()
            case "F":
                self._files[step.number].fail()
            case "D":
                self._sync_folder(step.name.rstrip("/"))
            case "R" | "L" | "Y" | "U":
                self._rename(step)

    def _open(self, step: Step) -> None:
        if step.flags & 1 or step.number not in self._files:
            file = self._files[step.number] = _File()
            self._change({step.name: file})
        elif step.flags & 2:
            self._files[step.number].pending.append(Step("T", 0, "", step.number, 0, b"", 0))

    def _rename(self, step: Step) -> None:
        one, _, other = step.name.partition("\0")
        if step.op == "U":
            self._change({one: None})
        elif step.op == "Y":
            self._change({other: one})
        elif step.op == "L":
            self._change({other: self._names[one]})
        else:
            self._change({other: self._names[one], one: None})

    def _change(self, names: dict[str, _File | str | None]) -> None:
        folder = str(Path(next(iter(names))).parent)
        self._pending.append((folder, names))
        _rename_in(self._names, names)

    def _sync_folder(self, folder: str) -> None:
        left = []
        for where, names in self._pending:
            if where == (folder or "."):
                _rename_in(self._durable, names)
            else:
                left.append((where, names))
        self._pending = left

    def put(self, folder: Path, loss: Loss, seed: int) -> None:
        """Write the files as they may be found now into an empty folder."""
        chance = random.Random(seed)
        names = dict(self._durable)
        kept = {Loss.ALL: 0, Loss.SOME: chance.randint(0, len(self._pending))}
        for _, changes in self._pending[: kept.get(loss, len(self._pending))]:
            _rename_in(names, changes)
        for name, file in names.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if isinstance(file, str):
                path.symlink_to(file)
            else:
                path.touch(mode=0o600)
                path.write_bytes(file.content(loss, chance))


def _rename_in(names: dict[str, _File | str], changes: dict[str, _File | str | None]) -> None:
    for name, file in changes.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
