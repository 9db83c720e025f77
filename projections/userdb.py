"""The documents that a user's clients replicate (wire spec sections 4.4, 6.3 and 6.4; folders: MIR-8).

What a device wrote is materialised with the device's own revision. What the node writes gets a revision
computed from its parent and its content, so that a rebuild gives the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.account import AccountErased
from events.delivery import DeliveryEvent
from events.errors import CorruptRecord
from events.event import Recorded
from events.identity import userdb_name
from events.mailbox import (
    STREAM,
    DocumentWritten,
    FolderCreated,
    FolderRemoved,
    FolderRenamed,
    MessageFiled,
    MessageSent,
    StoredAttachment,
)
from events.policy import Folder
from projections import deliveries
from projections.revision import computed
from projections.view_store import Attachment, Change, Document, Documents, Effect, Forget

FOLDER_ID = "folder:"
"""What the id of a folder's document begins with."""

Members = dict[str, msgspec.Raw]
"""A JSON object taken apart at its first level only: values keep their bytes."""

_members = msgspec.json.Decoder(Members).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class Blobs(Protocol):
    """Where the bodies are that events name."""

    async def read(self, name: str) -> bytes:
        """Return the bytes of a blob. Raises NotFound, CorruptRecord, StorageUnavailable."""


class UserDatabases:
    """View `userdb`: one database `userdb-<hex>` for each mailbox.

    A filed message gets `folder`, `created` and `reason` (why it is in that folder) beside what its blob
    says; a sent one gets `folder` and `created`, and a document about its deliveries beside it
    (`projections.deliveries`). Folders are documents `folder:<id>`: `{"type": "folder", "id", "name",
    "created", "modified"}`.
    """

    name = "userdb"
    schema = 2
    types = (
        frozenset(
            event.__name__
            for event in (
                MessageFiled,
                MessageSent,
                DocumentWritten,
                FolderCreated,
                FolderRenamed,
                FolderRemoved,
                AccountErased,
            )
        )
        | deliveries.TYPES
    )

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
        """Return the one change that the event makes. Raises what `Blobs.read` raises, and CorruptRecord."""
        database = userdb_name(record.stream.removeprefix(STREAM))
        match record.event:
            case MessageFiled() as filed:
                return [_message(filed, await self._blobs.read(filed.document), database, record.position)]
            case MessageSent(document=name) as sent if name:
                return [_sent(sent, await self._blobs.read(name), database, record.position)]
            case DocumentWritten() as written:
                body = await self._blobs.read(written.document) if written.document else b"{}"
                return [_written(written, body, database, record.position)]
            case FolderCreated() | FolderRenamed() | FolderRemoved() as event:
                stored = await documents.get(database, FOLDER_ID + event.id)
                return [_folder(event, stored, database, record.position)]
            case AccountErased(address=address):
                return [Forget(database=userdb_name(address))]
            case event if isinstance(event, DeliveryEvent):
                return await deliveries.told(record, event, documents)
            case _:
                return []


def _message(filed: MessageFiled, document: bytes, database: str, seq: int) -> Change:
    body = spliced(
        document,
        {"id": filed.id, "created": filed.filed_at, "folder": filed.folder, "reason": filed.reason},
    )
    attachments = _attachments(filed.attachments)
    return Change(
        database=database,
        id=filed.id,
        seq=seq,
        revisions=(computed(None, deleted=False, body=body, attachments=attachments),),
        body=body,
        attachments=attachments,
    )


def _sent(sent: MessageSent, document: bytes, database: str, seq: int) -> Change:
    body = spliced(document, {"id": sent.id, "created": sent.sent_at, "folder": Folder.SENT})
    return Change(
        database=database,
        id=sent.id,
        seq=seq,
        revisions=(computed(None, deleted=False, body=body),),
        body=body,
    )


def _written(written: DocumentWritten, body: bytes, database: str, seq: int) -> Change:
    return Change(
        database=database,
        id=written.id,
        seq=seq,
        revisions=written.revisions,
        body=body,
        deleted=written.deleted,
        attachments=_attachments(written.attachments),
    )


_FolderEvent = FolderCreated | FolderRenamed | FolderRemoved


def _folder(event: _FolderEvent, stored: Document | None, database: str, seq: int) -> Change:
    parent = stored.winner.rev if stored else None
    if isinstance(event, FolderRemoved):
        deleted, body = True, b"{}"
    else:
        at = "modified" if isinstance(event, FolderRenamed) else "created"
        before = stored.winner.body if stored and not stored.winner.deleted else b"{}"
        # What a client added to the document (a colour, an order) stays.
        members: dict[str, str | int] = {"type": "folder", "id": event.id, "name": event.name}
        deleted, body = False, spliced(before, members | {at: event.at})
    rev = computed(parent, deleted=deleted, body=body)
    return Change(
        database=database,
        id=FOLDER_ID + event.id,
        seq=seq,
        revisions=(rev, parent) if parent else (rev,),
        body=body,
        deleted=deleted,
    )


def spliced(document: bytes, members: dict[str, str | int]) -> bytes:
    """Set first-level members of a canonical JSON object; every other value keeps its bytes.

    Large numbers and floats thus stay as written. Raises CorruptRecord when it is no JSON object.
    """
    try:
        found = _members(document)
    except msgspec.MsgspecError as error:
        raise CorruptRecord("a stored document is not a JSON object", str(error)) from error
    return _encode(found | members)


def _attachments(stored: Sequence[StoredAttachment]) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            name=file.name,
            content_type=file.content_type,
            length=file.length,
            digest=file.digest,
            blob=file.blob,
            revpos=file.revpos,
        )
        for file in stored
    )
