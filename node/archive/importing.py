"""Bringing an account with its history into this node: all of it in one append, or nothing.

The archive is checked first, spread out in a private folder, and its views are computed there. Then its
blobs are stored, which nobody sees, and in the end all events are appended in one transaction. A folder that
is left over is removed at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.handshake import is_about_handshakes
from actors.messages import Refresh
from events import account
from events.account import AccountImported, AccountMoved, EmailClaimed
from events.errors import Busy, Conflict, CorruptRecord, InvalidInput, StorageUnavailable, VersionConflict
from events.event import Event, Metadata, Recorded
from events.log.log import Origin, Write
from events.mail import STREAM as MAIL_STREAM
from events.mail import MailAccepted
from events.mailbox import MessageFiled
from node.archive.held import computed
from node.archive.reading import Unpacked, unpack
from node.core import IMPORTS, SOFTWARE, Core
from node.mentioned import with_blobs
from projections.directory import Directory
from projections.userdb import UserDatabases

ROOM_QUOTAS: Final = 8
"""An archive may have this many times a mailbox's quota: raw mails, documents, attachments and mbox files."""

BATCH_BYTES: Final = 8 << 20
"""Blobs stored with one sync."""

TELL_SECONDS: Final = 0.2
"""How often progress is told while a thread works."""

TRIES: Final = 100
"""Tries of an append while others wait for the disk, a tenth of a second apart."""

OPERATOR: Final = "operator"

Told = dict[str, Any]


async def imported(core: Core, file: Path, email: str, node: str) -> AsyncIterator[Told]:
    """Import an archive; yield progress, then the result.

    `email` is what the account shall be called here ("": as there), `node` the address of the node that must
    have signed the archive ("": any). Raises CorruptRecord, LimitExceeded, Misconfigured, Conflict,
    InvalidInput, StorageUnavailable; then nothing has changed.
    """
    folder = core.settings.node.data / IMPORTS
    folder.mkdir(mode=0o700, exist_ok=True)
    spread = Path(tempfile.mkdtemp(dir=folder))
    try:
        async for told in _Import(core, spread, email, node).run(file):
            yield told
    finally:
        await asyncio.to_thread(shutil.rmtree, spread, ignore_errors=True)


class _Import:
    """One import. `_done` and `_names` grow while it goes on."""

    def __init__(self, core: Core, folder: Path, email: str, node: str) -> None:
        self._core = core
        self._folder = folder
        self._email = email
        self._node = node
        self._done = 0
        self._names: dict[str, str] = {}

    async def run(self, file: Path) -> AsyncIterator[Told]:
        async for told in self._checking(file):
            yield told
        archive = await self._checked
        if self._node and archive.manifest.node != self._node.lower():
            raise Conflict(f"the archive was signed by node {archive.manifest.node}, not by {self._node}")
        moved = await self._core.accounts.moved(archive.opened, self._email or archive.manifest.email)
        plan = Plan(archive, moved, self._core.clock.event_id(), self._core.clock.now())
        await self._require_views(archive, plan)
        async for told in self._storing(archive):
            yield told
        await self._append(plan)
        yield {
            "address": moved.address,
            "email": moved.email,
            "node": archive.manifest.node,
            "domain": archive.manifest.domain,
            "exported": archive.manifest.at,
            "events": len(archive.records),
            "blobs": len(self._names),
        }

    async def _checking(self, file: Path) -> AsyncIterator[Told]:
        """Check the archive in a thread: others go on meanwhile."""
        try:
            total = file.stat().st_size  # noqa: ASYNC240 - one look
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise InvalidInput(f"{file}: can't be read: {error.strerror}") from error
        # Half of what is free: what was spread out is stored once more.
        room = min(ROOM_QUOTAS * self._core.settings.node.quota_bytes, free // 2)
        self._checked = asyncio.ensure_future(asyncio.to_thread(self._unpack, file, room))
        while not self._checked.done():
            await asyncio.wait({self._checked}, timeout=TELL_SECONDS)
            yield {"stage": "checking", "done": self._done, "total": max(total, self._done)}

    def _unpack(self, file: Path, room: int) -> Unpacked:
        try:
            return unpack(file, self._folder, room, self._moved)
        except OSError as error:
            raise StorageUnavailable(f"{file}: can't be unpacked: {error}") from error

    def _moved(self, count: int) -> None:
        self._done += count

    async def _require_views(self, archive: Unpacked, plan: Plan) -> None:
        """Compute what readers will see, from the archive alone. Raises CorruptRecord."""
        records = plan.records()
        for view in (UserDatabases(archive), Directory()):
            async with computed(view, records, self._folder / f"view-{view.name}"):
                pass

    async def _storing(self, archive: Unpacked) -> AsyncIterator[Told]:
        """Store the blobs; note under which names they are kept here."""
        batch: list[tuple[str, bytes]] = []
        size = 0
        members = list(archive.blobs)
        for number, member in enumerate(members, 1):
            body = await archive.read(member.sha256)
            if hashlib.sha256(body).hexdigest() != member.sha256:
                raise CorruptRecord("the archive changed while it was imported", member.name)
            batch.append((member.sha256, body))
            size += len(body)
            if size >= BATCH_BYTES or number == len(members):
                stored = await self._core.blobs.write(
                    *(body for _, body in batch), owners=(archive.manifest.address,)
                )
                self._names |= dict(zip((name for name, _ in batch), stored, strict=True))
                batch, size = [], 0
                yield {"stage": "storing", "done": number, "total": len(members)}

    async def _append(self, plan: Plan) -> None:
        """Append everything, then let actors and views see it."""
        orders = plan.orders(self._names)
        for left in reversed(range(TRIES)):
            try:
                recorded = await self._core.log.append_all(orders)
                break
            except Busy:
                if not left:
                    raise
                await asyncio.sleep(0.1)
            except VersionConflict:
                raise Conflict("there is an account with this address or email here already") from None
        for kind in ("account", "mailbox", "handshake"):
            await self._core.actors.ask(kind, plan.address, Refresh())
        for view in ("directory", "userdb"):
            await self._core.views.reached(view, recorded[-1].position)


class Plan:
    """What an archive becomes in this log: the same events with other ids, in the order of what happened.

    Ids follow from the archive and the old ids. Whatever was answered where it happened is marked as
    imported, so that nobody answers it again; what was not yet is worked on here.
    """

    def __init__(self, archive: Unpacked, moved: AccountMoved, mark: str, now: int) -> None:
        """`mark` is the id of the AccountImported event, `now` its time (ms)."""
        self.address = moved.address
        self._archive = archive
        self._moved = moved
        self._mark = Metadata(id=mark, at=now, actor=OPERATOR, correlation=mark, software=SOFTWARE)
        self._now = now
        self._pending = _pending(archive.records)

    def orders(self, names: Mapping[str, str]) -> list[tuple[Write, Origin]]:
        """Everything to append, with blobs under the names that they have here."""
        return [
            (
                Write(stream, (with_blobs(event, names),), version - 1),
                Origin(actor=known.actor, original=known),
            )
            for stream, version, event, known in self._entries()
        ]

    def records(self) -> list[Recorded]:
        """The same as if it were a log of its own, with blobs under the archive's names."""
        return [
            Recorded(position=position, stream=stream, version=version, event=event, metadata=known, hash=b"")
            for position, (stream, version, event, known) in enumerate(self._entries(), 1)
        ]

    def _entries(self) -> list[tuple[str, int, Event, Metadata]]:
        own = account.stream(self.address)
        moved = self._moved
        after = msgspec.structs.replace(self._mark, id=self._new("moved"), causation=self._mark.id)
        claim = EmailClaimed(email=moved.email, address=moved.address)
        claimed = msgspec.structs.replace(after, id=self._new("claimed"))
        entries: list[tuple[str, int, Event, Metadata]] = [
            (own, 1, self._provenance(), self._mark),
            (account.email_stream(moved.email), 1, claim, claimed),
        ]
        last = 1
        for record in self._archive.records:
            version = record.version
            if record.stream == own:
                last = version = version + 1
            entries.append((self._stream(record), version, self._event(record), self._metadata(record)))
        return [*entries, (own, last + 1, moved, after)]

    def _provenance(self) -> AccountImported:
        manifest = self._archive.manifest
        return AccountImported(
            address=self.address,
            node=manifest.node,
            domain=manifest.domain,
            email=manifest.email,
            archive=self._archive.digest,
            exported_at=manifest.at,
            imported_at=self._now,
            events=len(self._archive.records),
        )

    def _stream(self, record: Recorded) -> str:
        if not isinstance(record.event, MailAccepted):
            return record.stream
        return MAIL_STREAM + self._new(record.stream.removeprefix(MAIL_STREAM))

    def _event(self, record: Recorded) -> Event:
        if isinstance(record.event, MessageFiled):
            return msgspec.structs.replace(record.event, mail=self._new(record.event.mail))
        return record.event

    def _metadata(self, record: Recorded) -> Metadata:
        known = record.metadata
        return msgspec.structs.replace(
            known,
            id=self._new(known.id),
            correlation=self._new(known.correlation),
            causation=self._new(known.causation) if known.causation else "",
            imported="" if record.position in self._pending else self._mark.id,
        )

    def _new(self, old: str) -> str:
        """Return the id here of what had an id there; the first 48 bits, its time, stay (RFC 9562)."""
        time = old if len(old) == 32 else self._mark.id
        return time[:12] + hashlib.sha256(f"{self._archive.digest} {old}".encode()).hexdigest()[:20]


def _pending(records: Sequence[Recorded]) -> frozenset[int]:
    """Positions of what nobody had answered yet: mails that were not filed, handshakes not in the book."""
    filed = {each.event.mail for each in records if isinstance(each.event, MessageFiled)}
    mails = (
        each.position
        for each in records
        if isinstance(each.event, MailAccepted) and each.stream.removeprefix(MAIL_STREAM) not in filed
    )
    causes = {each.metadata.causation for each in records}
    about = [each for each in records if is_about_handshakes(each)]
    answered = max((each.position for each in about if each.metadata.id in causes), default=0)
    return frozenset((*mails, *(each.position for each in about if each.position > answered)))
