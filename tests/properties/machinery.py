"""The real dispatcher and the real actors on a log in memory: only parsing is left out, a mail says what it is."""

from __future__ import annotations

import asyncio

import msgspec

from actors import account, handshake, mailbox
from actors.account import AccountActor
from actors.handshake import HandshakeActor
from actors.mailbox import MailboxActor, ReadMail
from actors.messages import Inspect
from actors.routes import ROUTES
from actors.runtime.activation import ActorLimits, ActorSystem
from actors.runtime.parking import Parking
from actors.runtime.reaction import Dispatcher, DispatchLimits
from events import mail
from events.event import Event
from events.handshake import Terms
from events.log.clock import VirtualClock
from events.log.log import Log, Origin, SnapshotStore, Write
from events.mail import MailAccepted, Recipient
from events.mailbox import DocumentWritten
from tests.fakes.memory_log import MemoryCheckpoints, MemorySnapshots

OWNERS = ("0x" + "a" * 40, "0x" + "b" * 40)
SENDERS = ("ann@beta.example", "ben@beta.example")
SNAPSHOT_EVERY = 3


class Reader:
    """Knows what a mail says without reading it."""

    async def read(self, blob: str, *, document_id: str, owner: str, received_at: int) -> ReadMail:
        return ReadMail(document=f"document of {blob}", author="", message_id="", size=100)


class Hashes:
    """Nobody stands in a book by the hash of an email here."""

    async def hash(self, email: str) -> str:
        return email


class Machinery:
    """Actors and dispatcher of one life of a node: a restart makes a new one on the same log."""

    def __init__(
        self, log: Log, snapshots: SnapshotStore | None = None, checkpoints: MemoryCheckpoints | None = None
    ) -> None:
        self.log = log
        self.snapshots = snapshots or MemorySnapshots()
        self.checkpoints = checkpoints or MemoryCheckpoints()
        self.clock = VirtualClock()
        self.system = ActorSystem(ActorLimits(), self.clock)
        self.system.register(account.KIND, lambda key: AccountActor(key, log, self.snapshots))
        self.system.register(handshake.KIND, lambda key: HandshakeActor(key, log, self.snapshots, Hashes()))
        self.system.register(mailbox.KIND, self._mailbox)

    def _mailbox(self, key: str) -> MailboxActor:
        return MailboxActor(
            key, self.log, self.snapshots, reader=Reader(), books=self.system, clock=self.clock,
            goodreads_percent=30,
        )  # fmt: skip

    async def dispatch(self) -> None:
        """Let the dispatcher work off everything above its checkpoint."""
        limits = DispatchLimits(linger_seconds=0.0, give_way_seconds=0.0)
        dispatcher = Dispatcher(
            "mail", self.log, self.system, ROUTES, self.checkpoints, Parking(self.log), limits
        )
        running = asyncio.create_task(dispatcher.run())
        head = -1
        while head != self.log.head:
            head = self.log.head
            await dispatcher.reached(head)
        await dispatcher.stop()
        await running

    async def states(self) -> dict[str, bytes]:
        """Every actor's state, encoded so that equal states are equal bytes."""
        found = {}
        for owner in OWNERS:
            for kind in (mailbox.KIND, handshake.KIND):
                state = await self.system.ask(kind, owner, Inspect())
                found[f"{kind}/{owner}"] = msgspec.msgpack.encode(state, order="deterministic")
        return found

    async def close(self) -> None:
        await self.system.drain()
        await self.system.close()


async def append(log: Log, event: Event, owner: str, number: int) -> None:
    """What a door writes: an accepted mail, or what a device of the owner wrote."""
    stream = mail.stream(f"{number:032x}") if isinstance(event, MailAccepted) else f"mailbox-{owner}"
    await log.append(Write(stream, (event,)), origin=Origin(actor="door"))


def mail_accepted(sender: str, *owners: str) -> MailAccepted:
    recipients = tuple(Recipient(owner, f"{owner}@alpha.example") for owner in owners)
    return MailAccepted(
        transport="smtp", blob="b", size=100, recipients=recipients, authors=(sender,), received_at=1
    )


def handshake_written(identifier: str, status: str, created: int) -> DocumentWritten:
    terms = Terms(id=identifier, status=status, created=created)
    return DocumentWritten(id=identifier, revisions=(f"{created + 1}-a",), kind="handshake", handshake=terms)


def handshake_removed(identifier: str) -> DocumentWritten:
    return DocumentWritten(id=identifier, revisions=("9-a",), kind="handshake", deleted=True, forgotten=True)
