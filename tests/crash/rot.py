"""Ways in which stored bytes go wrong, and files that can be put back for the next way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

SEED = 20_261_128
"""Of every sample below; a failure names the offset, so it needs no seed to be met again."""


class Disk(msgspec.Struct, frozen=True):
    """The content of some files of a folder, by name."""

    files: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path, *names: str) -> Disk:
        """Read the files that are there."""
        return cls({name: (folder / name).read_bytes() for name in names if (folder / name).exists()})

    def put(self, folder: Path) -> None:
        """Make a folder hold these files and no other."""
        for path in folder.iterdir():
            path.unlink()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    def with_file(self, name: str, content: bytes | None) -> Disk:
        """Return another disk, on which one file is different, or gone (None)."""
        files = {other: kept for other, kept in self.files.items() if other != name}
        return Disk(files if content is None else files | {name: content})


def sampled(start: int, end: int, count: int) -> list[int]:
    """At most `count` of the offsets from `start` to `end`: the first and the last 64, others at random."""
    offsets = range(start, end)
    if len(offsets) <= count:
        return list(offsets)
    edges = {*offsets[:64], *offsets[-64:]}
    return sorted(edges | set(random.Random(SEED).sample(offsets, max(0, count - len(edges)))))


def cuts(disk: Disk, name: str, start: int, count: int) -> Iterator[tuple[str, Disk]]:
    """Cut a file off at offsets from `start` on."""
    content = disk.files[name]
    for offset in sampled(start, len(content), count):
        yield f"{name} cut at {offset}", disk.with_file(name, content[:offset])


def flips(disk: Disk, name: str, start: int, count: int) -> Iterator[tuple[str, Disk]]:
    """Turn bytes of a file round, one at a time: all bits of it, or the lowest."""
    content = disk.files[name]
    for offset in sampled(start, len(content), count):
        mask = 0xFF if offset % 2 else 0x01
        flipped = bytes((content[offset] ^ mask,))
        yield (
            f"{name} flipped at {offset}",
            disk.with_file(name, content[:offset] + flipped + content[offset + 1 :]),
        )
