"""Parked reactions as a pure history."""

from __future__ import annotations

import msgspec
import pytest

from events.errors import NotFound
from events.event import Event
from events.parking import Drop, Park, Parked, Retry, decide, evolve

PARK = Park(
    consumer="tills", kind="till", key="a", position=7, event_id="e" * 32, reason="broken", attempts=5
)
ID = "tills:7:till:a"


def after(*commands: Park | Retry | Drop) -> tuple[Parked, list[Event]]:
    state, history = Parked(), list[Event]()
    for command in commands:
        for event in decide(state, command):
            state = evolve(state, event)
            history.append(event)
    return state, history


def test_a_parked_reaction_is_listed_under_its_id() -> None:
    state, [event] = after(PARK)
    assert state.waiting == {ID: event}
    assert msgspec.to_builtins(event) == msgspec.to_builtins(PARK)


def test_parking_again_replaces_the_reason() -> None:
    state, _ = after(PARK, msgspec.structs.replace(PARK, reason="still broken", attempts=6))
    assert [parked.reason for parked in state.waiting.values()] == ["still broken"]


@pytest.mark.parametrize("command", [Retry(ID), Drop(ID, "no")])
def test_a_reaction_leaves_the_list_once(command: Retry | Drop) -> None:
    state, _ = after(PARK, command)
    assert state.waiting == {}
    with pytest.raises(NotFound):
        decide(state, command)


def test_evolve_leaves_the_older_state_as_it_was() -> None:
    before, _ = after(PARK)
    evolve(before, *decide(before, Drop(ID, "no")))
    assert list(before.waiting) == [ID]


def test_other_events_change_nothing() -> None:
    state, _ = after(PARK)
    assert evolve(state, Event()) is state
