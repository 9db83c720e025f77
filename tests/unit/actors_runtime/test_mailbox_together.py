"""A mailbox that gets many accepted mails at once: read side by side within bounds, filed in order, once."""

from __future__ import annotations

import asyncio

import pytest

from actors import mailbox
from actors.mailbox import MailboxActor, ReadMail
from actors.messages import Consult
from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.reaction import ReactAll
from events.consent import Consent
from events.errors import CorruptRecord
from events.event import Recorded
from events.log.clock import VirtualClock
from events.log.log import Log, Origin, Write
from events.mail import MailAccepted, Recipient, stream
from events.mailbox import MessageFiled
from tests.fakes.memory_log import MemorySnapshots

OWNER = "0x" + "a" * 40


class Reader:
    """Notes how many mails were read at the same time; `broken` ones can't be read."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self.broken: set[str] = set()

    async def read(self, blob: str, *, document_id: str, owner: str, received_at: int) -> ReadMail:
        if blob in self.broken:
            raise CorruptRecord("the stored content is damaged", blob)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return ReadMail(document=f"doc-{blob}", author="", message_id="", size=10)


class Books:
    """A handshake book that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, kind: str, key: str, message: object) -> object:
        assert isinstance(message, Consult)
        self.asked.append(message.sender)
        return Consent()


class Setup:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.reader = Reader()
        self.books = Books()
        self.system = ActorSystem(ActorLimits(), VirtualClock())
        self.system.register(mailbox.KIND, self._mailbox)

    def _mailbox(self, key: str) -> MailboxActor:
        return MailboxActor(
            key,
            self.log,
            MemorySnapshots(),
            reader=self.reader,
            books=self.books,
            clock=VirtualClock(),
            goodreads_percent=30,
        )

    async def accept(self, *sizes: int) -> tuple[Recorded, ...]:
        records = []
        for number, size in enumerate(sizes):
            event = MailAccepted(
                transport="smtp",
                blob=f"{number}",
                size=size,
                recipients=(Recipient(OWNER, "o@a.example"),),
                authors=(f"author{number % 2}@b.example",),
                received_at=1,
            )
            records += await self.log.append(Write(stream(f"m{number}"), (event,)), origin=Origin(actor="t"))
        return tuple(records)

    async def filed(self) -> list[str]:
        events = [record.event for record in await self.log.stream(f"mailbox-{OWNER}")]
        return [event.document for event in events if isinstance(event, MessageFiled)]


async def test_small_mails_are_read_side_by_side_and_filed_in_order(log: Log) -> None:
    setup = Setup(log)
    mails = await setup.accept(*[100] * 20)
    await setup.system.ask(mailbox.KIND, OWNER, ReactAll(mails))
    assert await setup.filed() == [f"doc-{number}" for number in range(20)]
    assert setup.reader.most == 20


async def test_the_book_is_asked_once_a_batch_about_each_author(log: Log) -> None:
    setup = Setup(log)
    mails = await setup.accept(*[100] * 20)
    await setup.system.ask(mailbox.KIND, OWNER, ReactAll(mails))
    assert setup.books.asked == ["author0@b.example", "author1@b.example"]


async def test_large_mails_are_not_in_memory_at_the_same_time(log: Log) -> None:
    setup = Setup(log)
    half = mailbox.TOGETHER_BYTES // 2
    mails = await setup.accept(half, half, half, mailbox.TOGETHER_BYTES * 9, 1, 1, 1)
    await setup.system.ask(mailbox.KIND, OWNER, ReactAll(mails))
    assert setup.reader.most == 3
    assert await setup.filed() == [f"doc-{number}" for number in range(7)]


async def test_a_mail_that_can_not_be_read_stops_the_batch_before_anything_is_filed(log: Log) -> None:
    setup = Setup(log)
    mails = await setup.accept(*[100] * 5)
    setup.reader.broken = {"3"}
    with pytest.raises(CorruptRecord):
        await setup.system.ask(mailbox.KIND, OWNER, ReactAll(mails))
    assert await setup.filed() == []
