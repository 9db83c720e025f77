"""The raw message of one accepted mail: erased when every mailbox that got it has sealed it to its owner."""

from __future__ import annotations

from typing import Protocol

from actors.runtime.aggregate import AggregateActor
from events import original
from events.event import Recorded
from events.log.log import Log, Origin, SnapshotStore
from events.mailbox import STREAM as MAILBOX_STREAM
from events.mailbox import MessageFiled
from events.original import Original, Release

KIND = "original"


class Eraser(Protocol):
    """Where raw messages are kept."""

    async def destroy(self, name: str) -> None:
        """Overwrite a blob for good; harmless when repeated."""


class OriginalActor(AggregateActor[Original, Release]):
    """The raw message of the mail `key`."""

    state_type = Original
    stream_of = staticmethod(original.stream)
    initial = staticmethod(original.initial)
    decide = staticmethod(original.decide)
    evolve = staticmethod(original.evolve)

    def __init__(self, key: str, log: Log, snapshots: SnapshotStore, eraser: Eraser) -> None:
        super().__init__(key, log, snapshots)
        self._eraser = eraser

    async def react(self, record: Recorded) -> list[Recorded]:
        """Let go of the raw message for one mailbox, whose document is durable; erase it after the last."""
        assert isinstance(record.event, MessageFiled)
        owner = record.stream.removeprefix(MAILBOX_STREAM)
        if not self.state.needed_without(owner):
            # Before the event: what the event says is then true, and a repetition finds nothing to do.
            await self._eraser.destroy(self.state.blob)
        return await self.execute(
            Release(owner), Origin(actor=f"{KIND}/{self.key}", cause=record.metadata, answers=True)
        )
