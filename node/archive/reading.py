"""Reading an archive that anybody may have made: nothing of it is believed before it was checked.

Everything is looked at before anything is done: signature, names, sizes and hashes; each event, and that
together they are the history of one account and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from events import account, handshake, mailbox
from events.account import AccountImported, AccountMoved, AccountOpened
from events.errors import CorruptRecord, InvalidInput, LimitExceeded, MailioError
from events.event import EVENT_TYPES, Event, Metadata, Recorded
from events.identity import is_address, mailio_address
from events.log.entry import MAX_NAME_BYTES
from events.mail import MailAccepted
from events.mailbox import MessageFiled
from node.archive.content import (
    BLOBS,
    EVENTS,
    MANIFEST,
    MAX_EVENTS,
    MAX_LINE,
    MAX_MANIFEST,
    SIGNATURE,
    Line,
    Manifest,
    Member,
    opened,
    streams_of,
)
from node.archive.tape import CHUNK, TapeReader, reading
from node.crypto.base64_text import from_base64
from node.mentioned import blobs_of

Moved = Callable[[int], None]
"""Told how many bytes were read just now."""

MAX_SIGNATURE: Final = 256
LATEST: Final = 1 << 53
"""Times (ms) are below this: what JavaScript clients can hold."""

_ID = re.compile(r"[0-9a-f]{32}")
_MAIL = re.compile(r"mail-[0-9a-f]{32}")

_MODULES: Final = (("events.account",), ("events.mailbox",), ("events.handshake", "events.offer"))
_NOT_A_HISTORY = frozenset(("EmailClaimed", "AccountErased"))
# What an account's module has besides what happens in an account's stream, or after its end.


class Unpacked(msgspec.Struct, frozen=True):
    """A checked archive. `digest` is the SHA-256 (hex) of its manifest; blobs lie in `folder` by name."""

    manifest: Manifest
    digest: str
    records: list[Recorded]
    folder: Path

    async def read(self, name: str) -> bytes:
        """Return a blob by its SHA-256."""
        return (self.folder / name).read_bytes()

    @property
    def blobs(self) -> Iterator[Member]:
        """The blobs' members."""
        return (member for member in self.manifest.members if member.name.startswith(BLOBS))

    @property
    def opened(self) -> AccountOpened:
        """How the account began."""
        return next(each.event for each in self.records if isinstance(each.event, AccountOpened))


def unpack(path: Path, folder: Path, room: int, moved: Moved) -> Unpacked:
    """Check an archive, which may have `room` bytes, and spread its blobs and events out in a folder.

    Raises CorruptRecord, LimitExceeded, Misconfigured (a newer format), OSError. Blocks.
    """
    with reading(path) as tape:
        content = _small(tape, MANIFEST, MAX_MANIFEST)
        manifest = opened(content, _small(tape, SIGNATURE, MAX_SIGNATURE))
        total = sum(member.size for member in manifest.members)
        if total > room:
            raise LimitExceeded(f"the archive is too large: {total:,} bytes, there is room for {room:,}")
        if manifest.events > MAX_EVENTS:
            raise LimitExceeded(f"the archive has {manifest.events} events, at most {MAX_EVENTS} are taken")
        _spread(tape, manifest, folder, moved)
    records = list(_records(folder / "events", manifest))
    _History(manifest, records).require_sound()
    return Unpacked(manifest, hashlib.sha256(content).hexdigest(), records, folder)


def _small(tape: TapeReader, name: str, limit: int) -> bytes:
    """Read a member that must be the next one."""
    header = tape.next()
    if header is None or header.name != name or header.size > limit:
        raise CorruptRecord("this is no archive of an account", f"{name} is not where it belongs")
    content = bytearray()
    while chunk := tape.read(CHUNK):
        content += chunk
    return bytes(content)


def _spread(tape: TapeReader, manifest: Manifest, folder: Path, moved: Moved) -> None:
    """Check every member; keep blobs and events. What the manifest does not name is refused unread."""
    due = {member.name: member for member in manifest.members}
    while header := tape.next():
        member = due.pop(header.name, None)
        if member is None or member.size != header.size:
            raise CorruptRecord("the archive holds a file that its manifest does not name", header.name)
        target = None
        if member.name.startswith(BLOBS):
            target = folder / member.sha256
        elif member.name == EVENTS:
            target = folder / "events"
        if _copied(tape, target, moved) != member.sha256:
            raise CorruptRecord("a file of the archive is damaged", member.name)
    if due:
        raise CorruptRecord("a file of the archive is missing", min(due))
    if not (folder / "events").exists():
        raise CorruptRecord("a file of the archive is missing", EVENTS)


def _copied(tape: TapeReader, target: Path | None, moved: Moved) -> str:
    """Read a member to its end, keep it at `target`, return its SHA-256."""
    digest = hashlib.sha256()
    file = target.open("xb") if target else None
    try:
        while chunk := tape.read(CHUNK):
            digest.update(chunk)
            moved(len(chunk))
            if file:
                file.write(chunk)
    finally:
        if file:
            file.close()
    return digest.hexdigest()


def _records(path: Path, manifest: Manifest) -> Iterator[Recorded]:
    """Decode the events one line after the other."""
    decode = msgspec.json.Decoder(Line).decode
    with path.open("rb") as file:
        for number in range(1, manifest.events + 1):
            text = file.readline(MAX_LINE)
            try:
                yield _recorded(decode(text), manifest.address)
            except (msgspec.MsgspecError, RecursionError, UnicodeError, MailioError) as error:
                raise CorruptRecord(
                    "an event of the archive makes no sense", f"line {number}: {error}"
                ) from error
        if file.read(1):
            raise CorruptRecord("the archive has more events than its manifest says")


def _recorded(line: Line, address: str) -> Recorded:
    kind = _kind(line.stream, line.type, address)
    ids = (line.id, line.correlation, *([line.causation] if line.causation else []))
    if not all(map(_ID.fullmatch, ids)) or not 0 <= line.at < LATEST:
        raise InvalidInput("an id or a time is out of range")
    for text in (line.actor, line.software):
        if not text.isprintable() or len(text.encode()) > MAX_NAME_BYTES or not line.actor:
            raise InvalidInput("an actor or a program has an impossible name")
    return Recorded(
        position=line.position,
        stream=line.stream,
        version=line.version,
        event=msgspec.json.decode(line.event, type=kind),
        metadata=Metadata(
            id=line.id,
            at=line.at,
            actor=line.actor,
            correlation=line.correlation,
            causation=line.causation,
            software=line.software,
        ),
        hash=b"",
    )


def _kind(stream: str, name: str, address: str) -> type[Event]:
    """Return the type of an event that belongs in this stream of this account."""
    kind = EVENT_TYPES.get(name)
    if kind is MailAccepted and _MAIL.fullmatch(stream):
        return kind
    places = dict(zip(streams_of(address), _MODULES, strict=True))
    if kind is None or name in _NOT_A_HISTORY or kind.__module__ not in places.get(stream, ()):
        raise InvalidInput(f"{name[:80]} does not belong in {stream[:80]}")
    return kind


class _History:
    """All events of an archive together."""

    def __init__(self, manifest: Manifest, records: list[Recorded]) -> None:
        self._manifest = manifest
        self._records = records
        self._address = manifest.address

    def require_sound(self) -> None:
        """Raise CorruptRecord unless this is the whole history of one account and of nobody else."""
        self._require_order()
        self._require_account()
        self._require_mails()
        self._require_blobs()
        self._require_foldable()

    def _require_order(self) -> None:
        versions: Counter[str] = Counter()
        last = 0
        for record in self._records:
            versions[record.stream] += 1
            if record.position <= last or record.version != versions[record.stream]:
                raise CorruptRecord("the archive's events are not in order", f"position {record.position}")
            last = record.position
        if len({record.metadata.id for record in self._records}) != len(self._records):
            raise CorruptRecord("an event stands in the archive twice")

    def _require_account(self) -> None:
        """Require that the address is that of the key, and that nobody else is spoken of."""
        begun = [each.event for each in self._records if isinstance(each.event, AccountOpened)]
        if len(begun) != 1 or not is_address(self._address):
            raise CorruptRecord("the archive does not hold exactly one account")
        try:
            key = from_base64(begun[0].signing_key, length=32)
        except MailioError as error:
            raise CorruptRecord("the account's key can't be read", str(error)) from error
        named = [
            each.event.address
            for each in self._records
            if isinstance(each.event, AccountOpened | AccountImported | AccountMoved)
        ]
        if mailio_address(key) != self._address or set(named) != {self._address}:
            raise CorruptRecord("the account's address does not belong to its key")

    def _require_mails(self) -> None:
        mails = set()
        for record in self._records:
            match record.event:
                case MailAccepted() as accepted:
                    mails.add(record.stream.removeprefix("mail-"))
                    if {recipient.address for recipient in accepted.recipients} != {self._address}:
                        raise CorruptRecord("the archive holds mail of somebody else")
                case MessageFiled() as filed if filed.mail not in mails:
                    raise CorruptRecord("a message was filed that never came in", filed.id[:80])
                case _:
                    pass

    def _require_blobs(self) -> None:
        needed = {BLOBS + name for record in self._records for name in blobs_of(record.event)}
        there = {member.name for member in self._manifest.members if member.name.startswith(BLOBS)}
        if needed != there:
            raise CorruptRecord("blobs and events of the archive do not belong together")

    def _require_foldable(self) -> None:
        """Fold each stream as its actor will."""
        for module, name in zip((account, mailbox, handshake), streams_of(self._address), strict=True):
            state = module.initial(self._address)
            for record in self._records:
                if record.stream == name:
                    try:
                        state = module.evolve(state, record.event)
                    except (KeyError, ValueError, TypeError, AttributeError) as error:
                        raise CorruptRecord(
                            "the archive's events contradict each other", f"position {record.position}"
                        ) from error
