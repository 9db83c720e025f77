"""The port to blobs: immutable bytes, named by the lower-case hex SHA-256 of what is stored.

`node.storage.sealed` puts there encrypted what belongs to users. Blobs and the log are the only durable
things of a node; a blob is always synced before the event that names it is appended. Adapters stand beside
this module; contract: `tests/contract/test_blobs.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

NAME_PATTERN = re.compile(r"[0-9a-f]{64}")
"""What a blob name looks like. Anything else names nothing."""


def blob_name(body: bytes) -> str:
    """Name of these bytes: 64 lower-case hex digits."""
    return hashlib.sha256(body).hexdigest()


def is_blob_name(name: str) -> bool:
    """Tell whether `name` has the form of a blob name."""
    return NAME_PATTERN.fullmatch(name) is not None


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: blobs, and their stored bytes."""

    blobs: int = 0
    bytes: int = 0


Start = Callable[[int], bytes]
"""Gives the first bytes of a stored blob, as many as asked for where it has so many."""

Doomed = Callable[[Start], bool]
"""Says whether a blob is to be erased, by its first bytes."""


class Blobs(Protocol):
    """Where message bodies and attachments are kept, for users."""

    async def write(self, *bodies: bytes, owners: Sequence[str]) -> list[str]:
        """Store all bodies for these users (Mailio addresses); return their names when all are synced.

        Raises what `BlobStore.write` raises, and Gone when all owners were erased.
        """

    async def write_apart(self, body: bytes, owners: Sequence[str]) -> str:
        """Store a body under a name that no other has, also where the same was stored before.

        Whoever destroys it later takes nothing from anybody else. Raises what `write` raises.
        """

    async def read(self, name: str) -> bytes:
        """Return a body. Raises what `BlobStore.read` raises, and Gone when all its owners were erased."""


class BlobStore(Protocol):
    """Where bytes are kept, whatever they mean."""

    async def write(self, *bodies: bytes) -> list[str]:
        """Store all bodies; return their names, in order, when every one of them is synced.

        Storing what is stored already is free and gives the same name. Raises StorageUnavailable
        when the medium fails and Busy when it can't keep up: then none of the bodies that were
        new is visible, and the same call may be repeated.
        """

    async def read(self, name: str) -> bytes:
        """Return the bytes of a blob.

        Raises NotFound, Gone for an erased one, CorruptRecord when the stored bytes no longer match the
        name, and StorageUnavailable when the medium can't be read.
        """

    async def erase(self, doomed: Doomed) -> Erasure:
        """Overwrite blobs for good; harmless when repeated. Their names then mean Gone."""

    async def destroy(self, name: str) -> None:
        """Overwrite one blob for good; harmless when repeated. Its name then means Gone."""

    async def size(self, name: str) -> int | None:
        """Length of a blob in bytes, or None when there is no such blob."""

    async def close(self) -> None:
        """Finish what is being written, then release the store."""
