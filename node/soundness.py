"""Is what is stored sound? Everything in log and blobs that is not what was written, by its place.

A blob counts by the events that name it: one that an event names and nobody can read is lost mail, one that
no event names is what an interrupted write left, and harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from events.errors import CorruptRecord, MailioError
from events.event import Recorded
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.sqlite_log import BATCH, SqliteLog, bound_vault
from node.crypto.envelope import Envelopes
from node.crypto.vault import Vault, vault_path
from node.mentioned import blobs_of
from node.storage.reading import BlobReader, verify_entries

MOST_FAULTS = 1_000
"""Faults that are told: a broken disk has many, and the first ones say what to do."""


class StoredFault(msgspec.Struct, frozen=True, kw_only=True):
    """Something stored that is not what was written.

    `position` and `stream` place it in the log, 0 and "" where they are not known. `blob` is the name of the
    blob that it is about, "" for a fault of the log itself.
    """

    position: int = 0
    stream: str = ""
    blob: str = ""
    problem: str


class Soundness(msgspec.Struct, kw_only=True):
    """What was looked at, and the first `MOST_FAULTS` things that are wrong.

    `bad` is the first position of the log that is not well. `remains` counts damaged blobs that no event
    names. Without an index (`indexed`), blobs are read only as far as events name them.
    """

    events: int = 0
    bad: int | None = None
    blobs: int = 0
    erased: int = 0
    remains: int = 0
    indexed: bool = True
    faults: list[StoredFault] = msgspec.field(default_factory=list)

    def found(self, fault: StoredFault) -> None:
        """Note a fault."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)


async def examine_stores(data: Path, sound: int = 0) -> Soundness:
    """Check everything in log and blobs below a data folder, but the chain of hashes up to position `sound`.

    Raises Misconfigured when there is no log.
    """
    told = Soundness()
    with _opened_vault(data, told) as vault:
        await _examine(data, told, Codec(sealer=Envelopes(vault)) if vault else None, sound)
    return told


@contextmanager
def _opened_vault(data: Path, told: Soundness) -> Iterator[Vault | None]:
    """The keys with which events say what they name; without them, only those that are not sealed do."""
    vault: Vault | None = None
    try:
        vault = Vault.open_read_only(vault_path(data), bound_vault(data / "log.sqlite"))
    except MailioError as error:
        told.found(StoredFault(problem=str(error)))
    try:
        yield vault
    finally:
        if vault is not None:
            vault.close()


async def _examine(data: Path, told: Soundness, codec: Codec | None, sound: int) -> None:
    try:
        log = SqliteLog.open(
            data / "log.sqlite", SystemClock(), "verify", readonly=True, codec=codec, check=False
        )
    except CorruptRecord as error:
        told.found(StoredFault(problem=str(error)))
        return
    try:
        await _check_log(log, told, sound)
        reader = BlobReader.open(data / "blobs")
        try:
            await _check_blobs(log, reader, data / "blobs", told)
        finally:
            await reader.close()
    finally:
        await log.close()


async def _check_log(log: SqliteLog, told: Soundness, sound: int) -> None:
    try:
        async for step in log.verify(sound=sound):
            told.events, told.bad = step.position, step.bad
            for fault in step.faults:
                told.found(StoredFault(position=fault.position, stream=fault.stream, problem=fault.problem))
    except CorruptRecord as error:
        told.found(StoredFault(problem=str(error)))


async def _check_blobs(log: SqliteLog, reader: BlobReader, folder: Path, told: Soundness) -> None:
    bad = _bad_blobs(reader, folder, told)
    told.blobs += reader.beyond_index()
    named: set[str] = set()
    async for record in _readable(log):
        for name in blobs_of(record.event):
            if problem := bad.get(name) or await _absent(reader, name):
                named.add(name)
                told.found(
                    StoredFault(position=record.position, stream=record.stream, blob=name, problem=problem)
                )
    told.remains = len(bad.keys() - named)


def _bad_blobs(reader: BlobReader, folder: Path, told: Soundness) -> dict[str, str]:
    """Problems of blobs that are in the index, by name."""
    told.indexed = reader.index is not None
    bad = {}
    for step in verify_entries(folder, reader.index) if reader.index else ():
        told.blobs += not step.erased
        told.erased += step.erased
        if step.problem:
            bad[step.name] = step.problem
    return bad


async def _absent(reader: BlobReader, name: str) -> str:
    return "" if await reader.size(name) is not None else "the blob is missing"


async def _readable(log: SqliteLog) -> AsyncIterator[Recorded]:
    """All events that can be read; checking the log has named the others."""
    position = 0
    while position < (head := await _head(log)):
        try:
            records = await log.read(position, min(BATCH, head - position))
        except MailioError:
            records = await _one(log, position)
        for record in records:
            yield record
        position = records[-1].position if records else position + 1


async def _head(log: SqliteLog) -> int:
    try:
        return log.head
    except CorruptRecord:
        return 0


async def _one(log: SqliteLog, after: int) -> list[Recorded]:
    try:
        return await log.read(after, 1)
    except MailioError:
        return []
