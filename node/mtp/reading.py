"""From a federated message to the stored document of one recipient (wire spec sections 3.3.5 and 6.4).

Each recipient has a copy of its own. Attachments leave the message and become files of the document, under
links that the sync door serves; links that a sender puts there are dropped, for a client would follow them.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from actors.mailbox import ReadMail
from events.identity import userdb_name
from events.mailbox import StoredAttachment
from node.mime.content import safe_filename
from node.mime.reading import distinct_names
from node.mtp.message import Attachment, AttachmentData, DidCommMessage
from node.mtp.stored import message_of
from node.mtp.working import worked
from node.storage.blobs import Blobs

CONTENT_TYPE: Final = "application/octet-stream"
"""What is in an attachment only its recipient can tell: it is encrypted."""


class MessageDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The document without `_id`, `folder` and `created`, which the projection adds.

    `id` is the node's; the sender's own id is in the message.
    """

    id: str
    from_: str = msgspec.field(name="from")
    did_comm_message: DidCommMessage
    is_replied: bool = False


class _File(msgspec.Struct, frozen=True):
    """An attachment's bytes, and their MD5, which documents name and nothing relies on."""

    name: str
    content: bytes
    digest: bytes


class SignedMailReader:
    """The mailbox actor's `MailReader` for messages of peers."""

    def __init__(self, blobs: Blobs) -> None:
        """Read from and write to `blobs`."""
        self._blobs = blobs

    async def read(self, blob: str, *, document_id: str, owner: str, received_at: int) -> ReadMail:
        """Store the message's document and attachments for its owner.

        Raises StorageUnavailable, CorruptRecord, NotFound, Gone of the blobs.
        """
        raw = await self._blobs.read(blob)
        folder = f"/{userdb_name(owner)}/{document_id}"
        message, files = await worked(len(raw), _taken_apart, raw, folder)
        document = _document(message, document_id)
        stored = await self._blobs.write(document, *(file.content for file in files), owners=(owner,))
        return ReadMail(
            document=stored[0],
            author=message.from_,
            message_id=message.id,
            size=len(document) + sum(len(file.content) for file in files),
            attachments=tuple(map(_stored, files, stored[1:])),
        )


def _taken_apart(raw: bytes, folder: str) -> tuple[DidCommMessage, list[_File]]:
    """Separate the message from its files; `folder` is the path under which they will be found."""
    message = message_of(raw)
    found = message.attachments
    names = distinct_names(
        [safe_filename(attachment.id, CONTENT_TYPE, number) for number, attachment in enumerate(found, 1)]
    )
    files = [_file(name, one.data.base64 or "") for name, one in zip(names, found, strict=True)]
    linked = [
        Attachment(attachment.id, _linked(file, folder))
        for attachment, file in zip(found, files, strict=True)
    ]
    return msgspec.structs.replace(message, attachments=linked), files


def _file(name: str, text: str) -> _File:
    content = base64.b64decode(text)
    return _File(name, content, hashlib.md5(content, usedforsecurity=False).digest())


def _linked(file: _File, folder: str) -> AttachmentData:
    links = [f"{folder}/{quote(file.name, safe='')}"]
    return AttachmentData(hash=file.digest.hex(), base64=UNSET, links=links)


def _document(message: DidCommMessage, document_id: str) -> bytes:
    document = MessageDocument(
        id=document_id, from_=message.from_, did_comm_message=message, is_replied=bool(message.pthid)
    )
    return msgspec.json.encode(document, order="sorted")


def _stored(file: _File, blob: str) -> StoredAttachment:
    return StoredAttachment(
        name=file.name,
        content_type=CONTENT_TYPE,
        length=len(file.content),
        digest=f"md5-{base64.b64encode(file.digest).decode()}",
        blob=blob,
    )
