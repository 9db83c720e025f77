"""Events, and records of them, with sensible defaults: a test names only what matters to it."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from events import account, mailbox
from events.account import (
    AccountDisabled,
    AccountEnabled,
    AccountMoved,
    AccountOpened,
    DatabasePasswordChanged,
    EmailClaimed,
    ProfileChanged,
)
from events.errors import NotFound
from events.event import Event, Metadata, Recorded
from events.log.log import Origin, Write
from events.mailbox import (
    DocumentWritten,
    FolderCreated,
    FolderRemoved,
    FolderRenamed,
    InterestShown,
    MessageFiled,
    StoredAttachment,
)
from events.policy import Folder, Reason, Transport

OWNER = "0x446f4461302935ad8387d0349b726bf7dbbc5118"
OTHER = "0xb229e972e494372e5c1952f0b058041669f6623a"
SENDER = "friend@beta.example"
EMAIL = "someone@alpha.example"
EMAIL_HASH = base64.b64encode(hashlib.sha256(b"someone").digest()).decode()
TIME = 1_760_000_000_000
ORIGIN = Origin(actor="test")

_numbers = itertools.count(1)


class Blobs:
    """Bodies in memory by the hash of their content. Exceptions in `faults` are raised by the next reads."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.faults: list[Exception] = []

    def put(self, body: bytes) -> str:
        name = hashlib.sha256(body).hexdigest()
        self.bodies[name] = body
        return name

    def put_json(self, **members: Any) -> str:
        return self.put(canonical(members))

    async def read(self, name: str) -> bytes:
        if self.faults:
            raise self.faults.pop(0)
        if name not in self.bodies:
            raise NotFound("no such blob", name)
        return self.bodies[name]


def canonical(members: Any) -> bytes:
    return msgspec.json.encode(members, order="sorted")


def recorded(event: Event, position: int = 1, stream: str = "", at: int = TIME) -> Recorded:
    """A record as the log gives it back. The hash chain is not of interest here."""
    ident = f"{position:032x}"
    return Recorded(
        position=position,
        stream=stream or stream_of(event),
        version=position,
        event=event,
        metadata=Metadata(id=ident, at=at, actor="test", correlation=ident),
        hash=b"",
    )


def stream_of(event: Event) -> str:
    """The stream that an event of `OWNER` belongs to."""
    if isinstance(event, EmailClaimed):
        return account.email_stream(event.email)
    if isinstance(event, AccountOpened):
        return account.stream(event.address)
    if type(event).__module__ == account.__name__:
        return account.stream(OWNER)
    return mailbox.stream(OWNER)


def writes(events: Sequence[Event], owner: str = OWNER) -> tuple[Write, ...]:
    """What a test appends to a log, for the mailbox or account of `owner`."""
    return tuple(Write(stream_of(event).replace(OWNER, owner), (event,)) for event in events)


def message_filed(blobs: Blobs, **members: Any) -> MessageFiled:
    number = next(_numbers)
    given: dict[str, Any] = {
        "id": f"message-{number}",
        "mail": f"mail-{number}",
        "transport": Transport.SMTP,
        "sender": SENDER,
        "folder": Folder.INBOX,
        "reason": Reason.FIRST_CONTACT,
        "size": 100,
        "filed_at": TIME + number,
    } | members
    if "document" not in given:
        given["document"] = blobs.put_json(**{"from": given["sender"], "id": given["id"]})
    return MessageFiled(**given)


def document_written(blobs: Blobs, *revisions: str, **members: Any) -> DocumentWritten:
    """A device's revision; `body` (a dict) is put into the blobs."""
    body = members.pop("body", None)
    given: dict[str, Any] = {
        "id": "document-1",
        "revisions": revisions or ("1-a",),
        "kind": "own",
        "document": blobs.put(canonical(body)) if body is not None else "",
    }
    return DocumentWritten(**given | members)


def interest_shown(sender: str = SENDER, message: str = "message-1") -> InterestShown:
    return InterestShown(sender=sender, message=message)


def folder_created(id: str = "f1", name: str = "Family", at: int = TIME) -> FolderCreated:  # noqa: A002
    return FolderCreated(id=id, name=name, at=at)


def folder_renamed(id: str = "f1", name: str = "Friends", at: int = TIME) -> FolderRenamed:  # noqa: A002
    return FolderRenamed(id=id, name=name, at=at)


def folder_removed(id: str = "f1") -> FolderRemoved:  # noqa: A002
    return FolderRemoved(id=id)


def stored_attachment(name: str = "photo.png", **members: Any) -> StoredAttachment:
    given: dict[str, Any] = {
        "name": name,
        "content_type": "image/png",
        "length": 3,
        "digest": "md5-rL0Y20zC+Fzt72VPzMSk2A==",
        "blob": "ab" * 32,
    }
    return StoredAttachment(**given | members)


def account_opened(**members: Any) -> AccountOpened:
    address = members.get("address", OWNER)
    given: dict[str, Any] = {
        "address": address,
        "email": EMAIL,
        "email_hash": EMAIL_HASH,
        "signing_key": base64.b64encode(b"s" * 32).decode(),
        "agreement_key": base64.b64encode(b"a" * 32).decode(),
        "did_document": f'{{"id":"did:mailio:{address}","@context":["c"]}}',
        "credential": f'{{"id":"credential-of-{address}","type":["VerifiableCredential"]}}',
        "password_hash": "hash-1",
        "opened_at": TIME,
        "display_name": "Someone",
    }
    return AccountOpened(**given | members)


def email_claimed(email: str = EMAIL, address: str = OWNER) -> EmailClaimed:
    return EmailClaimed(email=email, address=address)


def account_moved(**members: Any) -> AccountMoved:
    given: dict[str, Any] = {
        "address": OWNER,
        "email": "someone@new.example",
        "email_hash": base64.b64encode(hashlib.sha256(b"someone new").digest()).decode(),
        "did_document": f'{{"id":"did:mailio:{OWNER}"}}',
        "credential": '{"id":"credential-of-the-new-home","type":["VerifiableCredential"]}',
        "moved_at": TIME + 3,
    }
    return AccountMoved(**given | members)


def account_disabled(reason: str = "") -> AccountDisabled:
    return AccountDisabled(reason=reason)


def account_enabled() -> AccountEnabled:
    return AccountEnabled()


def profile_changed(
    profile: dict[str, str] | None = None, social: dict[str, str] | None = None, at: int = TIME + 5
) -> ProfileChanged:
    return ProfileChanged(profile=profile or {}, social=social or {}, changed_at=at)


def password_changed(password_hash: str = "hash-2") -> DatabasePasswordChanged:
    return DatabasePasswordChanged(password_hash=password_hash)
