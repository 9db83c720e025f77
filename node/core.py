"""A node without its doors: log, blobs, actors, views, and the services that doors call.

Read `Core.open` and you know what stands on what. The daemon puts doors before it; commands that run
without a daemon use it as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from actors import account, handshake, mailbox, original
from actors.account import AccountActor
from actors.handshake import HandshakeActor
from actors.mailbox import MailboxActor
from actors.original import OriginalActor
from actors.routes import ROUTES
from actors.runtime.activation import ActorSystem, FailedTell
from actors.runtime.parking import Parking
from actors.runtime.reaction import Dispatcher
from events.errors import MailioError, Misconfigured
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.damage import lost_end
from events.log.log import Clock
from events.log.snapshots import SqliteSnapshots
from events.log.sqlite_log import CHECKED_AT_START, SqliteLog, bound_vault
from events.node import STREAM as NODE_STREAM
from events.node import Restorations, evolve
from node.acceptance import Acceptance
from node.accounts import Accounts
from node.attestation import Attestor
from node.crypto.did_documents import ServerEndpoints
from node.crypto.email_hash import EmailHasher
from node.crypto.envelope import Envelopes
from node.crypto.handshakes import server_handshake
from node.crypto.jwe import SealTo
from node.crypto.keys import ServerKeys, load_or_create_server_keys
from node.crypto.nonces import NonceBook
from node.crypto.passwords import Passwords
from node.crypto.scrypt_pool import ScryptPool
from node.crypto.tokens import TokenIssuer
from node.crypto.vault import Vault, vault_path
from node.discovery.discovery import Discovery
from node.discovery.peer_keys import DnsPeerKeys
from node.discovery.publishing import survey_once
from node.erasure import Erasure
from node.federation import Federation, Rooms
from node.filing import report_filing
from node.key_rotation import KeyRotation
from node.mentioned import blobs_of
from node.mime.reading import BlobMailReader
from node.mtp.door import PeerDoor
from node.mtp.handshake_lookup import HandshakeLookup
from node.mtp.reading import SignedMailReader
from node.mtp.receiving import Messages
from node.mtp.reports import PeerReports
from node.mtp.seen import SeenLookups
from node.mtp.turns import Turns
from node.mtp.verifying import Freshness, Verifier
from node.offers import Offers
from node.settings import Settings
from node.storage.checkpoints import FileCheckpoints
from node.storage.local import LocalBlobs
from node.storage.sealed import SealedBlobs
from node.views import Views
from projections.directory import AccountDirectory
from projections.statistics import SenderStatistics

_messages = structlog.get_logger("node")

SOFTWARE = f"mailio-node/{version('mailio-node')}"
"""Written into every record of the log."""

DRAIN_SECONDS = 20.0
"""How long running work may take to end at a stop; a reaction takes some milliseconds."""

RESTORING = ".restoring"
"""Folder inside the data folder while that is being restored from a backup."""

IMPORTS = "imports"
"""Folder inside the data folder for what is being imported; a start removes what was left there."""

CHECKPOINTS = "checkpoints.json"
"""File inside the data folder that says how far the dispatcher is."""

SEEN_LOOKUPS = "lookups.seen"
"""File inside the data folder that remembers which lookups of peers were answered."""

IN_COUCHDB = ("userdb", "directory", "statistics")
"""Views that a CouchDB is given; the queue is the node's own affair."""

DISPATCHER = "mail"
"""Name of the one consumer that carries events to actors."""


class Core:
    """Everything of a node but its doors. Use `Core.open`, then `start`, in the end `close`."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        discovery: Discovery | None = None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Open all stores below the data folder; the machine's `clock` and network unless others are given.

        `chance` draws from 0 to 1, for what is spread in time. Raises Misconfigured, CorruptRecord.
        """
        data = _data_folder(settings.node.data)
        self.settings = settings
        self._chance = chance
        self.clock: Clock = clock or SystemClock()
        self.vault = Vault.open(vault_path(data), bound_vault(data / "log.sqlite"))
        codec = Codec(sealer=Envelopes(self.vault))
        self.log = SqliteLog.open(data / "log.sqlite", self.clock, SOFTWARE, codec=codec)
        try:
            self._open(data, settings, discovery)
        except BaseException:
            self.log.abandon()
            raise

    def _open(self, data: Path, settings: Settings, discovery: Discovery | None) -> None:
        """Open what stands on the log."""
        shutil.rmtree(data / IMPORTS, ignore_errors=True)
        self.keys = self._keys(data / "keys" / "server.json")
        self.rotation = KeyRotation(
            data / "keys" / "server.json",
            self.keys,
            settings.keys,
            self.clock,
            lambda: survey_once(settings),
        )
        self.segments = LocalBlobs.open(data / "blobs")
        self.blobs = SealedBlobs(self.segments, Envelopes(self.vault, named=True))
        self.snapshots = SqliteSnapshots(data / "snapshots.sqlite")
        self.views = Views(data / "views", self.log, self.blobs, settings.views)
        self.directory = AccountDirectory(self.views.stores["directory"])
        self.sender_statistics = SenderStatistics(self.views.stores["statistics"])
        self.scrypt = ScryptPool()
        self.hasher = EmailHasher(self.scrypt)
        self.discovery = discovery or Discovery(settings.discovery, self.clock)
        self.parking = Parking(self.log)
        self.restorations = Restorations()
        self.actors = self._actors()
        self.dispatcher = self._dispatcher(data)
        self.accounts = self._accounts()
        self.acceptance = self._acceptance()
        self.offers = self._offers()
        self.handshake_lookup = self._handshake_lookup()
        self.peer_keys = DnsPeerKeys(self.discovery.domains, self.log, self.clock)
        self.reports = PeerReports(self.log, self.actors, self.discovery.domains, self.clock)
        self.peer_door = self._peer_door(data)
        self.federation = self._federation()
        self.erasure = self._erasure(data)
        domain = settings.node.server_domain
        self.attestor = Attestor(self.log, self.keys, domain, self.clock, settings.log)
        self._tasks: list[asyncio.Task[None]] = []

    def _keys(self, path: Path) -> ServerKeys:
        """Load the node's keys; make them only for a node that has no history yet."""
        if self.log.head and not path.exists():
            raise Misconfigured(
                f"{path} is missing, but there is a log: restore the key file from a backup, "
                "or the node is somebody else to its peers"
            )
        return load_or_create_server_keys(path, self.clock.now())

    def _actors(self) -> ActorSystem:
        system = ActorSystem(self.settings.actors, self.clock, _report_failed_tell)
        log, snapshots = self.log, self.snapshots
        reader = BlobMailReader(self.blobs, sealing=self._seal_to)
        signed_reader = SignedMailReader(self.blobs)
        percent = self.settings.node.goodreads_percent
        system.register(account.KIND, lambda key: AccountActor(key, log, snapshots))
        system.register(handshake.KIND, lambda key: HandshakeActor(key, log, snapshots, self.hasher))
        system.register(original.KIND, lambda key: OriginalActor(key, log, snapshots, self.blobs))
        system.register(
            mailbox.KIND,
            lambda key: MailboxActor(
                key,
                log,
                snapshots,
                reader=reader,
                signed_reader=signed_reader,
                books=system,
                clock=self.clock,
                goodreads_percent=percent,
                demands=self.settings.handshakes.demands,
                told=report_filing,
            ),
        )
        return system

    async def _seal_to(self, owner: str) -> SealTo | None:
        return await self.accounts.seal_to(owner)

    def _dispatcher(self, data: Path) -> Dispatcher:
        self.checkpoints = FileCheckpoints(data / CHECKPOINTS)
        return Dispatcher(
            DISPATCHER,
            self.log,
            self.actors,
            ROUTES,
            self.checkpoints,
            self.parking,
            self.settings.reactions,
            gives_way=lambda: self.acceptance.hurried,
        )

    def _accounts(self) -> Accounts:
        node = self.settings.node
        return Accounts(
            actors=self.actors,
            directory=self.directory,
            reached=lambda position: self.views.reached("directory", position),
            keys=self.keys,
            endpoints=ServerEndpoints(node.server_domain, self.settings.mtp.messaging_path),
            email_domains=node.email_domains,
            passwords=Passwords(self.scrypt),
            hasher=self.hasher,
            tokens=TokenIssuer(self.keys, self.settings.http.token_days * 86_400),
            nonces=NonceBook(self.clock),
            clock=self.clock,
            vault=self.vault,
            restored_at=lambda: self.restorations.last_at,
        )

    def _acceptance(self) -> Acceptance:
        return Acceptance(
            log=self.log,
            blobs=self.blobs,
            directory=self.directory,
            actors=self.actors,
            work=self.dispatcher,
            clock=self.clock,
            domain=self.settings.node.email_domains[0],
            quota=self.settings.node.quota_bytes,
            backlog_limit=self.settings.smtp.backlog,
            mime=self.settings.smtp.mime,
            demands=self.settings.handshakes.demands,
        )

    def _offers(self) -> Offers:
        return Offers(
            self.actors,
            self.clock,
            domain=self.settings.node.server_domain,
            hours=self.settings.handshakes.offer_hours,
            most=self.settings.handshakes.open_offers,
            restored_at=lambda: self.restorations.last_at,
        )

    def _handshake_lookup(self) -> HandshakeLookup:
        return HandshakeLookup(
            directory=self.directory,
            actors=self.actors,
            hashes=self.hasher,
            domains=self.discovery.domains,
            clock=self.clock,
            default=self.server_handshake,
        )

    def server_handshake(self) -> dict[str, Any]:
        """What this node says to senders whom an owner's book does not know."""
        level = self.settings.handshakes.minimum_level.value
        return server_handshake(self.keys, self.settings.node.server_domain, level)

    def _peer_door(self, data: Path) -> PeerDoor:
        mtp, clock = self.settings.mtp, self.clock
        freshness = Freshness(clock, mtp.window_seconds)
        self.peer_messages = Messages(
            log=self.log,
            acceptance=self.acceptance,
            offers=self.offers,
            reports=self.reports,
            freshness=freshness,
            clock=clock,
            keys=self.keys,
            server_domain=self.settings.node.server_domain,
        )
        return PeerDoor(
            verifier=Verifier(self.peer_keys, clock),
            turns=Turns(mtp, clock),
            freshness=freshness,
            seen=SeenLookups(data / SEEN_LOOKUPS, clock, mtp.window_seconds),
            messages=self.peer_messages,
            directory=self.directory,
            handshakes=self.handshake_lookup,
            keys=self.keys,
            clock=clock,
            heard=self._heard,
        )

    def _heard(self, peer: str) -> None:
        """Let deliveries that wait for a peer know that it is there."""
        self.federation.outgoing.seen(peer)

    def _federation(self) -> Federation:
        rooms = Rooms(
            settings=self.settings,
            log=self.log,
            snapshots=self.snapshots,
            actors=self.actors,
            blobs=self.blobs,
            views=self.views,
            directory=self.directory,
            discovery=self.discovery,
            peer_keys=self.peer_keys,
            hasher=self.hasher,
            keys=self.keys,
            messages=self.peer_messages,
            reports=self.reports,
            clock=self.clock,
            chance=self._chance,
        )
        return Federation(rooms)

    def _erasure(self, data: Path) -> Erasure:
        return Erasure(
            data=data,
            vault=self.vault,
            log=self.log,
            accounts=self.accounts,
            actors=self.actors,
            parking=self.parking,
            blobs=self.blobs,
            snapshots=self.snapshots,
            views=self.views,
        )

    async def start(self) -> None:
        """Let the runners, the dispatcher and the actors' sweeper go."""
        await self._require_whole_log()
        await self._name_lost_blobs()
        for record in await self.log.stream(NODE_STREAM):
            self.restorations = evolve(self.restorations, record.event)
        await self.views.prepare()
        await self.dispatcher.resume()
        self._tasks = [asyncio.create_task(self.dispatcher.run(), name="dispatcher")]
        self._tasks.append(asyncio.create_task(self.actors.run(), name="actors"))
        self._tasks.append(asyncio.create_task(self.attestor.run(), name="attestor"))
        for name, runner in self.views.runners.items():
            self._tasks.append(asyncio.create_task(runner.run(), name=f"view {name}"))
        couchdb = self.settings.couchdb
        for name in IN_COUCHDB if couchdb.url else ():
            feed = self.views.feed_couchdb(name, couchdb.url, couchdb.prefix)
            self._tasks.append(asyncio.create_task(feed, name=f"couchdb {name}"))
        self._tasks.append(asyncio.create_task(self.erasure.resume(), name="erasure"))
        for task in self.federation.tasks():
            self._tasks.append(asyncio.create_task(task(), name="federation"))

    async def _require_whole_log(self) -> None:
        """See that nobody knows more events than the log has. Raises CorruptRecord.

        Whoever follows the log was told only of what was durable. And a consumer that is ahead of a log
        would pass over the next events in silence.
        """
        known = {f"view {name}": await store.checkpoint() for name, store in self.views.stores.items()}
        known["checkpoints.json"] = await self.checkpoints.load(DISPATCHER)
        for who, position in known.items():
            if position > self.log.head:
                raise lost_end(self.log.head, position, who)

    async def _name_lost_blobs(self) -> None:
        """Tell the operator which blobs of the newest events are missing or damaged: they were promised."""
        for record in await self.log.read(max(0, self.log.head - CHECKED_AT_START), CHECKED_AT_START):
            for name in blobs_of(record.event):
                if self.segments.has_lost(name):
                    _messages.error(
                        "a blob is missing or damaged",
                        blob=name,
                        position=record.position,
                        stream=record.stream,
                        advice="restore the segments from a backup, then restart",
                    )

    async def failed(self) -> None:
        """Wait until one of the node's own tasks fails, and raise its error."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def close(self, *, attest: bool = False) -> None:
        """Finish what was begun, then release everything, in the order in which it stands on each other.

        With `attest`, the log as it is in the end is signed, if anything is new in it. What does not end
        within `DRAIN_SECONDS` is left: the log brings it back at the next start. What fails is raised when
        everything else is released.
        """
        async with contextlib.AsyncExitStack() as last_first:
            last_first.callback(self.scrypt.close)
            last_first.callback(self.vault.close)
            last_first.push_async_callback(self.log.close)
            last_first.push_async_callback(self.blobs.close)
            last_first.callback(self.snapshots.close)
            last_first.push_async_callback(self.views.close)
            last_first.push_async_callback(self.actors.close)
            last_first.push_async_callback(self.discovery.close)
            last_first.push_async_callback(self.peer_keys.close)
            last_first.push_async_callback(self.federation.close)
            last_first.push_async_callback(self._cancel)
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._drain(attest=attest)
            except TimeoutError:
                _messages.warning("not everything ended in time; the next start goes on with it")

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _attest(self) -> None:
        """Sign the log; the checkpoint is not to look like unfinished work at the next start."""
        if (position := await self.attestor.try_to_sign()) is not None:
            # If this can't be saved, the next start looks at the event and finds nothing to do.
            with contextlib.suppress(MailioError, OSError):
                await self.dispatcher.pass_over(position)

    async def _drain(self, *, attest: bool) -> None:
        await self.dispatcher.stop()
        await self.federation.stop()
        await self.actors.drain()
        if attest and self.log.head:
            await self._attest()
        for runner in self.views.runners.values():
            await runner.stop()


def _report_failed_tell(failed: FailedTell) -> None:
    _messages.error(
        "an actor failed",
        actor=f"{failed.kind}/{failed.key}",
        error=repr(failed.error),
        exc_info=failed.error,
    )


def _data_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Misconfigured(f"{folder}: the data folder can't be made: {error.strerror}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise Misconfigured(f"{folder}: the data folder is another user's: run this as the one who owns it")
    if (folder / RESTORING).exists():
        raise Misconfigured(f"{folder}: a restore was interrupted here: run `mailio-node restore` again")
    return folder
