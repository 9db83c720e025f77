"""Reading and writing the tar format (POSIX ustar), and nothing but regular files of it.

The reader is for hostile input: it knows no links, devices, long names, sparse files or extended headers, so
there is nothing that they could do. Whoever reads decides by the name how much of a member is taken in.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Final, NamedTuple

from events.errors import CorruptRecord, LimitExceeded

BLOCK: Final = 512
CHUNK: Final = 1 << 20
MAX_FILE: Final = 8 << 30
"""Bytes of one member: what eleven octal digits hold."""

GZIP_LEVEL: Final = 6

_OCTAL = re.compile(rb"[0-7]{11}[ \0]")
_NAME = re.compile(rb"[\x21-\x7e]{1,100}")
_CHECKSUM = re.compile(rb" *([0-7]{4,8})[ \0]*")


class Header(NamedTuple):
    """What is used of a member's header."""

    name: str
    size: int


class TapeReader:
    """Reads one member after the other. Raises CorruptRecord for whatever it does not know."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read from a stream of (decompressed) bytes."""
        self._stream = stream
        self._left = 0
        self._padding = 0

    def next(self) -> Header | None:
        """Go to the next member, None at the end, which must be the end of the file but for zeros."""
        while self.read(CHUNK):
            pass
        self._exactly(self._padding)
        block = self._exactly(BLOCK)
        if block == bytes(BLOCK):
            self._require_end()
            return None
        header = _parsed(block)
        self._left, self._padding = header.size, -header.size % BLOCK
        return header

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes of the member, b"" at its end."""
        chunk = self._exactly(min(count, self._left))
        self._left -= len(chunk)
        return chunk

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._stream.read(count)
            except (OSError, EOFError, zlib.error) as error:
                raise CorruptRecord("the archive can't be read to its end", str(error)) from error
            if not part:
                raise CorruptRecord("the archive ends too early")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _require_end(self) -> None:
        self._exactly(BLOCK)
        try:
            rest = self._stream.read(tarfile.RECORDSIZE)
            more = self._stream.read(1)
        except (OSError, EOFError, zlib.error) as error:
            raise CorruptRecord("the archive can't be read to its end", str(error)) from error
        if more or rest.strip(b"\0"):
            raise CorruptRecord("there is something behind the end of the archive")


def _parsed(block: bytes) -> Header:
    name, _, padding = block[:100].partition(b"\0")
    size, checksum = block[124:136], _CHECKSUM.fullmatch(block[148:156])
    if block[257:263] not in {b"ustar\0", b"ustar "} or block[156:157] not in {b"0", b"\0"}:
        raise CorruptRecord("the archive holds something that is no regular file")
    if checksum is None or int(checksum[1], 8) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise CorruptRecord("a header of the archive is damaged")
    if not _NAME.fullmatch(name) or padding.strip(b"\0") or block[345:500].strip(b"\0"):
        raise CorruptRecord("the archive holds a name that no archive has")
    if not _OCTAL.fullmatch(size):
        raise CorruptRecord("the archive holds a file of impossible size")
    return Header(name.decode("ascii"), int(size[:11], 8))


@contextmanager
def reading(path: Path) -> Iterator[TapeReader]:
    """Open an archive, compressed with gzip or not."""
    with path.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        if magic == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield TapeReader(stream)  # type: ignore[arg-type]  # reads as IO does
        else:
            yield TapeReader(file)


class TapeWriter:
    """Writes members one after the other: files of nobody, readable by their owner."""

    def __init__(self, tape: tarfile.TarFile) -> None:
        """Write to an open tar file."""
        self._tape = tape

    def add(self, name: str, content: bytes | Path, at: int) -> None:
        """Add a member with a time in milliseconds. Raises LimitExceeded for one that is too large."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size >= MAX_FILE:
            raise LimitExceeded(f"{name} is too large for an archive", f"{size} bytes")
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, at // 1000, 0o600
        if isinstance(content, bytes):
            self._tape.addfile(info, BytesIO(content))
            return
        with content.open("rb") as file:
            self._tape.addfile(info, file)


@contextmanager
def writing(file: IO[bytes], *, compressed: bool) -> Iterator[TapeWriter]:
    """Write an archive to an open file."""
    if compressed:
        with (
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tape,
        ):
            yield TapeWriter(tape)
    else:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tape:
            yield TapeWriter(tape)
