"""Messages: lists by time, single ones, and parsing a mail for a client (MIR-9)."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Annotated, Any, Final

import msgspec

from events.errors import NotFound
from events.identity import userdb_name
from events.policy import Folder
from node.api.route import Auth, Call, Route
from node.core import Core
from node.crypto.base64_text import from_base64
from node.mime.document import MESSAGE_TYPE
from node.mime.limits import MimeLimits
from node.mime.mail import Address, Mail
from node.mime.parser import parse
from projections.view_store import Document

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
"""Messages in one list: at 20 KB each 2 MB of JSON."""

MAX_SKIP: Final = 200
"""Messages passed over: those of one millisecond. Further back one pages with `to`."""

SLICE: Final = 25
"""Messages read before others get their turn: about 2 ms."""

PARSE_BYTES: Final = 16_777_216
"""Body of a parse request: a mail of 12 MB. Larger ones a client can take apart itself."""

PARSERS: Final = 2
"""Mails parsed at once: with their text and base64 some 100 MB at most."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class MessagesQuery(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Which messages: stored between two times (both belong to the range), in one folder or in all."""

    from_: Milliseconds = 0
    to: Milliseconds = 2**53
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    skip: Annotated[int, msgspec.Meta(ge=0, le=MAX_SKIP)] = 0
    folder: Annotated[str, msgspec.Meta(max_length=200)] = ""


class MessageEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message in the members of MIR-9, and the document that the clients replicate.

    `contentType` is `mime` or the type of an encrypted message; the content itself is in
    `document.didCommMessage`. `messageId` is that of the mail's header. Times in milliseconds.
    """

    id: str
    owner_address_hex: str
    folder: str
    read: bool
    content_type: str
    content_source: str
    created: int
    modified: int = 0
    from_: str = msgspec.field(name="from", default="")
    message_id: str = ""
    subject: str = ""
    reason: str = ""
    document: dict[str, Any]


class MimeRequest(msgspec.Struct, frozen=True):
    """A mail as base64 of its bytes."""

    mime: str


class Header(msgspec.Struct, frozen=True):
    """A header field, unfolded."""

    name: str
    value: str


class ParsedMime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mail taken apart: the overview of MIR-9, and in `body` the mail as clients read it."""

    content_type: str
    headers: list[Header]
    subject: str
    sender: str
    message_id: str
    date_as_string: str
    date: str
    to: list[str]
    all_recipients: list[str]
    body: Mail


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    id: str = ""
    plain_body_base64: str = ""


class _Stored(msgspec.Struct, rename="camel"):
    """What a list needs of a message document (wire spec section 6.4)."""

    folder: str
    created: int
    did_comm_message: _Envelope = _Envelope()
    from_: str = msgspec.field(name="from", default="")
    modified: int = 0
    is_read: bool = False
    reason: str = ""


class _Summary(msgspec.Struct, rename="camel"):
    message_id: str = ""
    subject: str = ""


class MessageRoutes:
    """Routes of the own messages."""

    def __init__(self, core: Core) -> None:
        self._store = core.views.stores["userdb"]
        self._mime = core.settings.smtp.mime
        self._parsers = asyncio.Semaphore(PARSERS)

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/message",
                summary="Messages, newest first; page with `to` or `skip`",
                tag="messages",
                handler=self.all,
                query=MessagesQuery,
                answer=list[MessageEntry],
                auth=Auth.TOKEN,
                aliases=("/v1/message",),
            ),
            Route(
                method="GET",
                path="/api/v1/message/{id}",
                summary="One message",
                tag="messages",
                handler=self.one,
                answer=MessageEntry,
                auth=Auth.TOKEN,
                refusals=(404,),
                aliases=("/v1/message/{id}",),
            ),
            Route(
                method="POST",
                path="/api/v1/parsemime",
                summary="Take a mail apart; nothing is stored",
                tag="messages",
                handler=self.parse,
                body=MimeRequest,
                answer=ParsedMime,
                auth=Auth.TOKEN,
                aliases=("/v1/parsemime",),
                body_bytes=PARSE_BYTES,
            ),
        ]

    async def all(self, call: Call[MessagesQuery, None]) -> list[MessageEntry]:
        """List messages. Without a folder, of all but the handshakes."""
        newest: list[MessageEntry] = []
        for folder in await self._folders(call):
            newest = await self._with_folder(newest, call, folder)
        return newest[call.query.skip :]

    async def _folders(self, call: Call[MessagesQuery, None]) -> list[str]:
        if call.query.folder:
            return [call.query.folder]
        counts = await self._store.folder_counts(userdb_name(call.address))
        return [folder for folder in counts if folder != Folder.HANDSHAKE]

    async def _with_folder(
        self, newest: list[MessageEntry], call: Call[MessagesQuery, None], folder: str
    ) -> list[MessageEntry]:
        """Add a folder's messages to the newest of other folders, as long as they are among the newest.

        Read slice by slice, so that neither many folders nor full ones cost memory.
        """
        query, database = call.query, userdb_name(call.address)
        wanted = query.skip + query.limit
        for start in range(0, wanted, SLICE):
            oldest = newest[-1].created if len(newest) == wanted else query.from_
            documents = await self._store.in_folder(
                database, folder, created_from=oldest, created_to=query.to, skip=start, limit=SLICE
            )
            found = [entry for document in documents if (entry := _entry(document, call.address))]
            newest = sorted(newest + found, key=_age, reverse=True)[:wanted]
            if len(documents) < SLICE:
                break
            await asyncio.sleep(0)
        return newest

    async def one(self, call: Call[None, None]) -> MessageEntry:
        """Return one message. Raises NotFound, for documents that are no messages too."""
        database, ident = userdb_name(call.address), call.path("id")
        document = await self._store.get(database, ident)
        entry = _entry(document, call.address) if document and not document.winner.deleted else None
        if entry is None:
            raise NotFound("message not found")
        return entry

    async def parse(self, call: Call[None, MimeRequest]) -> ParsedMime:
        """Parse a mail in a thread; malformed ones have defects. Raises InvalidInput for bad base64."""
        async with self._parsers:
            return await asyncio.to_thread(_taken_apart, call.body.mime, self._mime)


def _age(entry: MessageEntry) -> tuple[int, str]:
    return entry.created, entry.id


def _entry(document: Document, owner: str) -> MessageEntry | None:
    """Make a list entry; None for a document that is no message."""
    try:
        stored = msgspec.json.decode(document.winner.body, type=_Stored)
    except msgspec.MsgspecError:
        return None
    envelope = stored.did_comm_message
    plain = envelope.type == MESSAGE_TYPE
    summary = _summary(envelope) if plain else _Summary(message_id=envelope.id)
    members = {"_id": document.id, "_rev": document.winner.rev, **_members(document.winner.body)}
    return MessageEntry(
        id=document.id,
        owner_address_hex=owner,
        folder=stored.folder,
        read=stored.is_read,
        content_type="mime" if plain else envelope.type,
        content_source="document",
        created=stored.created,
        modified=stored.modified,
        from_=stored.from_,
        message_id=summary.message_id,
        subject=summary.subject,
        reason=stored.reason,
        document=members,
    )


def _summary(envelope: _Envelope) -> _Summary:
    """Read the header's words out of a plain mail; a client may have written anything there."""
    try:
        return msgspec.json.decode(b64decode(envelope.plain_body_base64), type=_Summary)
    except (msgspec.MsgspecError, ValueError):
        return _Summary()


def _taken_apart(mime: str, limits: MimeLimits) -> ParsedMime:
    return _overview(parse(from_base64(mime, limit=PARSE_BYTES), limits).mail)


def _overview(mail: Mail) -> ParsedMime:
    first = {name: values[0] for name, values in mail.headers.items()}
    return ParsedMime(
        content_type=first.get("Content-Type", "text/plain").partition(";")[0].strip().lower(),
        headers=[Header(name, value) for name, values in mail.headers.items() for value in values],
        subject=mail.subject,
        sender=_written(mail.from_),
        message_id=mail.message_id,
        date_as_string=first.get("Date", ""),
        date=first.get("Date", ""),
        to=[address.address for address in mail.to],
        all_recipients=[address.address for address in (*mail.to, *mail.cc, *mail.bcc)],
        body=mail,
    )


def _written(address: Address) -> str:
    return f"{address.name} <{address.address}>" if address.name else address.address
