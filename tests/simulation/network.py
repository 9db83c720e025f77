"""The network between the nodes: DNS and HTTP without sockets, with faults drawn from a seed.

It loses requests and replies, delays, duplicates and so reorders them, splits the nodes into parts, and lets
name lookups fail. What a dead node had begun is never answered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping
from contextvars import copy_context
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from events.errors import MailioError
from node.api.failures import refusal
from node.discovery.answers import Answer, Kind, Outcome
from node.discovery.did_web import WebDids
from node.discovery.discovery import Discovery
from node.discovery.domains import Domains
from node.discovery.fetch import Fetched, FetchFailed, GuardedClient
from node.discovery.limits import DiscoverySettings
from node.discovery.record import record_name, record_text
from node.discovery.resolver import Resolver
from node.discovery.targets import Target
from tests.simulation.clock import LoopClock
from tests.simulation.loop import WORLD

PATIENCE_SECONDS = 10.0
"""How long a client waits for an answer."""

TTL = 60
"""Seconds that a record may be remembered."""


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Chances from 0 to 1, and the longest delay of one way in seconds."""

    lose: float = 0.0
    duplicate: float = 0.0
    no_name: float = 0.0
    delay: float = 0.05


class Host(Protocol):
    """A node as the network sees it."""

    domain: str

    @property
    def world(self) -> str:
        """The life in which it runs now, "" while it is down."""

    @property
    def public_key(self) -> bytes:
        """What its domain publishes."""

    async def serve(self, method: str, path: str, body: bytes, client: str) -> Fetched:
        """Answer one request."""


class Network:
    """Everything between the hosts. `requests` counts what was sent, `lost` what never came, or came back."""

    def __init__(self, chance: random.Random) -> None:
        self.faults = Faults()
        self.requests = self.lost = self.duplicated = 0
        self._chance = chance
        self._hosts: dict[str, Host] = {}
        self._parts: dict[str, int] = {}

    def add(self, host: Host) -> None:
        """Connect a host."""
        self._hosts[host.domain] = host

    def split(self, parts: Mapping[str, int]) -> None:
        """Let domains reach only those of the same part; an empty mapping heals everything."""
        self._parts = dict(parts)

    def _drawn(self, chance: float) -> bool:
        return self._chance.random() < chance

    def _together(self, one: str, other: str) -> bool:
        return self._parts.get(one, 0) == self._parts.get(other, 0)

    async def look_up(self, asking: str, name: str, kind: Kind) -> tuple[Outcome, tuple[str, ...]]:
        """Answer a DNS question; each domain's name server stands beside its node."""
        await asyncio.sleep(self._chance.random() * self.faults.delay)
        host = next((one for one in self._hosts.values() if record_name(one.domain) == name), None)
        if host is None:
            return Outcome.NO_NAME, ()
        if not self._together(asking, host.domain) or self._drawn(self.faults.no_name):
            return Outcome.TIMED_OUT, ()
        return (Outcome.FOUND, (record_text(host.public_key),)) if kind == "TXT" else (Outcome.NO_DATA, ())

    async def send(self, asking: str, method: str, url: str, body: bytes) -> Fetched:
        """Carry one request and its answer. Raises FetchFailed when no answer comes."""
        self.requests += 1
        parts = urlsplit(url)
        twice = self._drawn(self.faults.duplicate)
        answers = [
            asyncio.create_task(self._carried(asking, parts.hostname or "", method, parts.path, body))
            for _ in range(1 + twice)
        ]
        self.duplicated += twice
        done, _ = await asyncio.wait(answers[:1], timeout=PATIENCE_SECONDS)
        for task in done:
            if (fetched := task.result()) is not None:
                return fetched
        self.lost += 1
        raise FetchFailed("the host could not be reached", f"{method} {url}: no answer")

    async def _carried(self, asking: str, host: str, method: str, path: str, body: bytes) -> Fetched | None:
        """Bring a request there and its answer back; None when either is lost."""
        await asyncio.sleep(self._chance.random() * self.faults.delay)
        there = self._hosts.get(host)
        lost = self._drawn(self.faults.lose) or not self._together(asking, host)
        if there is None or not there.world or lost:
            return None
        fetched = await self._served(there, method, path, body, asking)
        if fetched is None:
            return None
        await asyncio.sleep(self._chance.random() * self.faults.delay)
        return None if self._drawn(self.faults.lose) or not self._together(asking, host) else fetched

    async def _served(self, there: Host, method: str, path: str, body: bytes, client: str) -> Fetched | None:
        """Let the host answer in its own life; when that ends meanwhile this waits for ever, or has None."""
        life, context = there.world, copy_context()
        context.run(WORLD.set, life)
        work = there.serve(method, path, body, client)
        task = asyncio.get_running_loop().create_task(_answered(work), context=context)
        await asyncio.wait({task})
        return task.result() if there.world == life else None


async def _answered(work: Awaitable[Fetched]) -> Fetched:
    """Turn an error into the answer that the HTTP door gives."""
    try:
        return await work
    except MailioError as error:
        said = refusal(error)
        assert isinstance(said.body, bytes)
        return Fetched(said.status, said.content_type, said.body, said.headers.get("Retry-After", ""))


class NetworkResolver(Resolver):
    """Asks the network's DNS; what is remembered and for how long is the real one's."""

    def __init__(self, settings: DiscoverySettings, clock: LoopClock, network: Network, own: str) -> None:
        super().__init__(settings, clock)
        self._network, self._own = network, own

    async def _asked(self, name: str, kind: Kind) -> Answer:
        outcome, values = await self._network.look_up(self._own, name, kind)
        return self._answer(name, kind, outcome, values=values, ttl=TTL)


class NetworkClient(GuardedClient):
    """Sends through the network."""

    def __init__(
        self, resolver: Resolver, settings: DiscoverySettings, clock: LoopClock, network: Network, own: str
    ) -> None:
        super().__init__(resolver, settings, clock)
        self._network, self._own = network, own

    async def _sent(
        self, method: str, target: Target, limit: int, body: bytes, headers: dict[str, str]
    ) -> Fetched:
        return await self._network.send(self._own, method, str(target.url), body)


class NetworkDiscovery(Discovery):
    """A node's discovery on the simulated network."""

    def __init__(self, settings: DiscoverySettings, clock: LoopClock, network: Network, own: str) -> None:
        self._network, self._own, self._time = network, own, clock
        super().__init__(settings, clock)
        self.resolver = NetworkResolver(settings, clock, network, own)
        self.domains = Domains(self.resolver, settings.prefixes)
        self.client = self.client_with(settings)
        self.dids = WebDids(self.client, settings, clock)

    def client_with(self, settings: DiscoverySettings) -> GuardedClient:
        """Make another client on the network; everything of a node that sends asks here for its own."""
        return NetworkClient(self.resolver, settings, self._time, self._network, self._own)
