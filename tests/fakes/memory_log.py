"""A small faithful log in memory: the port's contract, and faults on order. Also a checkpoint and a snapshot store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from events.errors import AlreadyAnswered, VersionConflict
from events.event import Erased, Event, Metadata, Recorded
from events.log.clock import VirtualClock
from events.log.log import ANY_VERSION, Clock, Origin, Write


class MemoryLog:
    """Implements `events.log.log.Log`. Exceptions put into `faults` are raised by the next appends, one each.

    An append yields to the loop before it decides, as a group commit does; `syncs` yields more often.
    """

    def __init__(self, clock: Clock | None = None, syncs: int = 1) -> None:
        self.clock = clock or VirtualClock()
        self.syncs = syncs
        self.faults: list[Exception] = []
        self.records: list[Recorded] = []
        self._streams: dict[str, list[Recorded]] = {}
        self._answers: set[str] = set()
        self._grown = asyncio.Event()

    @property
    def head(self) -> int:
        return len(self.records)

    async def append(self, *writes: Write, origin: Origin) -> list[Recorded]:
        await self._sync()
        recorded = self._append(writes, origin, {})
        self._ring()
        return recorded

    async def append_all(self, orders: Sequence[tuple[Write, Origin]]) -> list[Recorded]:
        await self._sync()
        versions: dict[str, int] = {}
        for write, origin in orders:
            self._ids(origin, len(write.events))
            self._check([write], versions)
        recorded = [record for write, origin in orders for record in self._append([write], origin, {})]
        self._ring()
        return recorded

    async def _sync(self) -> None:
        for _ in range(self.syncs):
            await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)

    def _append(self, writes: Sequence[Write], origin: Origin, versions: dict[str, int]) -> list[Recorded]:
        ids = self._ids(origin, sum(len(write.events) for write in writes))
        self._check(writes, versions)
        self._note_answer(origin, len(ids))
        recorded: list[Recorded] = []
        for write in writes:
            recorded += [self._record(write.stream, event, ids.pop(0), origin) for event in write.events]
        return recorded

    def _ring(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _ids(self, origin: Origin, count: int) -> list[str]:
        if not origin.answers or origin.cause is None:
            return [self.clock.event_id() for _ in range(count)]
        answer = f"{origin.actor}\n{origin.cause.id}"
        if answer in self._answers:
            raise AlreadyAnswered(origin.actor, origin.cause.id)
        return [hashlib.sha256(f"{answer}\n{n}".encode()).hexdigest()[:32] for n in range(count)]

    def _note_answer(self, origin: Origin, count: int) -> None:
        if origin.answers and origin.cause is not None and count:
            self._answers.add(f"{origin.actor}\n{origin.cause.id}")

    def _check(self, writes: Sequence[Write], versions: dict[str, int]) -> None:
        for write in writes:
            actual = versions.get(write.stream, len(self._streams.get(write.stream, ())))
            if write.expected not in (ANY_VERSION, actual):
                raise VersionConflict(write.stream, write.expected, actual)
            versions[write.stream] = actual + len(write.events)

    def _record(self, stream: str, event: Event, event_id: str, origin: Origin) -> Recorded:
        own = self._streams.setdefault(stream, [])
        cause = origin.cause
        metadata = Metadata(
            id=event_id,
            at=self.clock.now(),
            actor=origin.actor,
            correlation=cause.correlation if cause else event_id,
            causation=cause.id if cause else "",
        )
        record = Recorded(
            position=len(self.records) + 1,
            stream=stream,
            version=len(own) + 1,
            event=event,
            metadata=metadata,
            hash=b"",
        )
        own.append(record)
        self.records.append(record)
        return record

    def erase(self, name: str) -> None:
        """Let the events of a stream read as those of somebody who was erased."""
        for record in self._streams[name]:
            gone = msgspec.structs.replace(record, event=Erased(type=type(record.event).__name__))
            self.records[record.position - 1] = gone
        self._streams[name] = [record for record in self.records if record.stream == name]

    async def stream(self, name: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        own = self._streams.get(name, [])[max(after, 0) :]
        return own if limit is None else own[:limit]

    async def read(self, after: int, limit: int = 500, types: Collection[str] = ()) -> list[Recorded]:
        found = (r for r in self.records[after:] if not types or type(r.event).__name__ in types)
        return [record for record, _ in zip(found, range(limit), strict=False)]

    async def subscribe(self, after: int, batch: int = 500) -> AsyncIterator[Sequence[Recorded]]:
        while True:
            grown = self._grown
            if page := await self.read(after, batch):
                after = page[-1].position
                yield page
            else:
                await grown.wait()


class MemoryCheckpoints:
    """Implements `actors.runtime.reaction.CheckpointStore`."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.faults: list[Exception] = []

    async def load(self, name: str) -> int:
        return self.positions.get(name, 0)

    async def save(self, name: str, position: int) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.positions[name] = position


class MemorySnapshots:
    """Implements `events.log.log.SnapshotStore`."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, int], tuple[int, bytes]] = {}

    async def load(self, stream: str, schema: int) -> tuple[int, bytes] | None:
        return self.taken.get((stream, schema))

    async def save(self, stream: str, version: int, schema: int, state: bytes) -> None:
        self.taken[stream, schema] = (version, state)
