"""The circuit breaker of a destination."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.attempt import RetryPolicy
from events.destination import (
    Breaker,
    BreakerClosed,
    BreakerOpened,
    Command,
    Destination,
    DestinationEvent,
    NoteAnswer,
    NoteContact,
    NoteFailure,
    NotePause,
    ProbeStarted,
    Reset,
    StartProbe,
    decide,
    evolve,
    initial,
)

POLICY = RetryPolicy(first_ms=60_000, factor=2.0, most_ms=3_600_000, refusals=1)


def failure(at: int) -> NoteFailure:
    return NoteFailure(at=at, reason="refused", failures=3, policy=POLICY, jitter=0.0)


def run(state: Destination, *commands: Command) -> list[DestinationEvent]:
    happened: list[DestinationEvent] = []
    for command in commands:
        for event in decide(state, command):
            evolve(state, event)
            happened.append(event)
    return happened


def opened() -> Destination:
    state = initial("beta.example")
    run(state, failure(1), failure(2), failure(3))
    assert state.breaker is Breaker.OPEN
    return state


times = st.integers(0, 10_000_000)
commands = st.one_of(
    times.map(failure),
    times.map(NoteAnswer),
    times.map(StartProbe),
    times.map(Reset),
    times.map(lambda at: NoteContact(at, 10_000)),
    times.map(lambda at: NotePause(at, at + 5_000)),
)


@given(st.lists(commands, max_size=40), times)
def test_there_is_room_for_many_only_where_the_breaker_is_closed(asked: list[Command], now: int) -> None:
    state = initial("beta.example")
    run(state, *asked)
    room = state.room(now, 4)
    assert room == (
        0 if now < state.paused_until else {"closed": 4, "half-open": 1, "open": 0}[state.breaker]
    )
    assert (state.breaker is Breaker.CLOSED) or state.failures >= 3


def test_failures_in_a_row_open_it_and_an_answer_between_does_not() -> None:
    state = initial("beta.example")
    run(state, failure(1), failure(2), NoteAnswer(3), failure(4), failure(5))
    assert state.breaker is Breaker.CLOSED
    (event,) = run(state, failure(6))
    assert event == BreakerOpened(at=6, until=60_006, reason="refused")


def test_one_probe_decides_and_each_failed_one_doubles_the_pause() -> None:
    state = opened()
    assert run(state, StartProbe(60_000)) == []
    assert run(state, StartProbe(60_003)) == [ProbeStarted(at=60_003)]
    assert state.room(60_003, 4) == 1
    (event,) = run(state, failure(60_010))
    assert event == BreakerOpened(at=60_010, until=180_010, reason="refused")
    run(state, StartProbe(180_010))
    assert run(state, NoteAnswer(180_020)) == [BreakerClosed(at=180_020)]
    assert (state.room(180_021, 4), state.openings, state.revived_at) == (4, 0, 180_020)


def test_attempts_from_before_say_nothing_new_when_it_is_open() -> None:
    assert run(opened(), failure(4), failure(5)) == []


def test_a_peer_that_comes_to_us_is_probed_at_once_but_not_each_time() -> None:
    state = opened()
    assert len(run(state, NoteContact(20_000, 10_000))) == 1
    assert run(state, StartProbe(20_000)) == [ProbeStarted(at=20_000)]
    run(state, failure(20_001))
    assert run(state, NoteContact(39_999, 10_000)) == [], "it came and did not answer: twice as long"
    assert len(run(state, NoteContact(40_000, 10_000))) == 1
    run(state, StartProbe(40_000), NoteAnswer(40_001))
    assert state.contacts == 0


def test_one_failure_among_answers_is_no_absence() -> None:
    state = initial("beta.example")
    run(state, failure(5), NoteAnswer(6))
    assert (state.revived_at, state.failures) == (0, 0)


def test_a_contact_of_a_peer_without_trouble_leaves_no_trace() -> None:
    assert run(initial("beta.example"), NoteContact(20_000, 10_000)) == []


def test_a_peer_that_asks_for_a_pause_gets_it() -> None:
    state = initial("beta.example")
    run(state, NotePause(0, 30_000))
    assert (state.room(29_999, 4), state.room(30_000, 4), state.opens_at()) == (0, 4, 30_000)
    run(state, Reset(10))
    assert state.room(11, 4) == 4
