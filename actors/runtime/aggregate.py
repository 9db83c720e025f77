"""The base of actors that keep one stream: state is folded from events, commands are decided on it.

A snapshot is a cache of the fold: taken behind the asker's back, ignored when it can't be read, worth nothing
but time. Events are folded when they are durable, so a failed append leaves the state as it was. Commands
that are executed together are decided on a supposed state: nobody sees it, and it is made anew if the
append fails.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from inspect import isawaitable
from types import CoroutineType
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from actors.messages import Execute, Refresh
from actors.runtime.loop_actor import LATER, LoopActor, report
from actors.runtime.reaction import React, ReactAll
from events.errors import AlreadyAnswered, CorruptRecord, MailioError, VersionConflict
from events.event import Event, Recorded
from events.log.log import Log, Origin, SnapshotStore, Write

State = TypeVar("State", bound=msgspec.Struct)
Command = TypeVar("Command")
Folded = TypeVar("Folded")

PAGE = 500
"""Events read at once when a stream is loaded."""

CONFLICTS = 8
"""Times a command is decided again after another writer was faster; two workers on one stream are rare."""


def fold(evolve: Callable[[Folded, Event], Folded], state: Folded, records: Iterable[Recorded]) -> Folded:
    """Apply the events of the records to a state, in order."""
    for record in records:
        state = evolve(state, record.event)
    return state


class AggregateActor(LoopActor, Generic[State, Command]):
    """One stream, its state, and who decides on it.

    Subclasses set the class attributes, define `stream_of`, `initial`, `decide`, `evolve`, and, as they need,
    `react` (an event of the log that concerns them) and `handle` (all other messages, such as queries that
    read `state`). All are called one at a time.
    """

    state_type: ClassVar[type[msgspec.Struct]]
    """What a snapshot is decoded to."""
    state_schema: ClassVar[int] = 1
    """Raised when `state_type` or the meaning of its members changes: older snapshots are then ignored."""
    snapshot_every: ClassVar[int] = 200
    """Events between two snapshots; reading 200 events costs about as much as a snapshot."""

    questions: ClassVar[tuple[type, ...]] = ()
    """Messages that `handle` answers from the state alone: an idle actor answers them at once."""

    state: State
    version: int

    def __init__(self, key: str, log: Log, snapshots: SnapshotStore) -> None:
        super().__init__()
        self.key = key
        self.log = log
        self.snapshots = snapshots
        self.stream = self.stream_of(key)
        self.state = self.initial(key)
        self.version = 0
        self._snapshot_version = 0
        self._supposing = False
        self._snapshot: asyncio.Task[None] | None = None

    @staticmethod
    @abstractmethod
    def stream_of(key: str) -> str:
        """Name the actor's stream."""

    @staticmethod
    @abstractmethod
    def initial(key: str) -> State:
        """Return the state before the first event."""

    @staticmethod
    @abstractmethod
    def decide(state: State, command: Command) -> Sequence[Event]:
        """Return what happens; raise when the command is refused. Pure."""

    @staticmethod
    @abstractmethod
    def evolve(state: State, event: Event) -> State:
        """Return the state after the event. Pure."""

    async def react(self, record: Recorded) -> Any:
        """Answer an event: append once, with `Origin(answers=True, cause=record.metadata)`."""
        raise NotImplementedError(f"{type(self).__name__} does not react to {type(record.event).__name__}")

    async def react_all(self, records: Sequence[Recorded]) -> None:
        """Answer several events, in their order. What is raised tells nothing about any one of them."""
        for record in records:
            with suppress(AlreadyAnswered):
                await self.react(record)

    def handle(self, message: Any) -> Any:
        """Answer any other message: at once, which costs no task, or with an awaitable."""
        raise NotImplementedError(f"{type(self).__name__} does not know {type(message).__name__}")

    def answer_now(self, message: Any) -> Any:
        """Answer one of the `questions`, unless the answer has to be waited for."""
        if self._supposing or not isinstance(message, self.questions):
            return LATER
        answer = self.handle(message)
        if isinstance(answer, CoroutineType):
            answer.close()
            return LATER
        return answer

    def on_receive(self, message: Any) -> Any:
        """Hand the message to `react`, `react_all`, `execute` or `handle`."""
        if self._supposing:
            return self._receive_anew(message)
        match message:
            case React(record=record):
                return self.react(record)
            case ReactAll(records=records):
                return self.react_all(records)
            case Execute(command=command, origin=origin, also=also):
                return self.execute(cast("Command", command), origin, extra=also)
            case Refresh():
                return self.refresh()
            case _:
                return self.handle(message)

    async def _receive_anew(self, message: Any) -> Any:
        await self._start_anew()
        answer = self.on_receive(message)
        return await answer if isawaitable(answer) else answer

    async def on_activate(self) -> None:
        """Restore the state: newest snapshot, then the events after it."""
        await self._restore_snapshot()
        await self.refresh()

    async def refresh(self) -> None:
        """Apply the events that the stream has and the state does not."""
        while page := await self.log.stream(self.stream, self.version, PAGE):
            self._apply(page)

    async def execute(
        self, command: Command, origin: Origin, *, extra: Sequence[Write] = ()
    ) -> list[Recorded]:
        """Decide, append (with `extra`, all or nothing), evolve; return all that was recorded.

        Raises what `decide` raises, AlreadyAnswered, StorageUnavailable; VersionConflict of another stream at
        once, of the own stream after `CONFLICTS` fresh decisions.
        """
        for left in reversed(range(CONFLICTS)):
            writes = self._writes(command, extra)
            if not writes:
                return []
            try:
                recorded = await self.log.append(*writes, origin=origin)
            except VersionConflict as conflict:
                if conflict.stream != self.stream or not left:
                    raise
                await self.refresh()
            except AlreadyAnswered:
                await self.refresh()
                raise
            else:
                self._apply([record for record in recorded if record.stream == self.stream])
                self._snapshot_if_due()
                return recorded
        raise AssertionError("unreachable")

    async def execute_all(self, orders: Sequence[tuple[Command, Origin]]) -> list[Recorded]:
        """Decide one command after the other, append all outcomes or none; return what was recorded.

        Raises the first error of `decide` or the log; the state is then what the log says.
        """
        self._supposing = True
        try:
            recorded = await self.log.append_all(self._suppose(orders))
        except Exception:
            await self._start_anew()
            raise
        self._supposing = False
        self._snapshot_if_due()
        return recorded

    def _suppose(self, orders: Sequence[tuple[Command, Origin]]) -> list[tuple[Write, Origin]]:
        """Return what the commands write, each decided and folded as if those before it were durable."""
        writes: list[tuple[Write, Origin]] = []
        for command, origin in orders:
            events = tuple(self.decide(self.state, command))
            if events:
                writes.append((Write(self.stream, events, self.version), origin))
            for event in events:
                self.state = self.evolve(self.state, event)
            self.version += len(events)
        return writes

    async def _start_anew(self) -> None:
        """Forget a supposed state. If that fails now, it is done before the next message."""
        self.state, self.version, self._snapshot_version = self.initial(self.key), 0, 0
        await self.on_activate()
        self._supposing = False

    def _writes(self, command: Command, extra: Sequence[Write]) -> list[Write]:
        events = tuple(self.decide(self.state, command))
        own = [Write(self.stream, events, self.version)] if events else []
        return [*own, *extra]

    def _apply(self, records: Sequence[Recorded]) -> None:
        if records:
            self.state = fold(self.evolve, self.state, records)
            self.version = records[-1].version

    async def _restore_snapshot(self) -> None:
        """Start from the newest snapshot if it can be read and the stream is as long as it says."""
        try:
            found = await self.snapshots.load(self.stream, self.state_schema)
            if found is None:
                return
            version, encoded = found
            state = msgspec.msgpack.decode(encoded, type=self.state_type)
        except (msgspec.MsgspecError, MailioError, OSError) as error:
            report(self.loop, f"snapshot of {self.stream} is ignored", error)
            return
        if not await self.log.stream(self.stream, version - 1, 1):
            report(
                self.loop,
                f"snapshot of {self.stream} is ignored",
                CorruptRecord("it is newer than its stream"),
            )
            return
        self.state = state  # type: ignore[assignment]  # decoded as state_type, which is State at run time
        self.version = self._snapshot_version = version

    def _snapshot_if_due(self) -> None:
        if self._snapshot is None and self.version - self._snapshot_version >= self.snapshot_every:
            # Encoded here and now: `evolve` may change the state in place while the saving waits its turn.
            encoded = msgspec.msgpack.encode(self.state)
            self._snapshot = self.loop.create_task(self._save_snapshot(encoded, self.version))

    async def _save_snapshot(self, encoded: bytes, version: int) -> None:
        try:
            await self.snapshots.save(self.stream, version, self.state_schema, encoded)
        except Exception as error:  # noqa: BLE001 - a cache miss later; reported, and tried again at the next interval
            report(self.loop, f"snapshot of {self.stream} was not saved", error)
        self._snapshot_version = version
        self._snapshot = None
