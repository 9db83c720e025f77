"""The rates of the HTTP door, under a virtual clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import Misconfigured
from events.log.clock import VirtualClock
from node.api.rate import Limits
from node.rate import Limiter, Rate, TooManyRequests
from node.settings import HttpSettings


def taken(limiter: Limiter, key: str, tries: int) -> int:
    """How many of some tries pass."""
    passed = 0
    for _ in range(tries):
        try:
            limiter.take(key)
        except TooManyRequests:
            continue
        passed += 1
    return passed


def test_a_burst_passes_and_the_next_waits_its_turn() -> None:
    clock = VirtualClock()
    limiter = Limiter(clock, Rate(10.0, 5))
    assert taken(limiter, "a", 20) == 5
    clock.advance(99)
    assert taken(limiter, "a", 1) == 0
    clock.advance(1)
    assert taken(limiter, "a", 2) == 1


def test_one_key_does_not_slow_another() -> None:
    limiter = Limiter(VirtualClock(), Rate(1.0, 1))
    assert taken(limiter, "a", 9) == 1
    assert taken(limiter, "b", 9) == 1


def test_the_waiting_time_is_said_in_whole_seconds_rounded_up() -> None:
    clock = VirtualClock()
    limiter = Limiter(clock, Rate(0.25, 1))
    limiter.take("a")
    clock.advance(500)
    with pytest.raises(TooManyRequests) as refused:
        limiter.take("a")
    assert refused.value.retry_after == 4
    clock.advance(3_500)
    limiter.take("a")


def test_asking_whether_there_is_room_takes_none() -> None:
    limiter = Limiter(VirtualClock(), Rate(1.0, 1))
    for _ in range(5):
        limiter.check("a")
    limiter.take("a")
    with pytest.raises(TooManyRequests):
        limiter.check("a")


def test_a_flood_of_keys_does_not_grow_the_book() -> None:
    limiter = Limiter(VirtualClock(), Rate(1.0, 10), capacity=100)
    for number in range(1_000):
        limiter.take(str(number))
    assert len(limiter) <= 100


def test_keys_that_are_whole_again_are_forgotten() -> None:
    clock = VirtualClock()
    limiter = Limiter(clock, Rate(1.0, 10))
    for number in range(50):
        limiter.take(str(number))
    clock.advance(60_000)
    for _ in range(50):
        limiter.take("late")
        clock.advance(1_000)
    assert len(limiter) == 1


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = VirtualClock()
    limiter = Limiter(clock, Rate(1.0, 5))
    assert taken(limiter, "a", 9) == 5
    clock.advance(-3_600_000)
    limiter.check("a")
    assert taken(limiter, "a", 9) == 5


@given(st.lists(st.integers(0, 3_000), max_size=80), st.integers(1, 8), st.integers(1, 20))
def test_never_more_than_burst_and_rate_allow(pauses: list[int], burst: int, per_second: int) -> None:
    clock = VirtualClock()
    limiter = Limiter(clock, Rate(float(per_second), burst))
    passed, began = 0, clock.now()
    for pause in pauses:
        clock.advance(pause)
        passed += taken(limiter, "a", 1)
    assert passed <= burst + (clock.now() - began) * per_second / 1000 + 1e-6


@pytest.mark.parametrize("wrong", [{"requests_per_second": 0.0}, {"request_burst": 0}])
def test_a_rate_that_lets_nobody_in_is_a_misconfiguration(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured, match=r"http\.requests_per_second"):
        Limits(HttpSettings(**wrong), VirtualClock())  # type: ignore[arg-type]
