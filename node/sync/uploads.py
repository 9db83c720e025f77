"""Files that clients upload by themselves, outside of any message (wire spec sections 5.4 and 6.5).

Each is an attachment of a document of its own in the user's database, `upload:<key>`: facts, quota, sync,
export and erasure are those of every document, and the bytes are a blob like any other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from actors import mailbox
from actors.messages import Execute, Inspect
from events.errors import Forbidden, NotFound
from events.identity import userdb_name
from events.log.log import Clock, Origin
from events.mailbox import DocumentDraft, Mailbox, StoredAttachment, WriteDocuments, require_room
from node.storage.blobs import Blobs
from projections.revision import computed
from projections.view_store import Document, Documents

UPLOAD_ID: Final = "upload:"
"""What the id of such a document begins with."""

FILE: Final = "file"
"""Name of the attachment in it."""

OBJECTS: Final = "/api/v1/objects/"
"""Path below which they are served: `/api/v1/objects/<address>/<key>`."""

_KEY = re.compile(r"[0-9a-f]{32}_[0-9]{8}t[0-9]{6}")
_DOCUMENT_PATH = re.compile(r"/(userdb-[0-9a-f]{84})/([^/]+)/([^/]+)")


class Actors(Protocol):
    """Where mailboxes are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class Visible(Protocol):
    """How far the users' databases have come."""

    async def __call__(self, view: str, position: int) -> None:
        """Return when a view contains every event up to a position."""


class _Upload(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    created: int
    object_key: str


def is_key(text: str) -> bool:
    """Whether the text is the key of an upload: nothing in it is the client's choice."""
    return _KEY.fullmatch(text) is not None


class Uploads:
    """Stores, finds and forgets uploads."""

    def __init__(
        self,
        *,
        actors: Actors,
        documents: Documents,
        blobs: Blobs,
        reached: Visible,
        clock: Clock,
        quota: int,
    ) -> None:
        """`documents` is the view of the users' databases; `quota` is in bytes."""
        self._actors = actors
        self._documents = documents
        self._blobs = blobs
        self._reached = reached
        self._clock = clock
        self._quota = quota

    async def store(self, owner: str, key: str, content: bytes, content_type: str) -> None:
        """Keep the bytes under a key; a second time replaces them. Raises MailboxFull, StorageUnavailable."""
        now = self._clock.now()
        body = msgspec.json.encode(_Upload("upload", now, key), order="sorted")
        stored = await self._documents.get(userdb_name(owner), UPLOAD_ID + key)
        await self._require_room(owner, len(body) + len(content) - _size(stored))
        names = await self._blobs.write(body, content, owners=(owner,))
        parent = stored.winner.rev if stored else None
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        file = StoredAttachment(
            name=FILE,
            content_type=content_type,
            length=len(content),
            digest=f"md5-{digest}",
            blob=names[1],
            revpos=_generation(parent) + 1,
        )
        rev = computed(parent, deleted=False, body=body, attachments=(file,))
        draft = DocumentDraft(
            id=UPLOAD_ID + key,
            revisions=(rev, parent) if parent else (rev,),
            kind="upload",
            document=names[0],
            attachments=(file,),
            size=len(body) + len(content),
            replaced=_size(stored),
        )
        await self._write(owner, draft, Origin(actor=f"client/{owner}"))

    async def _require_room(self, owner: str, grows: int) -> None:
        """Ask before: bytes that nobody may keep would fill the disk, whatever the quota."""
        box = await self._actors.ask(mailbox.KIND, owner, Inspect())
        assert isinstance(box, Mailbox)
        require_room(owner, box.used, grows, self._quota)

    async def _write(self, owner: str, draft: DocumentDraft, origin: Origin) -> None:
        command = WriteDocuments((draft,), self._clock.now(), quota=self._quota)
        recorded = await self._actors.ask(mailbox.KIND, owner, Execute(command, origin))
        assert isinstance(recorded, list)
        await self._reached("userdb", recorded[-1].position)

    async def read(self, owner: str, link: str) -> bytes:
        """Return the bytes behind a link of the owner's own: an upload's, or a document's attachment's.

        Only the path counts, and only below what belongs to the owner (wire spec section 10.3, S15). Raises
        Forbidden, NotFound.
        """
        document, name = _place(owner, link)
        stored = await self._documents.get(userdb_name(owner), document)
        for file in stored.winner.attachments if stored and not stored.winner.deleted else ():
            if file.name == name:
                return await self._blobs.read(file.blob)
        raise NotFound("attachment not found")

    async def forget(self, owner: str, link: str, origin: Origin) -> None:
        """Delete an upload of the owner's; whatever else a link names is left alone."""
        key = urlsplit(link).path.rpartition("/")[2]
        stored = await self._documents.get(userdb_name(owner), UPLOAD_ID + key) if is_key(key) else None
        if stored is None or stored.winner.deleted:
            return
        parent = stored.winner.rev
        rev = computed(parent, deleted=True, body=b"{}")
        draft = DocumentDraft(
            id=stored.id, revisions=(rev, parent), kind="upload", deleted=True, replaced=_size(stored)
        )
        await self._write(owner, draft, origin)


def _place(owner: str, link: str) -> tuple[str, str]:
    """Return (document id, attachment name) of a link. Raises Forbidden."""
    path = urlsplit(link).path
    prefix = f"{OBJECTS}{owner}/"
    if path.startswith(prefix) and is_key(path.removeprefix(prefix)):
        return UPLOAD_ID + path.removeprefix(prefix), FILE
    found = _DOCUMENT_PATH.fullmatch(path)
    if found is not None and found[1] == userdb_name(owner):
        return unquote(found[2]), unquote(found[3])
    raise Forbidden("the attachment is not the sender's")


def _generation(rev: str | None) -> int:
    return int(rev.partition("-")[0]) if rev else 0


def _size(stored: Document | None) -> int:
    if stored is None or stored.winner.deleted:
        return 0
    return len(stored.winner.body) + sum(file.length for file in stored.winner.attachments)
