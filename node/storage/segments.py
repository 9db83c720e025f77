"""Segment files: the format of a record, and a walk over a file that nothing can make stop early.

A segment is a sequence of records: a header of 48 bytes (magic, body length, SHA-256 of the body,
CRC-32 of the header before it; big-endian), then the body. Files are called `000001.seg`, `000002.seg` …
and only the last one grows. Where a body was erased, another magic says so, and zeros stand in its place.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

MAGIC = b"MBL1"
ERASED_MAGIC = b"MBL0"
_CHECKED = struct.Struct(">4sQ32s")
_CHECKSUM = struct.Struct(">I")
HEADER_SIZE = _CHECKED.size + _CHECKSUM.size
"""Length of a record's header in bytes."""

CHUNK = 1 << 20
"""Bytes read at once while walking: large enough for sequential speed, small enough for any machine."""

_FILE_NAME = re.compile(r"([0-9]{6,})\.seg")


class Place(NamedTuple):
    """Where a blob lies: segment number, offset of its record, length of its body in bytes."""

    segment: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the record."""
        return self.offset + HEADER_SIZE + self.length


class Kind(Enum):
    """What a span of a segment file is."""

    SOUND = "sound"
    """A record whose body matches its hash (or was not asked to be checked)."""
    DAMAGED = "damaged"
    """A record of full length whose body does not match its hash."""
    ERASED = "erased"
    """A record whose body was overwritten on purpose."""
    GARBAGE = "garbage"
    """Bytes that are no record: a torn tail when they reach the end of the file."""


class Span(NamedTuple):
    """A stretch of a segment file. `digest` is the binary SHA-256 in the header, empty for garbage."""

    kind: Kind
    offset: int
    end: int
    digest: bytes = b""


class Header(NamedTuple):
    """What stands before a body: its binary SHA-256, its length, and whether it was erased."""

    digest: bytes
    length: int
    erased: bool = False


def header(digest: bytes, length: int, *, erased: bool = False) -> bytes:
    """Encode a record's header."""
    checked = _CHECKED.pack(ERASED_MAGIC if erased else MAGIC, length, digest)
    return checked + _CHECKSUM.pack(zlib.crc32(checked))


def parse_header(raw: bytes) -> Header | None:
    """Decode a sound header, else None."""
    if len(raw) < HEADER_SIZE or not raw.startswith((MAGIC, ERASED_MAGIC)):
        return None
    checked = raw[: _CHECKED.size]
    if _CHECKSUM.unpack_from(raw, _CHECKED.size)[0] != zlib.crc32(checked):
        return None
    magic, length, digest = _CHECKED.unpack(checked)
    return Header(digest, length, magic == ERASED_MAGIC)


def segment_path(folder: Path, number: int) -> Path:
    """Path of a segment file."""
    return folder / f"{number:06d}.seg"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of all segment files of a folder, ascending."""
    matches = (_FILE_NAME.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def walk(fd: int, start: int = 0, *, check: bool) -> Iterator[Span]:
    """Walk the records of an open segment file from offset `start`, which must be a record's.

    With `check`, bodies are hashed. Behind a broken header the walk goes on at the next record that
    is whole in every respect, so one bad sector hides nothing but itself.
    """
    size = os.fstat(fd).st_size
    offset = start
    while offset < size:
        span = _record(fd, offset, size, check=check)
        if span is None:
            found = _next_record(fd, offset, size)
            span = Span(Kind.GARBAGE, offset, found)
        yield span
        offset = span.end


def _record(fd: int, offset: int, size: int, *, check: bool) -> Span | None:
    parsed = parse_header(os.pread(fd, HEADER_SIZE, offset))
    if parsed is None or offset + HEADER_SIZE + parsed.length > size:
        return None
    digest, length, erased = parsed
    sound = not check or erased or _hash(fd, offset + HEADER_SIZE, length) == digest
    kind = Kind.ERASED if erased else Kind.SOUND if sound else Kind.DAMAGED
    return Span(kind, offset, offset + HEADER_SIZE + length, digest)


def _hash(fd: int, offset: int, length: int) -> bytes:
    digest = hashlib.sha256()
    end = offset + length
    while offset < end:
        chunk = os.pread(fd, min(CHUNK, end - offset), offset)
        if not chunk:
            break
        digest.update(chunk)
        offset += len(chunk)
    return digest.digest()


def _next_record(fd: int, broken: int, size: int) -> int:
    """Offset of the next sound record after `broken`, or `size` when there is none."""
    offset = broken + 1
    while offset < size:
        chunk = os.pread(fd, CHUNK, offset)
        hit = chunk.find(MAGIC)
        while hit >= 0:
            span = _record(fd, offset + hit, size, check=True)
            if span is not None and span.kind is Kind.SOUND:
                return offset + hit
            hit = chunk.find(MAGIC, hit + 1)
        # The magic may lie across two chunks.
        offset += max(len(chunk) - len(MAGIC) + 1, 1)
    return size
