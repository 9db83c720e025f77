"""Which message is meant by a mail id, a document id or a Message-ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from events import mail, mailbox
from events.errors import MailioError
from events.event import Recorded
from events.log.chain import Row
from events.log.codec import Codec
from events.log.reading import PAGE_ROWS, LogReader
from events.mail import MailAccepted
from events.mailbox import DocumentWritten, MessageFiled, MessageSent

MAX_STORIES = 20
"""Messages told about at once: a Message-ID is its sender's choice, and may be repeated for ever."""

Show = Callable[[int, int], None]
"""Told (position reached, last position) as a search goes on."""


class Found(msgspec.Struct, frozen=True):
    """A message: its accepted mail if it came by mail, or the mailbox and the id of a written document."""

    accepted: Recorded | None
    owner: str = ""
    document: str = ""


async def find(reader: LogReader, codec: Codec, wanted: str, owner: str, show: Show) -> list[Found]:
    """Return the messages that are meant, at most `MAX_STORIES`, in the order of the log.

    With `owner` (a Mailio address) only that mailbox is read, else the whole log, unless `wanted` is a mail
    id. Records that can't be decoded are passed over.
    """
    search = _Search(reader, codec, wanted)
    accepted = search.accepted(wanted.removeprefix(mail.STREAM))
    if accepted is not None:
        return [Found(accepted)]
    rows = _in_mailbox(reader, owner) if owner else _everywhere(reader, show)
    async for row in rows:
        search.look(row)
        if len(search.found) >= MAX_STORIES:
            break
    return list(search.found.values())


async def _in_mailbox(reader: LogReader, owner: str) -> AsyncIterator[Row]:
    for number, row in enumerate(reader.stream(mailbox.stream(owner))):
        if number % PAGE_ROWS == 0:
            await asyncio.sleep(0)
        yield row


async def _everywhere(reader: LogReader, show: Show) -> AsyncIterator[Row]:
    types = tuple(kind.__name__ for kind in (MailAccepted, MessageFiled, MessageSent, DocumentWritten))
    end = reader.head.position
    for page in reader.pages(upto=end, types=types):
        await asyncio.sleep(0)
        for row in page:
            yield row
        if page:
            show(page[-1].position, end)


class _Search:
    """Collects what is meant. A message by mail is found once, under the stream of its mail."""

    def __init__(self, reader: LogReader, codec: Codec, wanted: str) -> None:
        self.found: dict[str, Found] = {}
        self._reader = reader
        self._codec = codec
        self._wanted = wanted
        self._filed: set[str] = set()

    def accepted(self, mail_id: str) -> Recorded | None:
        """Return the accepted mail with this id."""
        for row in self._reader.stream(mail.stream(mail_id)):
            record = self._decoded(row)
            if record and isinstance(record.event, MailAccepted):
                return record
        return None

    def look(self, row: Row) -> None:
        """See whether a record belongs to what is wanted."""
        record = self._decoded(row)
        match record.event if record else None:
            case MailAccepted(message_id=message_id) if self._is_meant(message_id):
                self.found.setdefault(row.stream, Found(record))
            case MessageFiled() as filed if filed.id == self._wanted or self._is_meant(filed.message_id):
                self._add_filed(row, filed)
            case MessageSent(id=self._wanted):
                owner = row.stream.removeprefix(mailbox.STREAM)
                self.found.setdefault(row.stream, Found(None, owner, self._wanted))
            case DocumentWritten(id=self._wanted) if row.stream not in self._filed:
                owner = row.stream.removeprefix(mailbox.STREAM)
                self.found.setdefault(row.stream, Found(None, owner, self._wanted))

    def _add_filed(self, row: Row, filed: MessageFiled) -> None:
        self._filed.add(row.stream)
        owner = row.stream.removeprefix(mailbox.STREAM)
        key = mail.stream(filed.mail)
        self.found.setdefault(key, Found(self.accepted(filed.mail), owner, filed.id))

    def _is_meant(self, message_id: str) -> bool:
        return bool(message_id) and _bare(message_id) == _bare(self._wanted)

    def _decoded(self, row: Row) -> Recorded | None:
        try:
            return self._codec.decode(row)
        except MailioError:
            return None


def _bare(message_id: str) -> str:
    return message_id.strip().strip("<>")
