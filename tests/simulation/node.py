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
from actors.runtime.activation import ActorLimits
from actors.runtime.reaction import DispatchLimits
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

SKEWS = (0, 0, -20_000, 3_000)
"""How far the clock of a node goes wrong, in milliseconds: each node's is drawn."""

Draw = Callable[[str], random.Random]
"""Gives a source of chance by its name: what is drawn from one leaves the others as they were."""


class Down(Exception):
    """The node does not run now, or died on the way."""


class Served(msgspec.Struct, frozen=True):
    """A request that a life took from a peer: when it came and when it was answered, in virtual seconds."""

    life: str
    peer: str
    came: float
    answered: float


class SimulatedNode:
    """A node called `name`; its server's domain is `mio.<name>.example`. `deaths` are the places of its deaths."""

    def __init__(self, name: str, folder: Path, network: Network, loop: SimulatedLoop, draw: Draw) -> None:
        self.name = name
        self.domain = f"mio.{name}.example"
        self.folder = folder
        self.data = folder / "new"
        self.lives = 0
        self.life = ""
        self.deaths: list[str] = []
        self.served: list[Served] = []
        self.core: Core | None = None
        self.writes: ClientWrites | None = None
        self.public_key = b""
        self._network, self._loop = network, loop
        self._ids, self._jitter = draw(f"ids of {name}"), draw(f"jitter of {name}")
        self._skew = draw(f"clock of {name}").choice(SKEWS)
        self._context: Context | None = None
        self._ended: asyncio.Future[None] | None = None
        network.add(self)

    @property
    def world(self) -> str:
        """The life in which it answers now, "" while it is down or not ready."""
        return self.life if self.core is not None else ""

    @property
    def running(self) -> Core:
        """The core. Raises Down."""
        if self.core is None:
            raise Down(self.name)
        return self.core

    def settings(self) -> Settings:
        """Defaults, but for names, for pauses that fit into minutes, and for bounds that a story comes to."""
        return Settings(
            node=NodeSettings(
                data=self.data, server_domain=self.domain, email_domains=(f"{self.name}.example",)
            ),
            actors=ActorLimits(idle_seconds=45.0, sweep_seconds=15.0),
            reactions=DispatchLimits(checkpoint_seconds=10.0),
            discovery=DiscoverySettings(failure_seconds=5),
            delivery=DeliverySettings(first_seconds=5.0, most_seconds=120.0, breaker_seconds=20.0),
            mtp=MtpSettings(requests_per_second=1.0, request_burst=5),
        )

    def next_life(self) -> str:
        """Name the life that the next start begins."""
        return f"{self.name}/{self.lives + 1}"

    async def start(self) -> None:
        """Begin a life with the files that the last one left. Raises Down when it ends before it is ready."""
        self.life = self.next_life()
        self.lives += 1
        before, self.data = self.data, self.folder / str(self.lives)
        if before.exists():
            before.rename(self.data)
        self._context = copy_context()
        self._context.run(WORLD.set, self.life)
        self._ended = self._loop.create_future()
        await self._lived(self._begun())

    async def _begun(self) -> None:
        clock = LoopClock(self._loop, self._ids, self._skew)
        settings = self.settings()
        discovery = NetworkDiscovery(settings.discovery, clock, self._network, self.domain)
        core = Core(settings, clock, discovery, chance=self._jitter.random)
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

    def die(self, where: str = "between two steps") -> None:
        """End this life here and now; its files are copied as they are, for it keeps the open ones."""
        if not self.life:
            return
        self._loop.kill(self.life)
        self.deaths.append(where)
        left = self.folder / f"{self.lives}.left"
        if self.data.exists():
            shutil.copytree(self.data, left, symlinks=True, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
            self.data.rename(self.folder / f"{self.lives}.dead")
        self.data, self.life = left, ""
        self.core = self.writes = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def stop(self) -> None:
        """End this life in good order."""
        await self.inside(lambda core: core.close())
        self.core, self.writes, self.life = None, None, ""

    async def inside(self, work: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Do something in this life, as a door would. Raises Down when it ends before the work does."""
        return await self._lived(work(self.running))

    async def _lived(self, work: Coroutine[Any, Any, T]) -> T:
        life, ended = self.life, self._ended
        assert self._context is not None
        assert ended is not None
        task = self._loop.create_task(work, context=self._context)
        # A dead life never finishes anything.
        either: set[asyncio.Future[Any]] = {task, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise Down(life)
        return task.result()

    async def serve(self, method: str, path: str, body: bytes, client: str) -> Fetched:
        """Answer a peer, as the HTTP door does; the network sees to it that this runs in the node's life."""
        core, life, came = self.running, self.life, self._loop.time()
        if method == "GET":
            return _document(await self._asked_for(core, path))
        doors: dict[str, tuple[int, Callable[[bytes, str], Awaitable[bytes]]]] = {
            "/api/v1/mtp/message": (202, core.peer_door.message),
            "/api/v1/mtp/did": (200, core.peer_door.did),
            "/api/v1/mtp/handshake": (200, core.peer_door.handshake),
        }
        status, door = doors[path]
        with core.peer_door.turns.of_address(client) as grow:
            grow(len(body))
            reply = await door(body, client)
        self.served.append(Served(life, client, came, self._loop.time()))
        return Fetched(status, JSON, reply)

    async def _asked_for(self, core: Core, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/did.json":
            return server_document(core.keys.public_key, ServerEndpoints(self.domain))
        return await core.directory.did_document(path.split("/")[1])

    def doom(self, steps: int) -> None:
        """Let the node die when it has given `steps` more jobs to its threads: in the middle of something."""
        life = self.life
        last = self._loop.steps.get(life, 0) + steps

        def due(world: str, step: int) -> bool:
            if world != life or step < last:
                return False
            self.die("in a thread")
            return True

        self._loop.at_step[self.name] = due


def _document(found: dict[str, Any] | None) -> Fetched:
    return Fetched(404, JSON, b"{}") if found is None else Fetched(200, JSON, msgspec.json.encode(found))
