"""A tiny domain for the runtime's tests: a till that takes coins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.runtime.aggregate import AggregateActor
from events.errors import InvalidInput
from events.event import Event, Recorded
from events.log.log import Origin


class TestCoinSent(Event, frozen=True, kw_only=True):
    """What the tills react to: a coin for each of them, in order of `number`."""

    __test__ = False
    tills: tuple[str, ...]
    number: int


class TestCoinTaken(Event, frozen=True, kw_only=True):
    """A till's answer."""

    __test__ = False
    number: int


class Take(msgspec.Struct, frozen=True):
    """Command: take a coin; negative ones are refused."""

    number: int


class TillState(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()


class Till(AggregateActor[TillState, Take]):
    """Keeps the numbers of its coins."""

    state_type = TillState
    snapshot_every = 10

    @staticmethod
    def stream_of(key: str) -> str:
        return f"till-{key}"

    @staticmethod
    def initial(key: str) -> TillState:
        return TillState()

    @staticmethod
    def decide(state: TillState, command: Take) -> Sequence[Event]:
        if command.number < 0:
            raise InvalidInput("a coin can't be negative")
        return [TestCoinTaken(number=command.number)]

    @staticmethod
    def evolve(state: TillState, event: Event) -> TillState:
        match event:
            case TestCoinTaken(number=number):
                return TillState((*state.numbers, number))
        return state

    async def react(self, record: Recorded) -> Any:
        assert isinstance(record.event, TestCoinSent)
        origin = Origin(actor=f"till/{self.key}", cause=record.metadata, answers=True)
        return await self.execute(Take(record.event.number), origin)

    async def handle(self, message: Any) -> tuple[int, ...]:
        return self.state.numbers


ROUTES = {"TestCoinSent": lambda record: [("till", till) for till in record.event.tills]}
