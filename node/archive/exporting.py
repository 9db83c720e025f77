"""Writing one account with its mailbox to a file. Only reads the node, which may be running."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from events.account import AccountMoved, AccountOpened
from events.errors import Gone, InvalidInput, Misconfigured, NotFound, StorageUnavailable
from events.event import Recorded
from events.identity import normalise_email
from events.log.log import Log
from events.mail import STREAM as MAIL_STREAM
from events.mail import MailAccepted
from events.mailbox import MessageFiled
from events.policy import Transport
from node.archive.content import (
    BLOBS,
    EVENTS,
    FORMAT,
    KIND,
    MANIFEST,
    MAX_EVENTS,
    README,
    SIGNATURE,
    Line,
    Manifest,
    Member,
    signed,
    streams_of,
)
from node.archive.held import computed
from node.archive.mbox import Placed, entry, file_name
from node.archive.tape import writing
from node.core import SOFTWARE
from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys, load_server_keys
from node.mentioned import blobs_of, with_blobs
from node.mtp.stored import as_mail
from node.settings import Settings
from node.storage.appender import sync_folder
from node.stores import ReadOnlyStores, reading
from projections.userdb import Blobs, UserDatabases

PAGE: Final = 500
"""Events read at once."""

Tell = Callable[[str, int, int], None]
"""Told (what is being done, done, in all)."""

_README = """This is the mailbox of {email} (Mailio address {address}),
exported by the Mailio node {node} ({domain}).

mbox/         the mails by folder. Any mail program can import them (format mboxrd, lines end with LF).
events.jsonl  everything that happened, one event a line, oldest first.
blobs/        what the events name: mails as they came in, documents and attachments, by SHA-256.
manifest.json size and SHA-256 of every file here; manifest.sig is the node's signature over it.

A mail that was sealed to its owner (account seal-inbound) is in no mbox: its document, among the blobs, is
all that is left, and only the owner's client opens it.
Drafts, contacts and all else that devices wrote are documents: see DocumentWritten in events.jsonl.
To go on with this mailbox on another node: mailio-node account import FILE
"""


class Exported(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an export wrote. `size` is that of the file in bytes."""

    file: str
    email: str
    address: str
    node: str
    events: int
    mails: int
    blobs: int
    size: int


class _State(msgspec.Struct, rename="camel"):
    """What the current document of a mail says about where it is."""

    folder: str = ""
    is_read: bool = False


def export(settings: Settings, name: str, file: Path, tell: Tell) -> Exported:
    """Write the account of an email or address to a new file; compressed unless its name ends in `.tar`.

    Raises Misconfigured (the file exists, or has another ending), NotFound, CorruptRecord and
    StorageUnavailable; then there is no file.
    """
    if not file.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise Misconfigured(f"{file}: let the file's name end in .tar or .tar.gz")
    if file.exists():
        raise Misconfigured(f"{file}: exists already: choose another name")
    try:
        return asyncio.run(_export(settings, name, file.absolute(), tell))
    except OSError as error:
        raise StorageUnavailable(f"{file}: can't be written: {error.strerror}") from error


@asynccontextmanager
async def _blobs_of(stores: ReadOnlyStores) -> AsyncIterator[Blobs]:
    blobs = stores.open_blobs()
    try:
        yield blobs
    finally:
        await blobs.close()


async def _export(settings: Settings, name: str, file: Path, tell: Tell) -> Exported:
    data = settings.node.data
    keys = load_server_keys(data / "keys" / "server.json")
    async with reading(data, SOFTWARE) as stores, _blobs_of(stores) as blobs:
        log = stores.log
        head = log.head
        address, email = await _account(log, name)
        records = await _records(log, address, head, tell)
        with tempfile.TemporaryDirectory(prefix=".mailio-export-", dir=file.parent) as folder:
            exporter = _Exporter(Path(folder), blobs, records, tell)
            members = await exporter.prepare(address, email, keys, settings.node.server_domain)
            manifest = _manifest(settings, keys, (address, email), head, records, members)
            partial = Path(folder) / "archive"
            await exporter.write(partial, signed(manifest, keys), compressed=not file.name.endswith(".tar"))
            size = partial.stat().st_size
            partial.rename(file)
        sync_folder(file.parent)
    return Exported(
        file=str(file),
        email=email,
        address=address,
        node=keys.address,
        events=len(records),
        mails=exporter.mails,
        blobs=sum(map(bool, exporter.names.values())),
        size=size,
    )


async def _account(log: Log, name: str) -> tuple[str, str]:
    """Return (address, email) of the account. Raises NotFound, InvalidInput."""
    wanted = name.lower() if name.startswith("0x") else normalise_email(name)
    found: dict[str, str] = {}
    after = 0
    while page := await log.read(after, PAGE, {AccountOpened.__name__, AccountMoved.__name__}):
        for record in page:
            if isinstance(record.event, AccountOpened | AccountMoved):
                found[record.event.address] = record.event.email
        after = page[-1].position
    for address, email in found.items():
        if wanted in {address, email}:
            return address, email
    raise NotFound(f"no account {name} here")


async def _records(log: Log, address: str, head: int, tell: Tell) -> list[Recorded]:
    """All that the log says about one account up to `head`, in order; of mails only this recipient's part."""
    records = [each for name in streams_of(address) for each in await log.stream(name)]
    after = 0
    while page := await log.read(after, PAGE, {MailAccepted.__name__}):
        records += [own for each in page if (own := own_part(each, address))]
        after = page[-1].position
        tell("reading", min(after, head), max(head, 1))
    records = sorted((each for each in records if each.position <= head), key=lambda each: each.position)
    if len(records) > MAX_EVENTS:
        raise InvalidInput(f"the account has {len(records)} events; an archive holds {MAX_EVENTS} at most")
    return records


def own_part(record: Recorded, address: str) -> Recorded | None:
    """Return an accepted mail as if it had had this recipient only; None when it had others only.

    Why others here did not get it is their affair.
    """
    event = record.event
    if not isinstance(event, MailAccepted):
        return None
    mine = tuple(recipient for recipient in event.recipients if recipient.address == address)
    if not mine:
        return None
    own = msgspec.structs.replace(event, recipients=mine, turned=())
    return msgspec.structs.replace(record, event=own)


def _manifest(  # noqa: PLR0917 - what is said in it
    settings: Settings,
    keys: ServerKeys,
    who: tuple[str, str],
    head: int,
    records: Sequence[Recorded],
    members: Sequence[Member],
) -> Manifest:
    return Manifest(
        kind=KIND,
        format=FORMAT,
        software=SOFTWARE,
        node=keys.address,
        public_key=to_base64(keys.public_key),
        domain=settings.node.server_domain,
        address=who[0],
        email=who[1],
        at=time.time_ns() // 1_000_000,
        position=head,
        events=len(records),
        members=tuple(members),
    )


class _Exporter:
    """Puts an archive together in a folder. `names` are the blobs' names in it by those in the node."""

    def __init__(self, folder: Path, blobs: Blobs, records: Sequence[Recorded], tell: Tell) -> None:
        self._folder = folder
        self._blobs = blobs
        self._records = records
        self._tell = tell
        self._files: list[tuple[str, Path]] = []
        self.names: dict[str, str] = {}
        self.mails = 0

    async def prepare(self, address: str, email: str, keys: ServerKeys, domain: str) -> list[Member]:
        """Write all members but the blobs, and return the list of all."""
        readme = self._folder / "readme"
        readme.write_text(_README.format(email=email, address=address, node=keys.address, domain=domain))
        self._files.append((README, readme))
        blobs = await self._name_blobs()
        self._write_events()
        await self._write_mboxes()
        return [_member(name, path) for name, path in self._files] + blobs

    async def write(self, target: Path, heads: tuple[bytes, bytes], *, compressed: bool) -> None:
        """Write the archive and sync it; only its owner may read it."""
        at = time.time_ns() // 1_000_000
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "r+b") as file:  # noqa: ASYNC230, PTH123 - a descriptor; nobody else uses this loop
            with writing(file, compressed=compressed) as tape:
                tape.add(MANIFEST, heads[0], at)
                tape.add(SIGNATURE, heads[1], at)
                for name, path in self._files:
                    tape.add(name, path, at)
                written: set[str] = set()
                for count, (stored, name) in enumerate(self.names.items(), 1):
                    if name and name not in written:
                        tape.add(BLOBS + name, await self._blobs.read(stored), at)
                        written.add(name)
                    self._tell("writing", count, len(self.names))
            file.flush()
            os.fsync(fd)

    async def _name_blobs(self) -> list[Member]:
        """Read every blob once to know its name and size; a raw mail that was sealed and erased has none."""
        originals = {r.event.blob for r in self._records if isinstance(r.event, MailAccepted)}
        wanted = dict.fromkeys(name for record in self._records for name in blobs_of(record.event))
        members: dict[str, Member] = {}
        for count, stored in enumerate(wanted, 1):
            self._tell("blobs", count, len(wanted))
            try:
                body = await self._blobs.read(stored)
            except Gone:
                if stored not in originals:
                    raise
                self.names[stored] = ""
                continue
            name = hashlib.sha256(body).hexdigest()
            self.names[stored] = name
            members[name] = Member(BLOBS + name, len(body), name)
        return list(members.values())

    def _write_events(self) -> None:
        path = self._folder / "events"
        with path.open("wb") as file:
            for record in self._records:
                file.write(msgspec.json.encode(_line(record, self.names)) + b"\n")
        self._files.append((EVENTS, path))

    async def _write_mboxes(self) -> None:
        """Write every mail that is not deleted to the file of the folder where it is now."""
        raw = {r.stream.removeprefix(MAIL_STREAM): r.event for r in self._records}
        boxes: dict[str, Path] = {}
        async with computed(UserDatabases(self._blobs), self._records, self._folder / "userdb") as store:
            for record in self._records:
                filed = record.event
                accepted = raw.get(filed.mail) if isinstance(filed, MessageFiled) else None
                if not isinstance(filed, MessageFiled) or not isinstance(accepted, MailAccepted):
                    continue
                (database,) = await store.databases()
                document = await store.get(database, filed.id)
                if document is None or document.winner.deleted or not self.names[accepted.blob]:
                    continue
                placed = _placed(filed, accepted, document.winner.body)
                box = boxes.setdefault(file_name(placed.folder), self._folder / f"box{len(boxes)}")
                with box.open("ab") as file:
                    kept = await self._blobs.read(accepted.blob)
                    file.write(entry(as_mail(kept) if filed.transport is Transport.MTP else kept, placed))
                self.mails += 1
        self._files += sorted(boxes.items())


def _placed(filed: MessageFiled, accepted: MailAccepted, body: bytes) -> Placed:
    try:
        state = msgspec.json.decode(body, type=_State)
    except msgspec.MsgspecError:
        # A client wrote something else there; the mail itself is as it was.
        state = _State()
    return Placed(
        id=filed.id,
        folder=state.folder or filed.folder,
        reason=filed.reason,
        sender=accepted.envelope_sender,
        at=accepted.received_at,
        read=state.is_read,
    )


def _line(record: Recorded, names: Mapping[str, str]) -> Line:
    known = record.metadata
    return Line(
        position=record.position,
        stream=record.stream,
        version=record.version,
        id=known.id,
        at=known.at,
        actor=known.actor,
        correlation=known.correlation,
        causation=known.causation,
        software=known.software,
        imported=known.imported,
        hash=record.hash.hex(),
        type=type(record.event).__name__,
        event=msgspec.Raw(msgspec.json.encode(with_blobs(record.event, names))),
    )


def _member(name: str, path: Path) -> Member:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Member(name, path.stat().st_size, digest.hexdigest())
