"""Destinations under a virtual clock: a scripted courier, and a queue that is folded from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from actors.federation import FederationActor
from actors.outgoing import KIND, DeliverySettings, Outgoing
from actors.runtime.activation import ActorLimits, ActorSystem, FailedTell
from actors.runtime.reaction import React, ReactAll
from actors.runtime.timers import Timers
from events import delivery
from events.attempt import Addressee, Cause, Outcome, Verdict
from events.delivery import Delivery, DeliveryScheduled, Kind, delivery_id
from events.event import Recorded
from events.log.clock import VirtualClock
from events.log.log import Origin, Write
from tests.fakes.memory_log import MemoryLog, MemorySnapshots

RECEIVED = Outcome(verdict=Verdict.DELIVERED, code="2.0.0", text="message sent", server="beta.example")
DEAD = Outcome(verdict=Verdict.LATER, code="4.4.1", text="no answer", cause=Cause.UNREACHABLE)
REFUSED = Outcome(verdict=Verdict.LATER, code="4.7.7", text="bad signature", cause=Cause.REFUSED)
NO = Outcome(verdict=Verdict.FINAL, code="5.1.1", text="nobody there")

ALICE = "0x" + "a1" * 20
EVE = "0x" + "e0" * 20

ORIGIN = Origin(actor="test")


NODES: list[Node] = []
"""Those that were made, for `close_all`."""


async def close_all() -> None:
    """End every node, as a stop does."""
    while NODES:
        await NODES.pop().close()


class LogQueue:
    """What waits, folded from the log each time: the slow truth."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.reads = 0

    def states(self) -> dict[str, Delivery]:
        states: dict[str, Delivery] = {}
        for record in self.log.records:
            if record.stream.startswith(delivery.STREAM):
                key = record.stream.removeprefix(delivery.STREAM)
                states[key] = delivery.evolve(states.get(key) or delivery.initial(key), record.event)
        return states

    async def of(self, destination: str) -> AsyncIterator[Delivery]:
        self.reads += 1
        for state in self.states().values():
            if state.destination == destination and not state.final:
                yield state

    async def destinations(self) -> list[str]:
        return sorted({state.destination for state in self.states().values() if not state.final})

    async def reached(self, position: int) -> None:
        assert position <= self.log.head


class ScriptedCourier:
    """Answers as `answers` says for a destination; `hold` keeps attempts waiting. `carried` has what came."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Delivery], Outcome]] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.carried: list[tuple[str, str]] = []
        self.at_once = 0
        self.most_at_once: dict[str, int] = {}
        self._now: dict[str, int] = {}

    async def carry(self, delivery: Delivery) -> Outcome:
        place = delivery.destination
        self.carried.append((place, delivery.message))
        self._now[place] = self._now.get(place, 0) + 1
        self.most_at_once[place] = max(self.most_at_once.get(place, 0), self._now[place])
        try:
            if place in self.hold:
                await self.hold[place].wait()
            await asyncio.sleep(0)
            return self.answers[place](delivery) if place in self.answers else RECEIVED
        finally:
            self._now[place] -= 1

    def to(self, destination: str) -> list[str]:
        return [message for place, message in self.carried if place == destination]


class Node:
    """Federation actors on a log; `start` again with the same log is a restart."""

    def __init__(
        self, log: MemoryLog | None = None, clock: VirtualClock | None = None, **settings: Any
    ) -> None:
        self.clock = clock or VirtualClock(start=1_000_000)
        self.log = log or MemoryLog(self.clock)
        self.queue = LogQueue(self.log)
        self.courier = ScriptedCourier()
        self.failed: list[FailedTell] = []
        self.actors = ActorSystem(ActorLimits(), self.clock, self.failed.append)
        self.timers = Timers(self.clock, self.actors)
        self.outgoing = Outgoing(
            courier=self.courier,
            queue=self.queue,
            timers=self.timers,
            post=self.actors,
            clock=self.clock,
            settings=msgspec.structs.replace(DeliverySettings(), **settings),
            chance=lambda: 0.0,
        )
        snapshots = MemorySnapshots()
        NODES.append(self)
        self.actors.register(
            KIND, lambda key: FederationActor(key, self.log, snapshots, outgoing=self.outgoing)
        )

    async def open(self) -> Node:
        await self.outgoing.open()
        await self.settle()
        return self

    async def close(self) -> None:
        await self.outgoing.close()
        for _ in range(20):
            await asyncio.sleep(0)
        await self.actors.close()

    async def promise(self, message: str, destination: str = "beta.example", owner: str = ALICE) -> Recorded:
        """Schedule a message, and tell nobody yet."""
        now = self.clock.now()
        event = DeliveryScheduled(
            owner=owner,
            kind=Kind.MESSAGE,
            message=message,
            destination=destination,
            addressees=(Addressee(did=f"did:web:{destination}#{EVE}", address=EVE),),
            scheduled_at=now,
            expires_at=now + self.outgoing.settings.lifetime_ms,
        )
        stream = delivery.stream(delivery_id(destination, message))
        (record,) = await self.log.append(Write(stream, (event,), 0), origin=ORIGIN)
        return record

    async def send(self, *messages: str, destination: str = "beta.example", owner: str = ALICE) -> None:
        """Schedule messages and let the actor hear of them, as the dispatcher does."""
        records = tuple([await self.promise(message, destination, owner) for message in messages])
        told = React(records[0]) if len(records) == 1 else ReactAll(records)
        await self.actors.ask(KIND, destination, told)
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        still, before = 0, (-1, -1)
        while still < 4:
            await self.timers.fire()
            for _ in range(10):
                await asyncio.sleep(0)
            now = (self.log.head, len(self.courier.carried))
            still = still + 1 if now == before else 0
            before = now
        assert not self.failed, self.failed

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass, from timer to timer."""
        end = self.clock.now() + milliseconds
        while (at := self.timers.next()) is not None and at <= end:
            self.clock.set(max(at, self.clock.now()))
            await self.settle()
        self.clock.set(end)
        await self.settle()

    def state(self, message: str, destination: str = "beta.example") -> Delivery:
        return self.queue.states()[delivery_id(destination, message)]
