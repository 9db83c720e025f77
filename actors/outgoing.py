"""What all federation actors of a node share: the way out, the queue, the timers, and what is under way.

It outlives every single actor: one that is restarted or put out of memory finds here which of its deliveries
are being tried, so that none is tried twice at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from actors.runtime.timers import BUSY_MS, Post, Timers
from events.attempt import Outcome, RetryPolicy
from events.delivery import (
    Delivery,
)
from events.destination import Breaker, Destination
from events.errors import Busy
from events.log.log import Clock

KIND = "federation"
"""Kind of the actors, one for each destination."""

OTHERS = "others"
"""Name under which the figures of destinations beyond `MAX_FIGURES` are added up."""

MAX_FIGURES = 100
"""Destinations that have figures of their own: a stranger must not be able to make labels without end."""


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delivering to other nodes: how often, how long, how many at once."""

    first_seconds: float = 60.0
    """Pause after the first failed attempt; each later one is `factor` times as long …"""
    factor: float = 2.0
    """… with up to a quarter taken off by chance, so that not all of a node's senders come at once …"""
    most_seconds: float = 3_600.0
    """… up to this. A peer's Retry-After counts up to this too."""
    expire_hours: float = 120.0
    """After this a message is given up and its sender told: five days, as mail servers do."""
    refusals: int = 5
    """Attempts at a message that a peer refuses although it may be mistaken: its view of our key may lag."""
    concurrency: int = 4
    """Deliveries to one destination at once."""
    attempts: int = 128
    """Deliveries at once in all; what dead peers hold of them is bounded by `concurrency` and the breaker."""
    attempt_seconds: float = 30.0
    """How long one request to a peer may take."""
    requests_per_peer: int = 10
    """Requests to one peer in a second: what a reference server allows (wire spec section 3.8)."""
    breaker_failures: int = 5
    """Transport failures in a row after which a destination is left alone …"""
    breaker_seconds: float = 60.0
    """… for this long, then for `factor` times as long, up to `most_seconds`."""
    probe_seconds: float = 10.0
    """A peer that contacts us is tried at once, but not more often than this."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings that would deliver nothing, or never stop."""
        for name in ("first_seconds", "most_seconds", "expire_hours", "refusals", "concurrency", "attempts",
                     "attempt_seconds", "requests_per_peer", "breaker_failures",
                     "breaker_seconds"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        if self.factor < 1:
            raise ValueError("factor must be at least 1")

    @property
    def retries(self) -> RetryPolicy:
        """The pauses between attempts."""
        return self._policy(self.first_seconds)

    @property
    def breaker(self) -> RetryPolicy:
        """The pauses of the breaker."""
        return self._policy(self.breaker_seconds)

    @property
    def lifetime_ms(self) -> int:
        """How long a delivery may take, in milliseconds."""
        return int(self.expire_hours * 3_600_000)

    def _policy(self, first: float) -> RetryPolicy:
        return RetryPolicy(
            first_ms=int(first * 1000),
            factor=self.factor,
            most_ms=int(self.most_seconds * 1000),
            refusals=self.refusals,
        )


class Courier(Protocol):
    """The way to a destination: the network, or this node's own door."""

    async def carry(self, delivery: Delivery) -> Outcome:
        """Try once, and judge the answer. Raises only what is a fault of this node."""


class Queue(Protocol):
    """The deliveries that wait, and up to which event that is known."""

    def of(self, destination: str) -> AsyncIterator[Delivery]:
        """Give what waits for a destination, oldest first."""

    async def destinations(self) -> list[str]:
        """Name every destination that something waits for."""

    async def reached(self, position: int) -> None:
        """Return when everything up to a position of the log is known."""


class Figures(msgspec.Struct):
    """What happened to one destination since the start, and how it is now. Times in milliseconds."""

    attempts: int = 0
    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    breaker: Breaker = Breaker.CLOSED
    until: int = 0


class Concluded(msgspec.Struct, frozen=True):
    """Message to a federation actor: attempts have ended (`Outgoing.outcomes`)."""


class Ended(msgspec.Struct, frozen=True):
    """How one attempt ended."""

    delivery: str
    number: int
    outcome: Outcome


class Outgoing:
    """Shared by the federation actors. Nothing is dialled before `open`, nor after `close`."""

    def __init__(
        self,
        *,
        courier: Courier,
        queue: Queue,
        timers: Timers,
        post: Post,
        clock: Clock,
        settings: DeliverySettings,
        chance: Callable[[], float],
    ) -> None:
        """`chance` gives numbers from 0 up to 1."""
        self.courier = courier
        self.queue = queue
        self.timers = timers
        self.clock = clock
        self.settings = settings
        self.chance = chance
        self.is_open = False
        self.running: dict[str, set[str]] = {}
        self.outcomes: dict[str, list[Ended]] = {}
        self.figures: dict[str, Figures] = {}
        self._post = post
        self._troubled: set[str] = set()
        self._contacted: set[str] = set()
        self._room = asyncio.Semaphore(settings.attempts)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """Attempts that are being made now."""
        return len(self._tasks)

    async def open(self) -> None:
        """Begin: wake every destination that something waits for."""
        self.is_open = True
        for destination in await self.queue.destinations():
            self.timers.set(KIND, destination, self.clock.now())

    async def look(self) -> None:
        """Wake the destinations that nobody would: a net below the timers, for what no test has shown."""
        for destination in await self.queue.destinations():
            if not self.timers.has(KIND, destination) and destination not in self.running:
                self.timers.set(KIND, destination, self.clock.now())

    async def close(self) -> None:
        """Break off what is under way: an attempt without an end is made again at the next start."""
        self.is_open = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What has ended is still recorded; an actor that waited for the rest would wait for ever.
        self.running.clear()
        for destination in tuple(self.outcomes):
            with suppress(Busy):
                await self._post.tell(KIND, destination, Concluded())

    def seen(self, domain: str) -> None:
        """Hear that a peer has sent us something that it signed. Costs nothing while all is well."""
        for destination in (domain, domain.partition(".")[2]):
            if destination in self._troubled and self.is_open:
                self._contacted.add(destination)
                self.timers.set(KIND, destination, self.clock.now())

    def contacted(self, destination: str) -> bool:
        """Whether the peer has been heard of since this was asked last."""
        heard = destination in self._contacted
        self._contacted.discard(destination)
        return heard

    def begin(self, delivery: Delivery) -> None:
        """Make the attempt that was recorded, in a task of its own; after `close` the next start makes it."""
        if not self.is_open:
            return
        self.running.setdefault(delivery.destination, set()).add(delivery.id)
        task = asyncio.create_task(
            self._attempt(delivery.destination, delivery), name=f"deliver {delivery.id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, destination: str, delivery: Delivery) -> None:
        number = delivery.attempts
        async with self._room:
            outcome = await self.courier.carry(delivery)
        self.outcomes.setdefault(destination, []).append(Ended(delivery.id, number, outcome))
        try:
            await self._post.tell(KIND, destination, Concluded())
        except Busy:
            self.timers.set(KIND, destination, self.clock.now() + BUSY_MS)

    def has_ended(self, destination: str) -> bool:
        """Whether attempts have ended that are not recorded."""
        return bool(self.outcomes.get(destination))

    def ended(self, destination: str) -> list[Ended]:
        """Take the attempts that have ended; they are under way until `settled`."""
        return self.outcomes.pop(destination, [])

    def keep(self, destination: str, ended: list[Ended]) -> None:
        """Give back ends that could not be recorded now."""
        self.outcomes[destination] = [*ended, *self.outcomes.get(destination, [])]

    def settled(self, destination: str, key: str) -> None:
        """Note that the end of an attempt is recorded, or will never be."""
        running = self.running.get(destination)
        if running is not None:
            running.discard(key)
            if not running:
                del self.running[destination]

    def note(self, state: Destination) -> None:
        """Keep how a destination is, for `seen` and for the figures."""
        figures = self.of(state.domain)
        figures.breaker, figures.until = state.breaker, state.opens_at()
        if state.troubled:
            self._troubled.add(state.domain)
        else:
            self._troubled.discard(state.domain)

    def of(self, destination: str) -> Figures:
        """Return a destination's figures, which may be those of many."""
        known = destination in self.figures or len(self.figures) < MAX_FIGURES
        return self.figures.setdefault(destination if known else OTHERS, Figures())
