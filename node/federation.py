"""The way out, wired: what stands between a client's wish to send and the peers' doors."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec
import structlog

from actors.federation import FederationActor
from actors.outgoing import KIND, Outgoing
from actors.runtime.activation import ActorSystem
from actors.runtime.timers import Timers
from events.delivery import Delivery
from events.errors import MailioError
from events.log.log import Clock, Log, SnapshotStore
from node.crypto.email_hash import EmailHasher
from node.crypto.keys import ServerKeys
from node.discovery.discovery import Discovery
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

_messages = structlog.get_logger("federation")


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


class Federation:
    """Everything that sends. Nothing is dialled before `open`: commands without a daemon only look."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: Log,
        snapshots: SnapshotStore,
        actors: ActorSystem,
        blobs: Blobs,
        views: Views,
        directory: AccountDirectory,
        discovery: Discovery,
        peer_keys: PeerKeys,
        hasher: EmailHasher,
        keys: ServerKeys,
        messages: Messages,
        reports: PeerReports,
        clock: Clock,
    ) -> None:
        """`keys` are the node's own, `peer_keys` those of others; `messages` is the node's own door."""
        node, delivery = settings.node, settings.delivery
        self.queue = OutboxQueue(views)
        self.timers = Timers(clock, actors)
        self._client = discovery.client_with(
            msgspec.structs.replace(
                settings.discovery,
                fetches=delivery.attempts,
                fetches_per_host=delivery.requests_per_peer,
                fetch_seconds=delivery.attempt_seconds,
            )
        )
        self.lookup = EmailLookup(
            client=self._client,
            domains=discovery.domains,
            keys=peer_keys,
            signing=keys,
            hasher=hasher,
            directory=directory,
            clock=clock,
            server_domain=node.server_domain,
            email_domains=node.email_domains,
        )
        local = OwnDoor(
            messages=messages, reports=reports, signing=keys, clock=clock, server_domain=node.server_domain
        )
        sender = Sender(
            client=self._client,
            dids=discovery.dids,
            keys=peer_keys,
            lookup=self.lookup,
            signing=keys,
            blobs=blobs,
            clock=clock,
            server_domain=node.server_domain,
            local=local,
        )
        self.outgoing = Outgoing(
            courier=sender,
            queue=self.queue,
            timers=self.timers,
            post=actors,
            clock=clock,
            settings=delivery,
            chance=random.random,
        )
        actors.register(KIND, lambda key: FederationActor(key, log, snapshots, outgoing=self.outgoing))
        self.uploads = Uploads(
            actors=actors,
            documents=views.stores["userdb"],
            blobs=blobs,
            reached=views.reached,
            clock=clock,
            quota=node.quota_bytes,
        )
        self.sending = Sending(
            actors=actors,
            directory=directory,
            documents=views.stores["userdb"],
            blobs=blobs,
            files=self.uploads,
            clock=clock,
            server_domain=node.server_domain,
            email_domains=node.email_domains,
            quota=node.quota_bytes,
            lifetime_ms=delivery.lifetime_ms,
        )

    def tasks(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """Return what has to run while the node does."""
        return [self.timers.run, self._look]

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

    async def stop(self) -> None:
        """Break off what is under way; the next start makes it again."""
        await self.outgoing.close()

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
