"""One user's mailbox: files what the node accepted, keeps what the user's devices write."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from actors.messages import Consult, Inspect
from actors.runtime.aggregate import AggregateActor
from events import mailbox
from events.consent import NO_DEMANDS, Consent, Demands, consent_of_all
from events.event import Recorded
from events.log import failpoints
from events.log.log import Clock, Log, Origin, SnapshotStore
from events.mail import STREAM as MAIL_STREAM
from events.mail import MailAccepted
from events.mailbox import Command, FileMessage, Mailbox, StoredAttachment
from events.policy import Transport

KIND = "mailbox"

TOGETHER_BYTES = 4 << 20
"""Raw mail that one mailbox reads at the same time; parsed, it takes some three times as much memory."""


class ReadMail(msgspec.Struct, frozen=True, kw_only=True):
    """A raw message made into a document: what the mailbox keeps of it.

    `document` and the attachments' `blob` name blobs that are already on disk. `size` is in bytes. With
    `sealed`, nobody but the owner can read them.
    """

    document: str
    author: str
    message_id: str
    size: int
    attachments: tuple[StoredAttachment, ...] = ()
    defects: int = 0
    sealed: bool = False


class MailReader(Protocol):
    """Where raw messages are parsed: one for each transport."""

    async def read(self, blob: str, *, document_id: str, owner: str, received_at: int) -> ReadMail:
        """Parse the message and store its document and attachments; malformed input has defects."""


Author = tuple[str, bool]
"""Who wrote a message: the name, and whether it is a DID that the sender's server has signed."""

Told = Callable[[Recorded], None]
"""Hears of each filing once it is durable, for the operator."""


def _nobody(_: Recorded) -> None:
    """Hear nothing."""


class Books(Protocol):
    """Where handshake books are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


def document_id(mail_id: str, owner: str) -> str:
    """Compute the id of a received message's document: 64 hex digits.

    It depends on the node's own mail id, never on the sender's Message-ID: nobody can choose the id of a
    document in somebody else's database, or suppress another's message by repeating its id.
    """
    return hashlib.sha256(f"mail:{mail_id}:{owner}".encode()).hexdigest()


class MailboxActor(AggregateActor[Mailbox, Command]):
    """The mailbox of the owner `key` (a Mailio address)."""

    state_type = Mailbox
    state_schema = 3
    questions = (Inspect,)
    stream_of = staticmethod(mailbox.stream)
    initial = staticmethod(mailbox.initial)
    decide = staticmethod(mailbox.decide)
    evolve = staticmethod(mailbox.evolve)

    def __init__(
        self,
        key: str,
        log: Log,
        snapshots: SnapshotStore,
        *,
        reader: MailReader,
        signed_reader: MailReader | None = None,
        books: Books,
        clock: Clock,
        goodreads_percent: int,
        demands: Demands = NO_DEMANDS,
        told: Told = _nobody,
    ) -> None:
        super().__init__(key, log, snapshots)
        self._told = told
        self._readers = {Transport.SMTP: reader, Transport.MTP: signed_reader or reader}
        self._books = books
        self._clock = clock
        self._goodreads_percent = goodreads_percent
        self._demands = demands

    def handle(self, message: object) -> object:
        """Answer `Inspect` with the state."""
        match message:
            case Inspect():
                return self.state
            case _:
                raise TypeError(f"a mailbox is not told {type(message).__name__}")

    async def react(self, record: Recorded) -> list[Recorded]:
        """File an accepted mail."""
        return self._tell(await self.execute(await self._filing(record, {}), self._origin(record)))

    async def react_all(self, records: Sequence[Recorded]) -> None:
        """File accepted mails: read side by side, so that their documents share a sync, decided in order."""
        for some in _portions(records):
            known = {author: await self._consent(*author) for author in _authors(some)}
            filings = await asyncio.gather(
                *(self._filing(record, known) for record in some), return_exceptions=True
            )
            orders: list[tuple[Command, Origin]] = []
            for record, filing in zip(some, filings, strict=True):
                if isinstance(filing, BaseException):
                    raise filing
                orders.append((filing, self._origin(record)))
            self._tell(await self.execute_all(orders))

    def _tell(self, recorded: list[Recorded]) -> list[Recorded]:
        for record in recorded:
            self._told(record)
        return recorded

    def _origin(self, record: Recorded) -> Origin:
        return Origin(actor=f"{KIND}/{self.key}", cause=record.metadata, answers=True)

    @failpoints.after("mail-read")
    async def _filing(self, record: Recorded, known: dict[Author, Consent]) -> FileMessage:
        """Read an accepted mail, and ask the handshake book about its authors unless that is `known`."""
        accepted = record.event
        assert isinstance(accepted, MailAccepted)
        mail_id = record.stream.removeprefix(MAIL_STREAM)
        doc_id = document_id(mail_id, self.key)
        transport = Transport(accepted.transport)
        read = await self._readers[transport].read(
            accepted.blob, document_id=doc_id, owner=self.key, received_at=accepted.received_at
        )
        authors = accepted.authors or (read.author or accepted.envelope_sender,)
        did = transport is Transport.MTP
        consent = consent_of_all(
            [known.get((one, did)) or await self._consent(one, did) for one in dict.fromkeys(authors)]
        )
        return FileMessage(
            id=doc_id,
            mail=mail_id,
            transport=transport,
            sender=authors[0].lower(),
            standing=consent.standing,
            handshake=consent.handshake,
            level_met=self._demands.met_by(consent),
            frequency_minutes=self._demands.minutes(consent),
            authenticated=accepted.authenticated,
            spam=accepted.spam,
            introduction=accepted.introduces,
            document=read.document,
            attachments=read.attachments,
            size=read.size,
            filed_at=self._clock.now(),
            message_id=read.message_id,
            defects=read.defects,
            sealed=read.sealed,
            goodreads_percent=self._goodreads_percent,
        )

    async def _consent(self, sender: str, did: bool) -> Consent:
        if not sender:
            return Consent()
        consent = await self._books.ask("handshake", self.key, Consult(sender, did))
        assert isinstance(consent, Consent)
        return consent


def _authors(records: Sequence[Recorded]) -> list[Author]:
    """Return all authors that the doors have read, each once: a mailing list is asked about once a batch."""
    events = [record.event for record in records if isinstance(record.event, MailAccepted)]
    authors = ((one, each.transport == Transport.MTP) for each in events for one in each.authors)
    return list(dict.fromkeys(authors))


def _portions(records: Sequence[Recorded]) -> Iterator[list[Recorded]]:
    """Cut a batch so that what is parsed at the same time fits in `TOGETHER_BYTES`, or is one mail."""
    portion: list[Recorded] = []
    size = 0
    for record in records:
        assert isinstance(record.event, MailAccepted)
        if portion and size + record.event.size > TOGETHER_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(record)
        size += record.event.size
    yield portion
