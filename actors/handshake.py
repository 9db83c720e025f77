"""One owner's handshake book: follows the documents that the owner signs, answers for senders."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from actors.messages import Consult, Inspect
from actors.runtime.aggregate import AggregateActor
from events import handshake
from events.event import Recorded
from events.handshake import Book, Command, ForgetHandshake, RecordHandshake
from events.identity import handshake_ids
from events.log.log import Log, Origin, SnapshotStore
from events.mailbox import DocumentWritten
from events.policy import Standing

KIND = "handshake"


class EmailHashes(Protocol):
    """Where email hashes are computed: slow on purpose, so only asked when a book needs one."""

    async def hash(self, email: str) -> str:
        """Return the hash of wire spec section 1.8."""


class HandshakeActor(AggregateActor[Book, Command]):
    """The handshake book of the owner `key` (a Mailio address)."""

    state_type = Book
    questions = (Consult, Inspect)
    stream_of = staticmethod(handshake.stream)
    initial = staticmethod(handshake.initial)
    decide = staticmethod(handshake.decide)
    evolve = staticmethod(handshake.evolve)

    def __init__(self, key: str, log: Log, snapshots: SnapshotStore, hashes: EmailHashes) -> None:
        super().__init__(key, log, snapshots)
        self._hashes = hashes

    def handle(self, message: object) -> object:
        """Answer `Consult` with a standing and `Inspect` with the state."""
        match message:
            case Consult():
                return self._standing(message)
            case Inspect():
                return self.state
            case _:
                raise TypeError(f"a handshake book is not told {type(message).__name__}")

    def _standing(self, question: Consult) -> Standing | Awaitable[Standing]:
        """Say what the book holds; only where an email hash is needed the answer takes its time."""
        if not self.state.entries:
            return Standing.UNKNOWN
        ids = [one for text in question.identities for one in handshake_ids(self.key, did=text)]
        found = self.state.standing(ids)
        if found is not Standing.UNKNOWN or not question.email or not self.state.needs_email_hash:
            return found
        return self._standing_by_hash(question.email)

    async def _standing_by_hash(self, email: str) -> Standing:
        email_hash = await self._hashes.hash(email)
        return self.state.standing(handshake_ids(self.key, email_hash=email_hash))

    async def react(self, record: Recorded) -> list[Recorded]:
        """Follow what the owner's devices wrote."""
        written = record.event
        assert isinstance(written, DocumentWritten)
        origin = Origin(actor=f"{KIND}/{self.key}", cause=record.metadata, answers=True)
        if written.handshake is not None:
            return await self.execute(RecordHandshake(written.handshake), origin)
        return await self.execute(ForgetHandshake(written.id), origin)


def is_about_handshakes(record: Recorded) -> bool:
    """Whether a written document concerns its owner's handshake book."""
    written = record.event
    return isinstance(written, DocumentWritten) and (written.handshake is not None or written.forgotten)
