"""Sequence numbers over the restores of a node: no client misses what it has not seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.node import EPOCHS_BEGIN, NodeRestored, Restorations, evolve, restored

NOW = EPOCHS_BEGIN + 86_400_000
DAY = 86_400_000


def restores(*positions: int) -> Restorations:
    """Restores from these positions, a day apart."""
    state = Restorations()
    for day, position in enumerate(positions):
        state = evolve(state, restored(state.events, NOW + day * DAY, position, f"point {day}"))
    return state


def test_without_a_restore_numbers_are_positions() -> None:
    assert Restorations().sequence(17) == 17
    assert Restorations().position(17, head=20) == 17
    assert Restorations().last_at == 0


def test_what_was_there_before_a_restore_keeps_its_number() -> None:
    state = restores(400)
    assert state.sequence(400) == 400
    assert state.position(400, head=500) == 400


def test_a_reader_of_the_lost_stretch_is_taken_back_to_where_it_began() -> None:
    state = restores(400)
    assert state.position(450, head=500) == 400
    assert state.sequence(401) > 450


def test_a_log_restored_twice_from_one_point_gives_new_numbers_the_second_time() -> None:
    first, second = restores(400), evolve(Restorations(), restored((), NOW + DAY, 400, "again"))
    lost = first.sequence(450)
    assert second.position(lost, head=402) == 400
    assert second.sequence(401) > lost


def test_numbers_go_on_rising_when_the_clock_was_set_back() -> None:
    state = restores(400)
    state = evolve(state, restored(state.events, EPOCHS_BEGIN - DAY, 500, "later"))
    assert state.sequence(501) > state.sequence(10_000_000) - 10_000_000 + 500
    assert state.events[1].jump > state.events[0].jump > 0


def test_a_number_that_the_log_can_not_have_given_counts_as_none() -> None:
    assert Restorations().position(501, head=500) == 0
    state = restores(400)
    assert state.position(state.sequence(501), head=500) == 0


def test_numbers_stay_exact_in_javascript_for_decades() -> None:
    event = restored((), EPOCHS_BEGIN + 39 * 365 * DAY, 1, "far")
    assert isinstance(event, NodeRestored)
    assert event.jump + (1 << 32) < 1 << 53


@given(st.lists(st.integers(1, 1_000), min_size=0, max_size=5, unique=True), st.integers(1, 1_200))
def test_every_number_that_a_log_gives_leads_back_to_its_position(places: list[int], position: int) -> None:
    state = restores(*sorted(places))
    assert state.position(state.sequence(position), head=1_200) == position
    assert state.sequence(position) < state.sequence(position + 1)
