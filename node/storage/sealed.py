"""Blobs that only their owners' keys open: an envelope behind a mark, in a store that is told nothing of it.

    mark (8) | envelope (`node.crypto.envelope`)

What one user owns is sealed the same way each time, so it keeps one name; a mail of several recipients is
one blob. Bytes without the mark were stored by an older program, and are given back as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from events.errors import CorruptRecord, Gone, Misconfigured, NotFound
from events.log.sealing import SealBroken
from node.crypto.envelope import Envelopes, head_size, key_ids
from node.storage.blobs import BlobStore, Erasure, Start, blob_name

MARK: Final = b"\x00mlsl1\r\n"
"""No mail and no JSON document begins like this."""

OFF_LOOP_BYTES: Final = 256 << 10
"""Bodies above this length are sealed and opened in a thread: they would hold the loop for a millisecond."""

_BOUND: Final = b"blob"


class Stored(NamedTuple):
    """A sealed body and the name that it will have."""

    name: str
    sealed: bytes


class Reading(Protocol):
    """What is needed of the store to read."""

    async def read(self, name: str) -> bytes:
        """Return stored bytes."""

    async def close(self) -> None:
        """Release the store."""


class SealedReader:
    """Opens what a store has; `envelopes` are None where there is no vault yet."""

    def __init__(self, store: Reading, envelopes: Envelopes | None) -> None:
        self._store = store
        self._envelopes = envelopes

    async def read(self, name: str) -> bytes:
        """Return a body; see `Blobs.read`."""
        stored = await self._store.read(name)
        if not stored.startswith(MARK):
            return stored
        if len(stored) > OFF_LOOP_BYTES:
            return await asyncio.to_thread(self._opened, name, stored)
        return self._opened(name, stored)

    def _opened(self, name: str, stored: bytes) -> bytes:
        if self._envelopes is None:
            raise Misconfigured("blobs are sealed: their vault of keys is needed to read them")
        try:
            body = self._envelopes.open(stored[len(MARK) :], _BOUND)
        except SealBroken as error:
            raise CorruptRecord("the stored content is damaged", f"blob {name}: {error}") from error
        if body is None:
            raise Gone("this content was erased", f"blob {name}")
        return body

    async def close(self) -> None:
        """Release the store."""
        await self._store.close()


class SealedBlobs(SealedReader):
    """`Blobs` over a store of bytes."""

    def __init__(self, store: BlobStore, envelopes: Envelopes) -> None:
        super().__init__(store, envelopes)
        self._writer = store
        self._sealing = envelopes

    async def write(self, *bodies: bytes, owners: Sequence[str]) -> list[str]:
        """Store bodies for their owners; see `Blobs.write`."""
        sealed = [await self._sealed(body, owners) for body in bodies]
        return await self._writer.write(*sealed)

    async def write_apart(self, body: bytes, owners: Sequence[str]) -> str:
        """Store a body under a name of its own; see `Blobs.write_apart`."""
        (name,) = await self._writer.write(await self._sealed(body, owners, unique=True))
        return name

    async def destroy(self, name: str) -> None:
        """Overwrite one blob for good; harmless when repeated. Its name then means Gone."""
        await self._writer.destroy(name)

    async def seal(self, body: bytes, owner: str) -> Stored:
        """Seal what one user owns without storing it, to learn its name. Raises Gone."""
        sealed = await self._sealed(body, (owner,))
        return Stored(blob_name(sealed), sealed)

    async def keep(self, *stored: Stored) -> None:
        """Store what was sealed; return when it is synced. Raises what `BlobStore.write` raises."""
        await self._writer.write(*(each.sealed for each in stored))

    async def erase(self, destroyed: frozenset[bytes]) -> Erasure:
        """Overwrite what only destroyed keys (by their ids) could open; harmless when repeated."""

        def doomed(start: Start) -> bool:
            length = head_length(start(LONGEST_START))
            return bool(length) and destroyed.issuperset(owners_of(start(length)))

        return await self._writer.erase(doomed)

    async def is_sealed(self, name: str) -> bool:
        """Whether a blob is sealed; one that is not there, or was erased, shows nothing either."""
        try:
            return (await self._store.read(name)).startswith(MARK)
        except NotFound:
            return True

    async def _sealed(self, body: bytes, owners: Sequence[str], *, unique: bool = False) -> bytes:
        seal = partial(self._sealing.seal, body, owners, _BOUND, unique=unique)
        return MARK + (await asyncio.to_thread(seal) if len(body) > OFF_LOOP_BYTES else seal())


LONGEST_START: Final = len(MARK) + 2
"""Bytes of a stored blob that tell how long its head is."""


def head_length(start: bytes) -> int:
    """Length of mark and head from the first `LONGEST_START` bytes of a blob; 0 when it is not sealed."""
    if not start.startswith(MARK):
        return 0
    try:
        return len(MARK) + head_size(start[len(MARK) :])
    except SealBroken:
        return 0


def owners_of(head: bytes) -> list[bytes]:
    """Return the ids of the keys that open a sealed blob, from its first `head_length` bytes."""
    return key_ids(head[len(MARK) :])
