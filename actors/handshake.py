"""One owner's handshake book: follows the documents that the owner signs, answers for senders."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from actors.messages import Consult, Disclose, Inspect
from actors.runtime.aggregate import AggregateActor
from events import handshake
from events.consent import Consent
from events.errors import InvalidInput
from events.event import Recorded
from events.handshake import Book, Command, ForgetHandshake, RecordHandshake, Terms
from events.identity import SenderNames, handshake_id
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
    state_schema = 2
    questions = (Consult, Disclose, Inspect)
    stream_of = staticmethod(handshake.stream)
    initial = staticmethod(handshake.initial)
    decide = staticmethod(handshake.decide)
    evolve = staticmethod(handshake.evolve)

    def __init__(self, key: str, log: Log, snapshots: SnapshotStore, hashes: EmailHashes) -> None:
        super().__init__(key, log, snapshots)
        self._hashes = hashes

    def handle(self, message: object) -> object:
        """Answer `Consult` with a consent, `Disclose` with terms, `Inspect` with the state."""
        match message:
            case Consult():
                return self._consent(message)
            case Disclose(ids=ids):
                return self._disclosed(ids)
            case Inspect():
                return self.state
            case _:
                raise TypeError(f"a handshake book is not told {type(message).__name__}")

    def _consent(self, question: Consult) -> Consent | Awaitable[Consent]:
        """Say what the book holds; only where an email hash is needed the answer takes its time."""
        if not self.state.entries:
            return Consent()
        names = (SenderNames.of_did if question.did else SenderNames.of_email)(question.sender)
        found = self._under(names)
        if names.email and self.state.may_say_more_by_hash(found):
            return self._consent_by_hash(names)
        return found

    async def _consent_by_hash(self, names: SenderNames) -> Consent:
        try:
            email_hash = await self._hashes.hash(names.email)
        except InvalidInput:
            return self._under(names)
        return self._under(names, email_hash)

    def _under(self, names: SenderNames, *more: str) -> Consent:
        return self.state.consent(
            [handshake_id(self.key, one) for one in (*names.exact, *more)],
            against=[handshake_id(self.key, one) for one in names.against],
            domain=handshake_id(self.key, names.domain) if names.domain else "",
        )

    def _disclosed(self, ids: Sequence[str]) -> Terms | None:
        consent = self.state.consent(ids)
        return self.state.entries[consent.handshake] if consent.standing is Standing.ACCEPTED else None

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
