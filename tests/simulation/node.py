"""One node of a simulation: everything but sockets and time is the real one. It lives, dies and lives again.

Death comes between two steps of the program, as by `kill -9`: nothing of a life goes on afterwards, and the next
one begins with the files as they were. What survives in between is the folder.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors.outgoing import DeliverySettings
from node.api.mailboxes import Mailboxes, OwnerKeys, UserVisibility
from node.core import Core
from node.crypto.did_documents import ServerEndpoints, server_document
from node.discovery.fetch import Fetched
from node.discovery.limits import DiscoverySettings
from node.mtp.limits import MtpSettings
from node.settings import NodeSettings, Settings
from node.sync.handshakes import SignedHandshakes
from node.sync.intake import ClientWrites
from tests.simulation.clock import LoopClock
from tests.simulation.loop import WORLD, SimulatedLoop
from tests.simulation.network import Network, NetworkDiscovery

T = TypeVar("T")

JSON = "application/json"


class Down(Exception):
    """The node does not run now, or died on the way."""


class SimulatedNode:
    """A node called `name`; its server's domain is `mio.<name>.example`."""

    def __init__(
        self, name: str, folder: Path, network: Network, loop: SimulatedLoop, chance: random.Random
    ) -> None:
        self.name = name
        self.domain = f"mio.{name}.example"
        self.folder = folder
        self.lives = 0
        self.core: Core | None = None
        self.writes: ClientWrites | None = None
        self.public_key = b""
        self._network, self._loop, self._chance = network, loop, chance
        self._context: Context | None = None
        network.add(self)

    @property
    def world(self) -> str:
        """The life in which it runs now, "" while it is down."""
        return f"{self.name}/{self.lives}" if self.core is not None else ""

    @property
    def running(self) -> Core:
        """The core. Raises Down."""
        if self.core is None:
            raise Down(self.name)
        return self.core

    @property
    def data(self) -> Path:
        """The data folder of this life."""
        return self.folder / str(self.lives)

    def settings(self) -> Settings:
        """Defaults, but for names, and for pauses that fit into minutes."""
        return Settings(
            node=NodeSettings(
                data=self.data, server_domain=self.domain, email_domains=(f"{self.name}.example",)
            ),
            discovery=DiscoverySettings(failure_seconds=5),
            # So narrow that whoever comes back meets it.
            mtp=MtpSettings(requests_per_second=2.0, request_burst=20),
            delivery=DeliverySettings(first_seconds=5.0, most_seconds=120.0, breaker_seconds=20.0),
        )

    async def start(self) -> None:
        """Begin a life with the files that the last one left."""
        before = self.data
        self.lives += 1
        if before.exists():
            before.rename(self.data)
        context = copy_context()
        context.run(WORLD.set, f"{self.name}/{self.lives}")
        self._context = context
        await self._loop.create_task(self._begun(), context=context)

    async def _begun(self) -> None:
        clock = LoopClock(self._loop, self._chance)
        settings = self.settings()
        discovery = NetworkDiscovery(settings.discovery, clock, self._network, self.domain)
        core = Core(settings, clock, discovery)
        self.public_key = core.keys.public_key
        await core.start()
        self.writes = ClientWrites(
            Mailboxes(core),
            UserVisibility(core),
            core.blobs,
            SignedHandshakes(OwnerKeys(core.directory).of),
            clock=core.clock,
            limits=settings.sync,
            quota=settings.node.quota_bytes,
        )
        self.core = core
        await core.federation.open(core.log.head)

    def die(self) -> None:
        """End this life here and now; its files are copied as they are, for it keeps the open ones."""
        if self.core is None:
            return
        self._loop.kill(self.world)
        aside = self.folder / "aside"
        shutil.copytree(self.data, aside, symlinks=True, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        self.data.rename(self.folder / f"{self.lives}.dead")
        aside.rename(self.data)
        self.core = self.writes = None

    async def stop(self) -> None:
        """End this life in good order."""
        await self.inside(lambda core: core.close())
        self.core = self.writes = None

    async def inside(self, work: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Do something in this life, as a door would. Raises Down when it ends before the work does."""
        core, life = self.running, self.world
        assert self._context is not None
        task = self._loop.create_task(work(core), context=self._context)
        while not task.done():
            # A dead life never finishes anything; so look whether it still is.
            await asyncio.wait({task}, timeout=0.5)
            if self.world != life:
                raise Down(life)
        return task.result()

    async def serve(self, method: str, path: str, body: bytes, client: str) -> Fetched:
        """Answer a peer, as the HTTP door does; the network sees to it that this runs in the node's life."""
        core = self.running
        if method == "GET":
            return _document(await self._asked_for(core, path))
        doors: dict[str, tuple[int, Callable[[bytes, str], Awaitable[bytes]]]] = {
            "/api/v1/mtp/message": (202, core.peer_door.message),
            "/api/v1/mtp/did": (200, core.peer_door.did),
            "/api/v1/mtp/handshake": (200, core.peer_door.handshake),
        }
        status, door = doors[path]
        return Fetched(status, JSON, await door(body, client))

    async def _asked_for(self, core: Core, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/did.json":
            return server_document(core.keys.public_key, ServerEndpoints(self.domain))
        return await core.directory.did_document(path.split("/")[1])

    def doom(self, steps: int) -> None:
        """Let the node die when it has given `steps` more jobs to its threads: in the middle of something."""
        life = self.world
        last = self._loop.steps.get(life, 0) + steps

        def due(world: str, step: int) -> bool:
            if world != life or step < last:
                return False
            self.die()
            return True

        self._loop.at_step[self.name] = due


def _document(found: dict[str, Any] | None) -> Fetched:
    return Fetched(404, JSON, b"{}") if found is None else Fetched(200, JSON, msgspec.json.encode(found))
