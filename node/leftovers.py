"""What an older program stored readably about an account: records and blobs that no key can erase."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from events import account, handshake, mail, mailbox
from events.log.sqlite_log import SqliteLog
from events.mailbox import MessageFiled
from node.mentioned import blobs_of

SHOWN = 20
"""Positions and names that a report names; the rest is counted."""


class Sealed(Protocol):
    """Where blobs are asked."""

    async def is_sealed(self, name: str) -> bool:
        """Whether a blob is sealed."""


class Leftovers(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many records and blobs, and where the first of them are: log positions, blob names."""

    records: int = 0
    positions: tuple[int, ...] = ()
    blobs: int = 0
    names: tuple[str, ...] = ()


async def unsealed_traces(log: SqliteLog, blobs: Sealed, address: str) -> Leftovers:
    """Look through all that the log has of an account. Raises StorageUnavailable."""
    positions: list[int] = []
    names: set[str] = set()
    async for stream in _streams(log, address):
        positions += await log.unsealed(stream)
        for record in await log.stream(stream):
            names.update(blobs_of(record.event))
    # Records and blobs began to be sealed on the same day: no readable record, no readable blob.
    readable = [name for name in sorted(names) if positions and not await blobs.is_sealed(name)]
    return Leftovers(
        records=len(positions),
        positions=tuple(sorted(positions)[:SHOWN]),
        blobs=len(readable),
        names=tuple(readable[:SHOWN]),
    )


async def _streams(log: SqliteLog, address: str) -> AsyncIterator[str]:
    """Names of the streams that say something about an account."""
    yield account.stream(address)
    yield handshake.stream(address)
    yield mailbox.stream(address)
    for record in await log.stream(account.stream(address)):
        if isinstance(record.event, account.AccountOpened):
            yield account.email_stream(record.event.email)
    for record in await log.stream(mailbox.stream(address)):
        if isinstance(record.event, MessageFiled):
            yield mail.stream(record.event.mail)
