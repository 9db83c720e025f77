"""From what a client writes to facts: revisions checked, bodies stored, one command to the user's mailbox.

CouchDB's rules: with `new_edits` a write continues a leaf and the node names the revision; without, the
client brings revision and history, and a revision that is known already changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from events.errors import Busy, MailboxFull, MailioError, StorageUnavailable
from events.event import Recorded
from events.log import failpoints
from events.log.log import Clock, Origin
from events.mailbox import DocumentDraft, WriteDocuments, require_room
from node.storage.sealed import Stored
from node.sync.database import Database
from node.sync.drafting import Drafting
from node.sync.incoming import Incoming
from node.sync.limits import SyncLimits
from node.sync.ports import Blobs, HandshakeVerifier, MailboxPort, Visibility
from node.sync.refusal import Refusal, refusal_of
from node.sync.turns import Turns


class Outcome(msgspec.Struct, frozen=True):
    """What became of one document: its revision, or why it was not taken."""

    id: str
    rev: str = ""
    refusal: Refusal | None = None

    @property
    def row(self) -> dict[str, Any]:
        """A row of the answer to `_bulk_docs`."""
        if self.refusal is not None:
            return {"id": self.id, **self.refusal.row}
        return {"ok": True, "id": self.id, "rev": self.rev}


class ClientWrites:
    """Takes the writes of all users; those of one user one after the other."""

    def __init__(
        self,
        mailboxes: MailboxPort,
        visibility: Visibility,
        blobs: Blobs,
        handshakes: HandshakeVerifier,
        *,
        clock: Clock,
        limits: SyncLimits,
        quota: int = 0,
    ) -> None:
        """`quota` is in bytes per mailbox, 0 for none."""
        self._mailboxes = mailboxes
        self._visibility = visibility
        self._blobs = blobs
        self._handshakes = handshakes
        self._clock = clock
        self._limits = limits
        self._quota = quota
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unseen: dict[str, int] = {}
        self._running: set[asyncio.Task[list[Outcome]]] = set()

    async def write(
        self,
        address: str,
        database: Database,
        documents: Sequence[Incoming],
        *,
        new_edits: bool,
        device: str = "",
    ) -> list[Outcome]:
        """Write documents, one outcome each, in order. What is written is durable and visible on return.

        `device` says where they come from. A caller that goes away does not stop a write half-way. Raises
        Busy and StorageUnavailable.
        """
        task = asyncio.create_task(self._in_turn(address, database, documents, new_edits, device))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Return when no write is under way."""
        while self._running:
            await asyncio.wait(self._running)

    @failpoints.after("client-write-shown")
    async def _in_turn(
        self,
        address: str,
        database: Database,
        documents: Sequence[Incoming],
        new_edits: bool,
        device: str,
    ) -> list[Outcome]:
        lock = self._locks.setdefault(address, asyncio.Lock())
        async with lock:
            await self._catch_up(address)
            drafting = Drafting(database, address, self._handshakes, self._blobs)
            outcomes = []
            turns = Turns()
            for each in documents:
                outcomes.append(await _outcome(drafting, each, new_edits))
                await turns.give()
            refused = await self._record(address, drafting, device)
            await self._show(address)
            for document_id, revision in drafting.replaced:
                database.superseded.keep(database.name, document_id, revision)
        return [_final(outcome, refused) for outcome in outcomes]

    async def _catch_up(self, address: str) -> None:
        """Wait until the view shows the user's last write: revisions are checked against it."""
        if not await self._show(address):
            raise Busy("your last write is not visible yet, try again")

    async def _show(self, address: str) -> bool:
        position = self._unseen.get(address, 0)
        if position:
            try:
                async with asyncio.timeout(self._limits.view_wait_ms / 1000):
                    await self._visibility.reached(position)
            except (TimeoutError, Busy, StorageUnavailable):
                # What was written is durable; it only can't be seen yet.
                return False
            self._unseen.pop(address, None)
        return True

    async def _record(self, address: str, drafting: Drafting, device: str) -> dict[tuple[str, str], Refusal]:
        """Store bodies, then say it to the mailbox; return what a full mailbox refused, by (id, rev)."""
        drafts = drafting.drafts
        try:
            # Asked before: bodies that nobody may keep would fill the disk, whatever the quota.
            await self._require_room(address, drafts)
            await self._keep(address, drafting, drafts, device)
        except MailboxFull as full:
            # Where there is no room for all, take what makes room or needs none, and refuse the rest.
            fits = [draft for draft in drafts if draft.size <= draft.replaced]
            await self._keep(address, drafting, fits, device)
            refusal = refusal_of(full)
            return {
                (draft.id, draft.revisions[0]): refusal for draft in drafts if draft.size > draft.replaced
            }
        return {}

    async def _require_room(self, address: str, drafts: Sequence[DocumentDraft]) -> None:
        grows = sum(draft.size - draft.replaced for draft in drafts)
        if grows > 0 and self._quota:
            require_room(address, await self._mailboxes.used(address), grows, self._quota)

    async def _keep(
        self, address: str, drafting: Drafting, drafts: Sequence[DocumentDraft], device: str
    ) -> None:
        if drafts:
            await self._store(drafting.bodies(drafts))
            await self._execute(address, drafts, device)

    @failpoints.after("client-blobs-stored")
    async def _store(self, bodies: Sequence[Stored]) -> None:
        await self._blobs.keep(*bodies)

    @failpoints.after("client-event-stored")
    async def _execute(self, address: str, drafts: Sequence[DocumentDraft], device: str) -> None:
        command = WriteDocuments(tuple(drafts), self._clock.now(), self._quota, device)
        origin = Origin(actor=f"client/{address}")
        recorded: list[Recorded] = await self._mailboxes.execute(address, command, origin)
        if recorded:
            self._unseen[address] = max(each.position for each in recorded)


async def _outcome(drafting: Drafting, document: Incoming, new_edits: bool) -> Outcome:
    try:
        return Outcome(document.id, await drafting.add(document, new_edits))
    except MailioError as error:
        refusal = refusal_of(error)
        if refusal.status >= 500:
            raise
        return Outcome(document.id, refusal=refusal)


def _final(outcome: Outcome, refused: dict[tuple[str, str], Refusal]) -> Outcome:
    refusal = refused.get((outcome.id, outcome.rev))
    return Outcome(outcome.id, refusal=refusal) if refusal else outcome
