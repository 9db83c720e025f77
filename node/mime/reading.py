"""From an accepted blob to the stored document of one recipient: the mailbox actor's `MailReader`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

import msgspec

from actors.mailbox import ReadMail
from events.identity import userdb_name
from events.mailbox import StoredAttachment
from node.crypto.jwe import SealTo
from node.mime.document import message_document
from node.mime.limits import MimeLimits
from node.mime.mail import MailAttachment, ParsedMail
from node.mime.parser import parse
from node.mime.sealing import SEALED_TYPE, with_sealed_attachments
from node.storage.blobs import Blobs

LARGE_BYTES = 32_768
"""Messages from this size on are parsed in a thread: a newsletter of 59 KB takes 5 ms."""

FALLBACK_NAME = "attachment"


SealingOf = Callable[[str], Awaitable[SealTo | None]]
"""Says for an owner (Mailio address) to which key their mail is sealed; None where it is not."""


async def _never(_: str) -> SealTo | None:
    """Seal nobody's mail."""
    return None


class BlobMailReader:
    """Parses raw messages out of the blob store and puts their documents and attachments back into it."""

    def __init__(self, blobs: Blobs, limits: MimeLimits | None = None, sealing: SealingOf = _never) -> None:
        """Read from and write to `blobs`, sealed to the owner's key where `sealing` names one."""
        self._blobs = blobs
        self._sealing = sealing
        self._limits = limits or MimeLimits()

    async def read(self, blob: str, *, document_id: str, owner: str, received_at: int) -> ReadMail:
        """Parse the message and store its document and attachments; malformed input has defects.

        Raises StorageUnavailable, CorruptRecord, NotFound, Gone of the blobs.
        """
        raw = await self._blobs.read(blob)
        parsed = await self._parse(raw)
        seal_to = await self._sealing(owner)
        if seal_to is not None:
            parsed = with_sealed_attachments(parsed)
        names = _names(parsed.mail.attachments)
        folder = f"/{userdb_name(owner)}/{document_id}"
        parsed = _with_links(parsed, [f"{folder}/{quote(name, safe='')}" for name in names])
        document = message_document(parsed, id=document_id, received_at=received_at, seal_to=seal_to)
        stored = await self._blobs.write(document, *parsed.blobs, owners=(owner,))
        return ReadMail(
            document=stored[0],
            author=parsed.mail.from_.address,
            message_id=parsed.mail.message_id,
            size=len(document) + sum(map(len, parsed.blobs)),
            attachments=tuple(map(_stored, names, parsed.mail.attachments, parsed.blobs, stored[1:])),
            defects=len(parsed.mail.defects),
            sealed=seal_to is not None,
        )

    async def _parse(self, raw: bytes) -> ParsedMail:
        if len(raw) < LARGE_BYTES:
            return parse(raw, self._limits)
        return await asyncio.to_thread(parse, raw, self._limits)


def distinct_names(wanted: Sequence[str]) -> list[str]:
    """Name each attachment within its document: the file name, made unique, never with `_` in front."""
    names: dict[str, None] = {}
    # Where to look on for the same name: a thousand parts of one name would cost seconds from the beginning.
    numbers: dict[str, int] = {}
    for filename in wanted:
        plain = filename.lstrip("_") or FALLBACK_NAME
        number = numbers.get(plain, 1)
        name = plain if number == 1 else f"{number}-{plain}"
        while name in names:
            number += 1
            name = f"{number}-{plain}"
        names[name], numbers[plain] = None, number
    return list(names)


def _names(attachments: Sequence[MailAttachment]) -> list[str]:
    """Name each attachment within its document; a sealed one by its id, which says nothing."""
    if any(attachment.id for attachment in attachments):
        return [attachment.id for attachment in attachments]
    return distinct_names([attachment.filename for attachment in attachments])


def _with_links(parsed: ParsedMail, links: Sequence[str]) -> ParsedMail:
    """Let each attachment's `contentUrl` be the path under which the sync door serves it."""
    attachments = [
        msgspec.structs.replace(attachment, content_url=link)
        for attachment, link in zip(parsed.mail.attachments, links, strict=True)
    ]
    mail = msgspec.structs.replace(parsed.mail, attachments=attachments)
    return msgspec.structs.replace(parsed, mail=mail)


def _stored(name: str, attachment: MailAttachment, content: bytes, blob: str) -> StoredAttachment:
    digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return StoredAttachment(
        name=name,
        content_type=SEALED_TYPE if attachment.key else attachment.content_type,
        length=len(content),
        digest=f"md5-{digest}",
        blob=blob,
    )
