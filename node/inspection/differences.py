"""What changed for one owner between two places of the log, and which event did it."""

from __future__ import annotations

from typing import Any

import msgspec

from events import account, handshake, mailbox
from events.account import (
    AccountDisabled,
    AccountEnabled,
    AccountErased,
    AccountOpened,
    DatabasePasswordChanged,
    PasskeyAdded,
    PasskeyUsed,
    ProfileChanged,
    SmartKeyStored,
    TokenRevoked,
)
from events.event import Event, Recorded
from events.handshake import HandshakeAccepted, HandshakeForgotten, HandshakeRequested, HandshakeRevoked
from events.mailbox import (
    DocumentWritten,
    FolderCreated,
    FolderRemoved,
    FolderRenamed,
    InterestShown,
    MessageFiled,
    MessageSent,
)
from events.policy import Folder
from node.inspection.people import Owner
from node.inspection.phrases import phrase
from node.inspection.states import Past, flattened, state_of

Path = tuple[str, ...]


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the time between: where it stands, who appended it, and what it did in words."""

    position: int
    at: int
    type: str
    actor: str
    text: str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A value of the state that is another now (None: none), and the position of the last event on it."""

    path: Path
    before: Any
    after: Any
    by: int | None = None


class Touched(msgspec.Struct, kw_only=True):
    """A document or folder that events were about: how it was, how it is, and what happened to it."""

    id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    deeds: list[Deed] = []


class Difference(msgspec.Struct, kw_only=True):
    """Everything that changed."""

    changes: list[Changed]
    documents: list[Touched]
    others: list[Deed]


def difference(owner: Owner, before: Past, after: Past) -> Difference:
    """Compare two states of an owner. Memory grows with what happened between, not with the mailbox."""
    records = sorted(_between(owner.address, before, after), key=lambda record: record.position)
    documents = {name: Touched(id=name) for record in records if (name := _document(record.event))}
    _look_back(owner.address, before, documents)
    others: list[Deed] = []
    culprits: list[tuple[Path, int]] = []
    for record in records:
        culprits += [(path, record.position) for path in _concerns(record.event)]
        touched = documents.get(_document(record.event))
        if touched is None:
            others.append(_deed(record, None))
        else:
            touched.deeds.append(_deed(record, touched.after))
            touched.after = _shown(record.event, touched.after)
    return Difference(
        changes=_changes(state_of(owner, before), state_of(owner, after), culprits),
        documents=list(documents.values()),
        others=others,
    )


def _between(owner: str, before: Past, after: Past) -> list[Recorded]:
    streams = (account.stream(owner), handshake.stream(owner), mailbox.stream(owner))
    return [record for stream in streams for record in after.since(stream, before.position)]


def _look_back(owner: str, before: Past, documents: dict[str, Touched]) -> None:
    """Find out how the documents were before."""
    if not documents:
        return
    for record in before.records(mailbox.stream(owner)):
        touched = documents.get(_document(record.event))
        if touched is not None:
            touched.before = touched.after = _shown(record.event, touched.before)


def _deed(record: Recorded, before: dict[str, Any] | None) -> Deed:
    return Deed(
        position=record.position,
        at=record.metadata.at,
        type=type(record.event).__name__,
        actor=record.metadata.actor,
        text=phrase(record.event, before),
    )


def _document(event: Event) -> str:
    """Name the document or folder that an event is about, "" for none."""
    match event:
        case MessageFiled() | MessageSent() | DocumentWritten():
            return event.id
        case FolderCreated() | FolderRenamed() | FolderRemoved():
            return f"folder:{event.id}"
        case InterestShown():
            return event.message
        case _:
            return ""


def _shown(event: Event, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what is known of a document after an event; None when it is gone."""
    match event:
        case MessageFiled():
            return {"kind": "message", "folder": event.folder.value, "reason": event.reason.value}
        case MessageSent(document=name) if name:
            return {"kind": "message", "folder": Folder.SENT.value}
        case DocumentWritten(deleted=True) | FolderRemoved():
            return None
        case DocumentWritten():
            shown = {
                "kind": event.kind,
                "folder": event.folder,
                "read": event.read,
                "rev": event.revisions[0],
            }
            return {name: value for name, value in shown.items() if value not in {"", None}}
        case FolderCreated() | FolderRenamed():
            return {"kind": "folder", "name": event.name}
        case _:
            return before


def _concerns(event: Event) -> list[Path]:
    """Return the paths of the state that an event changes."""
    match event:
        case MessageFiled():
            return [
                ("mailbox", "usedBytes"),
                ("mailbox", "filed"),
                ("mailbox", "correspondents", event.sender),
            ]
        case MessageSent():
            others: list[Path] = [("mailbox", "correspondents", one) for one in event.recipients]
            return [("mailbox", "usedBytes"), *others]
        case DocumentWritten():
            return [("mailbox", "usedBytes")]
        case InterestShown():
            return [("mailbox", "correspondents", event.sender)]
        case FolderCreated() | FolderRenamed() | FolderRemoved():
            return [("mailbox", "folders", event.id)]
        case HandshakeAccepted() | HandshakeRevoked() | HandshakeRequested():
            return [("handshake", event.terms.id)]
        case HandshakeForgotten():
            return [("handshake", event.id)]
        case _:
            return [("account", *path) for path in _of_account(event)]


def _of_account(event: Event) -> list[Path]:
    match event:
        case AccountOpened() | AccountErased():
            return [()]
        case AccountDisabled() | AccountEnabled():
            return [("enabled",)]
        case ProfileChanged():
            return [("profile",), ("social",), ("profileChanged",)]
        case PasskeyAdded():
            return [("passkeys", event.passkey.id)]
        case PasskeyUsed():
            return [("passkeys", event.id)]
        case SmartKeyStored():
            return [("smartKey",)]
        case DatabasePasswordChanged():
            return [("password",)]
        case TokenRevoked():
            return [("revokedTokens",)]
        case _:
            return []


def _changes(
    before: dict[str, Any], after: dict[str, Any], culprits: list[tuple[Path, int]]
) -> list[Changed]:
    old, new = dict(flattened(before)), dict(flattened(after))
    by = dict(culprits)
    return [
        Changed(path=path, before=old.get(path), after=new.get(path), by=_culprit(path, by))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path) and not _is_better_known(path, old, new)
    ]


def _is_better_known(path: Path, old: dict[Path, Any], new: dict[Path, Any]) -> bool:
    """Whether only the name is new under which we know an entry of the book: nothing happened to it."""
    return path[-1] == "sender" and path in old and path in new


def _culprit(path: Path, by: dict[Path, int]) -> int | None:
    """Return the last event on a value, or on the table that it is in."""
    found = [by[path[:length]] for length in range(1, len(path) + 1) if path[:length] in by]
    return max(found, default=None)
