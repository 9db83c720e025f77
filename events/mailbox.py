"""One user's mailbox: what was filed there, and what the user's own devices wrote.

The state is thin on purpose: totals and counters per correspondent, never the messages themselves.
Those are documents, and documents belong to the projections.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.errors import Conflict, InvalidInput, LimitExceeded, MailboxFull, NotFound
from events.event import Event
from events.handshake import Terms
from events.identity import DAY_MS
from events.policy import Case, Folder, Reason, Standing, Transport, Verdict, judge

STREAM = "mailbox-"

MAX_FOLDERS = 200
"""Folders that a user may add: more than anyone sorts into, few enough for one aggregate."""

MAX_FOLDER_NAME = 100
"""Characters in a folder's name."""


def stream(key: str) -> str:
    """Name of the stream of one mailbox."""
    return STREAM + key


class StoredAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to a document. `blob` names its bytes, `digest` is `md5-<base64>`."""

    name: str
    content_type: str
    length: int
    digest: str
    blob: str
    revpos: int = 1


class MessageFiled(Event, frozen=True, kw_only=True):
    """A message came to rest in a folder, for a reason.

    `id` is the document id in the user's database, `mail` the id of the accepted mail. `document` names
    the blob that holds the document without `folder` and `created`. `size` counts against the quota: the
    bytes of the document as it is stored, and of its attachments. `defects` counts what was wrong with
    the message's form. `standing` is what the handshake book said about the authors, None in records of a
    program that did not keep it. `handshake` is the id of the one whose agreed frequency the message was held
    against, "" where none limits it. With `sealed`, document and attachments are encrypted to the owner's
    key.
    """

    id: str
    mail: str
    transport: Transport
    sender: str
    folder: Folder
    reason: Reason
    document: str
    attachments: tuple[StoredAttachment, ...] = ()
    size: int
    filed_at: int
    message_id: str = ""
    defects: int = 0
    standing: Standing | None = None
    handshake: str = ""
    sealed: bool = False


class MessageSent(Event, frozen=True, kw_only=True):
    """The user sent a message; its deliveries were promised in the same append.

    `id` is the id of the message and of its document. `document` names the blob that holds the document
    without `folder` and `created`, "" where none is kept (wire spec section 3.3.7, step 6). `recipients` are
    DIDs and emails in lower case; `size` counts against the quota.
    """

    id: str
    document: str = ""
    recipients: tuple[str, ...]
    intent: str
    size: int = 0
    sent_at: int


class DocumentWritten(Event, frozen=True, kw_only=True):
    """One of the user's devices wrote a revision of a document.

    `revisions` is the path of that revision, newest first, exactly as the client has it. `document`
    names the blob with the body ("" when the body is empty). `kind` tells what it is for readers of the
    log. `size` and `replaced` are the bytes that the document takes now and took before. `handshake`
    holds the verified terms when the document is a handshake, `forgotten` is true when it was one and is
    gone. `read` is the read mark of a message, None where the document has none. `device` tells where it
    came from: the client's address and what it calls itself.
    """

    id: str
    revisions: tuple[str, ...]
    kind: str
    document: str = ""
    deleted: bool = False
    attachments: tuple[StoredAttachment, ...] = ()
    size: int = 0
    replaced: int = 0
    folder: str = ""
    written_at: int = 0
    handshake: Terms | None = None
    forgotten: bool = False
    read: bool | None = None
    device: str = ""


class InterestShown(Event, frozen=True, kw_only=True):
    """The user found a message of this sender worth reading."""

    sender: str
    message: str


class FolderCreated(Event, frozen=True, kw_only=True):
    """The user added a folder (MIR-8)."""

    id: str
    name: str
    at: int = 0


class FolderRenamed(Event, frozen=True, kw_only=True):
    """The user gave a folder another name."""

    id: str
    name: str
    at: int = 0


class FolderRemoved(Event, frozen=True, kw_only=True):
    """The user removed an empty folder."""

    id: str


class FileMessage(msgspec.Struct, frozen=True, kw_only=True):
    """File a message that the node has accepted. Times in milliseconds.

    `size` is in bytes, of the blob `document` and the attachments. `handshake`, `level_met` and
    `frequency_minutes` are the terms of the accepted handshake under which it comes, if there is one.
    """

    id: str
    mail: str
    transport: Transport
    sender: str
    standing: Standing
    document: str
    size: int
    filed_at: int
    authenticated: bool | None = None
    spam: bool = False
    own: bool = False
    introduction: bool = False
    goodreads_percent: int = 30
    attachments: tuple[StoredAttachment, ...] = ()
    message_id: str = ""
    defects: int = 0
    handshake: str = ""
    level_met: bool = True
    frequency_minutes: int = 0
    sealed: bool = False


class SendMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Keep a message that is being sent; the members are those of `MessageSent`, and a quota (0: none)."""

    id: str
    document: str = ""
    recipients: tuple[str, ...]
    intent: str
    size: int = 0
    sent_at: int
    quota: int = 0


class DocumentDraft(msgspec.Struct, frozen=True, kw_only=True):
    """One revision that a device wrote; the members mean what they mean in `DocumentWritten`."""

    id: str
    revisions: tuple[str, ...]
    kind: str
    document: str = ""
    deleted: bool = False
    attachments: tuple[StoredAttachment, ...] = ()
    size: int = 0
    replaced: int = 0
    folder: str = ""
    handshake: Terms | None = None
    forgotten: bool = False
    read: bool | None = None


class WriteDocuments(msgspec.Struct, frozen=True):
    """Keep what a device wrote, all or nothing; the door has checked that it may.

    `at` is in milliseconds, `quota` in bytes (0: none), `device` as in `DocumentWritten`.
    """

    drafts: tuple[DocumentDraft, ...]
    at: int
    quota: int = 0
    device: str = ""


class ShowInterest(msgspec.Struct, frozen=True):
    """Count a message as read with interest; the same message counts once."""

    sender: str
    message: str


class CreateFolder(msgspec.Struct, frozen=True):
    """Add a folder with this id and name at this time (ms)."""

    id: str
    name: str
    at: int


class RenameFolder(msgspec.Struct, frozen=True):
    """Give a folder another name."""

    id: str
    name: str
    at: int


class RemoveFolder(msgspec.Struct, frozen=True):
    """Remove a folder; `messages` is how many are in it now."""

    id: str
    messages: int


Command = (
    FileMessage | SendMessage | WriteDocuments | ShowInterest | CreateFolder | RenameFolder | RemoveFolder
)


class Correspondent(msgspec.Struct):
    """What passed between the owner and one other: messages each way, and those read with interest.

    `interest` holds the messages' ids in short form, so that each counts once.
    """

    received: int = 0
    sent: int = 0
    interest: set[str] = set()


class Pace(msgspec.Struct, frozen=True):
    """How a sender keeps to an agreed frequency: when (ms) the last message counted, and what came since."""

    counted_at: int
    set_aside: int = 0


class Mailbox(msgspec.Struct):
    """State of one mailbox. `used` is in bytes, `paces` are by handshake id.

    `sent_today` messages were sent on `sent_day`, a UTC day counted from the epoch.
    """

    owner: str
    used: int = 0
    filed: int = 0
    correspondents: dict[str, Correspondent] = {}
    folders: dict[str, str] = {}
    paces: dict[str, Pace] = {}
    sent_day: int = 0
    sent_today: int = 0

    def quiet_ms(self, handshake: str, now: int) -> int | None:
        """Time (ms) since the last message that counted under a handshake, None where there was none."""
        pace = self.paces.get(handshake)
        return now - pace.counted_at if pace else None

    def set_aside(self, handshake: str) -> int:
        """Messages under a handshake that came too early since the last one that counted."""
        pace = self.paces.get(handshake)
        return pace.set_aside if pace else 0

    def sent_to(self, other: str) -> int:
        """Messages to `other`, a bare identifier (wire spec section 4.5), wherever their server is."""
        named = {other, *(name for name in self.correspondents if name.endswith(f"#{other}"))}
        return sum(self.correspondent(name).sent for name in named)

    def sent_on(self, at: int) -> int:
        """Messages that were sent on the UTC day of `at` (ms), if that is the last day with any."""
        return self.sent_today if at // DAY_MS == self.sent_day else 0

    def correspondent(self, other: str) -> Correspondent:
        """Return what passed between the owner and `other`; all zero for a stranger."""
        return self.correspondents.get(other) or Correspondent()


def initial(key: str) -> Mailbox:
    """Return an empty mailbox."""
    return Mailbox(owner=key)


def verdict(state: Mailbox, command: FileMessage) -> Verdict:
    """Ask the policy where an accepted message belongs."""
    other = state.correspondent(command.sender)
    return judge(
        Case(
            transport=command.transport,
            answered=True,
            standing=command.standing,
            authenticated=command.authenticated,
            spam=command.spam,
            own=command.own,
            introduction=command.introduction,
            sent=other.sent,
            received=other.received,
            interest=len(other.interest),
            goodreads_percent=command.goodreads_percent,
            level_met=command.level_met,
            frequency_minutes=command.frequency_minutes,
            quiet_ms=state.quiet_ms(command.handshake, command.filed_at),
            set_aside=state.set_aside(command.handshake),
        )
    )


def decide(state: Mailbox, command: Command) -> Sequence[Event]:
    """Say what happened because of a command.

    Raises InvalidInput, LimitExceeded, NotFound and Conflict for what a user may not do.
    """
    match command:
        case FileMessage():
            return [_file(state, command)]
        case SendMessage():
            return [_send(state, command)]
        case WriteDocuments():
            return _write(state, command)
        case ShowInterest():
            return _show_interest(state, command)
        case CreateFolder():
            return [_create_folder(state, command)]
        case RenameFolder():
            return _rename_folder(state, command)
        case RemoveFolder():
            return [_remove_folder(state, command)]


def _file(state: Mailbox, command: FileMessage) -> Event:
    ruling = verdict(state, command)
    return MessageFiled(
        id=command.id,
        mail=command.mail,
        transport=command.transport,
        sender=command.sender,
        folder=ruling.folder or Folder.INBOX,
        reason=ruling.reason,
        document=command.document,
        attachments=command.attachments,
        size=command.size + _filing_bytes(command.filed_at, ruling),
        filed_at=command.filed_at,
        message_id=command.message_id,
        defects=command.defects,
        standing=command.standing,
        handshake=command.handshake if command.frequency_minutes else "",
        sealed=command.sealed,
    )


def _filing_bytes(filed_at: int, ruling: Verdict) -> int:
    """Bytes that the members about the filing add to a document: what is counted is what is stored."""
    return len(f'"created":{filed_at},"folder":"{ruling.folder}","reason":"{ruling.reason}",')


def require_room(owner: str, used: int, grows: int, quota: int) -> None:
    """Raise MailboxFull when a mailbox with `used` bytes may not grow by so many (`quota` 0: it may)."""
    if grows > 0 and quota and used + grows > quota:
        raise MailboxFull("mailbox full: delete something first", f"{owner} uses {used} bytes")


def _send(state: Mailbox, command: SendMessage) -> Event:
    require_room(state.owner, state.used, command.size, command.quota)
    members = msgspec.structs.asdict(command)
    del members["quota"]
    return MessageSent(**members)


def _write(state: Mailbox, command: WriteDocuments) -> Sequence[Event]:
    grows = sum(draft.size - draft.replaced for draft in command.drafts)
    require_room(state.owner, state.used, grows, command.quota)
    return [
        DocumentWritten(written_at=command.at, device=command.device, **msgspec.structs.asdict(draft))
        for draft in command.drafts
    ]


def _show_interest(state: Mailbox, command: ShowInterest) -> Sequence[Event]:
    if command.message in state.correspondent(command.sender).interest:
        return []
    return [InterestShown(sender=command.sender, message=command.message)]


def _folder_name(state: Mailbox, name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_FOLDER_NAME or not name.isprintable():
        raise InvalidInput(f"a folder's name has 1 to {MAX_FOLDER_NAME} printable characters")
    if name.lower() in set(Folder) or name in state.folders.values():
        raise Conflict(f"there is a folder called {name} already")
    return name


def _create_folder(state: Mailbox, command: CreateFolder) -> Event:
    if len(state.folders) >= MAX_FOLDERS:
        raise LimitExceeded(f"a mailbox has {MAX_FOLDERS} folders of its own at most")
    if command.id in state.folders:
        raise Conflict("there is a folder with this id already")
    return FolderCreated(id=command.id, name=_folder_name(state, command.name), at=command.at)


def _rename_folder(state: Mailbox, command: RenameFolder) -> Sequence[Event]:
    _known_folder(state, command.id)
    if state.folders[command.id] == command.name.strip():
        return []
    return [FolderRenamed(id=command.id, name=_folder_name(state, command.name), at=command.at)]


def _remove_folder(state: Mailbox, command: RemoveFolder) -> Event:
    _known_folder(state, command.id)
    if command.messages:
        raise Conflict(f"the folder holds {command.messages} messages: move them first")
    return FolderRemoved(id=command.id)


def _known_folder(state: Mailbox, folder_id: str) -> None:
    if folder_id in set(Folder):
        raise Conflict("the system's folders stay as they are")
    if folder_id not in state.folders:
        raise NotFound("no such folder")


def evolve(state: Mailbox, event: Event) -> Mailbox:
    """Fold one event into the mailbox; the state that was passed in is used up."""
    match event:
        case MessageFiled():
            state.used += event.size
            state.filed += 1
            state.correspondents.setdefault(event.sender, Correspondent()).received += 1
            _keep_pace(state, event)
        case MessageSent():
            _count_sent(state, event)
        case DocumentWritten():
            state.used = max(0, state.used + event.size - event.replaced)
        case InterestShown():
            state.correspondents.setdefault(event.sender, Correspondent()).interest.add(event.message)
        case FolderCreated() | FolderRenamed():
            state.folders[event.id] = event.name
        case FolderRemoved():
            state.folders.pop(event.id, None)
        case _:
            pass
    return state


def _count_sent(state: Mailbox, event: MessageSent) -> None:
    state.used += event.size
    for recipient in event.recipients:
        state.correspondents.setdefault(recipient, Correspondent()).sent += 1
    state.sent_today = state.sent_on(event.sent_at) + 1
    state.sent_day = event.sent_at // DAY_MS


_COUNTED = frozenset((Reason.HANDSHAKE_ACCEPTED, Reason.HANDSHAKE_ACCEPTED_UNVERIFIED))


def _keep_pace(state: Mailbox, event: MessageFiled) -> None:
    """Note when a message under a limited handshake got the owner's attention, or was kept from it."""
    if not event.handshake:
        return
    before = state.paces.get(event.handshake)
    if event.reason in _COUNTED:
        state.paces[event.handshake] = Pace(event.filed_at)
    elif event.reason is Reason.FREQUENCY_EXCEEDED and before:
        state.paces[event.handshake] = Pace(before.counted_at, before.set_aside + 1)
