"""The way out, wired: what stands between a client's wish to send and the peers' doors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

import msgspec

from actors.federation import FederationActor
from actors.outgoing import KIND, MAX_FIGURES, OTHERS, Outgoing
from actors.runtime.activation import ActorSystem
from actors.runtime.timers import Timers
from events.delivery import Delivery, Phase
from events.errors import MailioError
from events.log.log import Clock, Log, SnapshotStore
from node.crypto.email_hash import EmailHasher
from node.crypto.keys import ServerKeys
from node.discovery.discovery import Discovery
from node.discovery.limits import DiscoverySettings
from node.mtp.own_door import OwnDoor
from node.mtp.ports import PeerKeys
from node.mtp.receiving import Messages
from node.mtp.reports import PeerReports
from node.mtp.resolving import EmailLookup
from node.mtp.sender import Sender
from node.mtp.sending import Sending
from node.settings import Settings
from node.storage.blobs import Blobs
from node.sync.uploads import Uploads
from node.views import Views
from projections.directory import AccountDirectory
from projections.outbox import Waiting

LOOK_SECONDS = 60.0
"""Pause between two looks for destinations that nobody would wake: a net below the timers."""

COUNT_SECONDS = 15.0
"""Pause between two counts of what waits: as often as metrics are usually asked for."""


class OutboxQueue:
    """The queue of the federation actors: the view `outbox`, and how far it has come."""

    def __init__(self, views: Views) -> None:
        self._views = views

    @property
    def waiting(self) -> Waiting:
        """Read the queue."""
        return Waiting(self._views.stores["outbox"])

    def of(self, destination: str) -> AsyncIterator[Delivery]:
        """Give what waits for a destination, oldest first."""
        return self.waiting.of(destination)

    async def destinations(self) -> list[str]:
        """Name every destination that something waits for."""
        return await self.waiting.destinations()

    async def reached(self, position: int) -> None:
        """Return when the view has everything up to a position."""
        await self._views.reached("outbox", position)


class Backlog(msgspec.Struct):
    """What waits, as counted last. `oldest` is in milliseconds, 0 for none; what is held is apart."""

    total: int = 0
    held: int = 0
    oldest: int = 0
    by_destination: dict[str, int] = {}

    def age(self, clock: Clock) -> float:
        """Seconds since the oldest was promised."""
        return max(0, clock.now() - self.oldest) / 1000 if self.oldest else 0.0

    def add(self, one: Delivery) -> None:
        """Count one more."""
        if one.phase is Phase.HELD:
            self.held += 1
            return
        self.total += 1
        self.oldest = min(self.oldest or one.scheduled_at, one.scheduled_at)
        known = one.destination in self.by_destination or len(self.by_destination) < MAX_FIGURES
        name = one.destination if known else OTHERS
        self.by_destination[name] = self.by_destination.get(name, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What of a node sending stands on.

    `keys` are the node's own, `peer_keys` those of others; `messages` is the node's own door. `chance` draws
    from 0 to 1: by how much a pause is cut.
    """

    settings: Settings
    log: Log
    snapshots: SnapshotStore
    actors: ActorSystem
    blobs: Blobs
    views: Views
    directory: AccountDirectory
    discovery: Discovery
    peer_keys: PeerKeys
    hasher: EmailHasher
    keys: ServerKeys
    messages: Messages
    reports: PeerReports
    clock: Clock
    chance: Callable[[], float]


class Federation:
    """Everything that sends. Nothing is dialled before `open`: commands without a daemon only look."""

    def __init__(self, rooms: Rooms) -> None:
        """Make all parts, and name the federation actors to the actor system."""
        self._rooms = rooms
        self.queue = OutboxQueue(rooms.views)
        self.backlog = Backlog()
        self.timers = Timers(rooms.clock, rooms.actors)
        self._client = rooms.discovery.client_with(_bounds(rooms.settings))
        self.lookup = self._lookup()
        self.outgoing = self._outgoing()
        rooms.actors.register(
            KIND, lambda key: FederationActor(key, rooms.log, rooms.snapshots, outgoing=self.outgoing)
        )
        self.uploads = self._uploads()
        self.sending = self._sending()

    def _lookup(self) -> EmailLookup:
        rooms = self._rooms
        return EmailLookup(
            client=self._client,
            domains=rooms.discovery.domains,
            keys=rooms.peer_keys,
            signing=rooms.keys,
            hasher=rooms.hasher,
            directory=rooms.directory,
            clock=rooms.clock,
            server_domain=rooms.settings.node.server_domain,
            email_domains=rooms.settings.node.email_domains,
        )

    def _sender(self) -> Sender:
        rooms, domain = self._rooms, self._rooms.settings.node.server_domain
        local = OwnDoor(
            messages=rooms.messages,
            reports=rooms.reports,
            signing=rooms.keys,
            clock=rooms.clock,
            server_domain=domain,
        )
        return Sender(
            client=self._client,
            dids=rooms.discovery.dids,
            keys=rooms.peer_keys,
            lookup=self.lookup,
            signing=rooms.keys,
            blobs=rooms.blobs,
            clock=rooms.clock,
            server_domain=domain,
            local=local,
        )

    def _outgoing(self) -> Outgoing:
        return Outgoing(
            courier=self._sender(),
            queue=self.queue,
            timers=self.timers,
            post=self._rooms.actors,
            clock=self._rooms.clock,
            settings=self._rooms.settings.delivery,
            chance=self._rooms.chance,
        )

    def _uploads(self) -> Uploads:
        rooms = self._rooms
        return Uploads(
            actors=rooms.actors,
            documents=rooms.views.stores["userdb"],
            blobs=rooms.blobs,
            reached=rooms.views.reached,
            clock=rooms.clock,
            quota=rooms.settings.node.quota_bytes,
        )

    def _sending(self) -> Sending:
        rooms, node = self._rooms, self._rooms.settings.node
        return Sending(
            actors=rooms.actors,
            directory=rooms.directory,
            documents=rooms.views.stores["userdb"],
            blobs=rooms.blobs,
            files=self.uploads,
            clock=rooms.clock,
            server_domain=node.server_domain,
            email_domains=node.email_domains,
            quota=node.quota_bytes,
            lifetime_ms=rooms.settings.delivery.lifetime_ms,
        )

    def tasks(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """Return what has to run while the node does."""
        return [self.timers.run, self._look, self._count]

    async def open(self, position: int) -> None:
        """Begin to deliver, once the queue knows everything up to a position of the log."""
        await self.queue.reached(position)
        await self.outgoing.open()

    async def _look(self) -> None:
        """Wake, from time to time, every destination that has no timer and nothing under way."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.outgoing.is_open:
                with contextlib.suppress(MailioError):
                    await self.outgoing.look()

    async def count(self) -> None:
        """Count what waits."""
        backlog = Backlog()
        async for one in self.queue.waiting.all():
            backlog.add(one)
        self.backlog = backlog

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(MailioError):
                await self.count()
            await asyncio.sleep(COUNT_SECONDS)

    async def stop(self) -> None:
        """Break off what is under way; the next start makes it again."""
        await self.outgoing.close()

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _bounds(settings: Settings) -> DiscoverySettings:
    """Return the bounds of the client that delivers: its own, so that lookups need not wait for it."""
    delivery = settings.delivery
    return msgspec.structs.replace(
        settings.discovery,
        fetches=delivery.attempts,
        fetches_per_host=delivery.requests_per_peer,
        fetch_seconds=delivery.attempt_seconds,
    )
