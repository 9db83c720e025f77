"""One delivery: it ends once, it is tried for a bounded time, and nothing overtakes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.reporting import report_name
from events.attempt import Addressee, Cause, Outcome, RecipientStatus, RetryPolicy, Verdict
from events.delivery import (
    EXPIRED,
    FINAL,
    AttemptStarted,
    Cancel,
    Command,
    ConcludeAttempt,
    Delivery,
    DeliveryCancelled,
    DeliveryDeferred,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryHeld,
    DeliveryReported,
    DeliveryScheduled,
    Drop,
    Hasten,
    Hold,
    Kind,
    MessageDelivered,
    NoteReport,
    Phase,
    Release,
    Schedule,
    StartAttempt,
    decide,
    evolve,
    initial,
)
from events.errors import Conflict, NotFound, TooEarly
from events.event import Event

ADDRESS = "0x" + "b2" * 20
SENDER = "0x" + "a1" * 20
POLICY = RetryPolicy(first_ms=1_000, factor=2.0, most_ms=60_000, refusals=3)
LIFETIME = 1_000_000
ENDS = (MessageDelivered, DeliveryFailed, DeliveryCancelled, DeliveryDropped)

RECEIVED = Outcome(verdict=Verdict.DELIVERED, code="2.0.0", text="message sent", server="mio.beta.example")
DEAD = Outcome(verdict=Verdict.LATER, code="4.4.1", text="no answer", cause=Cause.UNREACHABLE)
REFUSED = Outcome(verdict=Verdict.LATER, code="4.7.7", text="bad signature", cause=Cause.REFUSED)
NO = Outcome(verdict=Verdict.FINAL, code="5.1.1", text="nobody there")


BOB = Addressee(did=f"did:web:beta.example#{ADDRESS}", address=ADDRESS)
OTHER = Addressee(did=f"did:web:beta.example#0x{'c3' * 20}", address="0x" + "c3" * 20)


def schedule(at: int = 0, kind: Kind = Kind.MESSAGE, *addressees: Addressee) -> Schedule:
    promise = DeliveryScheduled(
        owner=SENDER,
        kind=kind,
        message="m1",
        destination="beta.example",
        addressees=addressees or (BOB,),
        scheduled_at=at,
        expires_at=at + LIFETIME,
    )
    return Schedule(promise)


def conclude(number: int, at: int, outcome: Outcome, jitter: float = 0.0, not_before: int = 0) -> Command:
    return ConcludeAttempt(
        number=number, at=at, outcome=outcome, policy=POLICY, jitter=jitter, not_before=not_before
    )


def run(state: Delivery, *commands: Command) -> list[DeliveryEvent]:
    happened: list[DeliveryEvent] = []
    for command in commands:
        for event in decide(state, command):
            evolve(state, event)
            happened.append(event)
    return happened


def fresh(*addressees: Addressee, at: int = 0) -> Delivery:
    state = initial("beta.example:m1")
    run(state, schedule(at, Kind.MESSAGE, *addressees))
    return state


def failed_once(outcome: Outcome = DEAD) -> Delivery:
    state = fresh()
    run(state, StartAttempt(0), conclude(1, 10, outcome))
    return state


times = st.integers(0, LIFETIME * 2)
outcomes = st.sampled_from((RECEIVED, DEAD, REFUSED, NO))
commands = st.one_of(
    st.just(schedule()),
    times.map(StartAttempt),
    st.builds(conclude, st.integers(0, 4), times, outcomes, st.floats(0, 0.99)),
    times.map(Hold),
    times.map(Release),
    times.map(Hasten),
    times.map(lambda at: Cancel(at, SENDER)),
    times.map(Drop),
    times.map(
        lambda at: NoteReport(
            at=at, peer="beta.example", statuses=(RecipientStatus(address=ADDRESS, code="2.0.0"),)
        )
    ),
)


def survived(state: Delivery, command: Command) -> Sequence[DeliveryEvent]:
    try:
        return decide(state, command)
    except (Conflict, NotFound):
        return []


@given(st.lists(commands, max_size=40))
def test_a_delivery_ends_once_whatever_is_done_to_it(asked: list[Command]) -> None:
    state, ends = initial("beta.example:m1"), 0
    for command in asked:
        for event in survived(state, command):
            assert not (state.final and isinstance(event, AttemptStarted))
            ends += isinstance(event, ENDS)
            evolve(state, event)
    assert ends <= 1
    assert (ends == 1) == (state.phase in FINAL)


@given(st.lists(commands, max_size=30))
def test_folding_all_events_again_gives_the_same_state(asked: list[Command]) -> None:
    state, told, events = initial("beta.example:m1"), 0, list[Event]()
    for command in asked:
        for event in survived(state, command):
            evolve(state, event)
            events.append(event)
            told += 1
    again = initial("beta.example:m1")
    for one in events:
        again = evolve(again, one)
    assert (again, again.version) == (state, told)


@given(st.lists(st.tuples(st.sampled_from((DEAD, REFUSED)), st.floats(0, 0.99)), min_size=1, max_size=60))
def test_attempts_are_bounded_by_time_and_end_with_a_reason(failures: list[tuple[Outcome, float]]) -> None:
    """Tried whenever its time has come, it is over when the time is, and was not tried more than the pauses allow."""
    state, now = fresh(), 0
    for outcome, jitter in failures * 60:
        if not run(state, StartAttempt(now)) or state.final:
            break
        run(state, conclude(state.attempts, now, outcome, jitter))
        assert state.final or now < state.next_at <= state.expires_at
        now = max(now + 1, state.next_at)
    if state.final:
        assert state.phase is Phase.FAILED
        assert state.reason
        assert state.refusals <= POLICY.refusals
    assert state.attempts <= 2 + 10 + LIFETIME / (POLICY.most_ms * 0.75)


def test_the_pause_grows_is_capped_and_jitter_only_shortens_it() -> None:
    pauses = [POLICY.pause(count, 0.0) for count in range(1, 10)]
    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert [POLICY.pause(count, 0.99) for count in (1, 9)] == [752, 45_150]
    assert POLICY.pause(100_000, 0.0) == 60_000


def test_a_second_schedule_changes_nothing() -> None:
    assert decide(fresh(), schedule(77)) == []


def test_an_attempt_that_died_with_its_process_is_made_again() -> None:
    state = fresh()
    run(state, StartAttempt(0))
    (event,) = run(state, StartAttempt(5_000))
    assert event == AttemptStarted(owner=state.owner, number=2, at=5_000)
    assert run(state, conclude(1, 6_000, RECEIVED)) == []
    assert state.trying


def test_deferral_says_why_until_when_and_with_which_code() -> None:
    state = fresh()
    (_, event) = run(state, StartAttempt(0), conclude(1, 10, DEAD))
    assert event == DeliveryDeferred(
        owner=state.owner,
        number=1,
        at=10,
        until=1_010,
        cause=Cause.UNREACHABLE,
        code="4.4.1",
        reason="no answer",
    )


def test_a_year_of_retry_after_is_cut_to_the_longest_pause() -> None:
    year = Outcome(
        verdict=Verdict.LATER, code="4.4.5", text="429", cause=Cause.BUSY, retry_after=365 * 86_400_000
    )
    state = failed_once(year)
    assert state.next_at == 10 + POLICY.most_ms


def test_a_peer_that_refuses_one_message_again_and_again_is_believed() -> None:
    """Keys rotate and zones lag, so one refusal is not the last word; three are."""
    state = failed_once(REFUSED)
    run(state, StartAttempt(5_000), conclude(2, 5_001, REFUSED))
    assert state.phase is Phase.WAITING
    (_, event) = run(state, StartAttempt(9_000), conclude(3, 9_001, REFUSED))
    assert isinstance(event, DeliveryFailed)
    assert (event.code, event.reason) == ("5.7.7", "bad signature")


def test_time_is_up_with_the_last_reason() -> None:
    state = failed_once()
    (event,) = run(state, StartAttempt(LIFETIME))
    assert isinstance(event, DeliveryFailed)
    assert (event.code, event.reason) == (EXPIRED, "not delivered in time; last: no answer")


def test_an_attempt_that_outlives_its_time_may_still_succeed() -> None:
    state = fresh()
    run(state, StartAttempt(LIFETIME - 1), conclude(1, LIFETIME + 5, RECEIVED))
    assert state.phase is Phase.DELIVERED


def test_what_is_held_is_not_tried_and_does_not_expire() -> None:
    state = fresh()
    run(state, Hold(100, "looks odd"))
    assert run(state, StartAttempt(LIFETIME * 3)) == []
    run(state, Release(LIFETIME * 3))
    assert isinstance(run(state, StartAttempt(LIFETIME * 3))[0], AttemptStarted)


def test_a_receipt_for_what_was_held_meanwhile_counts() -> None:
    state = fresh()
    run(state, StartAttempt(0), Hold(1), conclude(1, 2, RECEIVED))
    assert state.phase is Phase.DELIVERED


def test_what_is_under_way_can_not_be_cancelled_but_dropped() -> None:
    state = fresh()
    run(state, StartAttempt(0))
    with pytest.raises(Conflict, match="being delivered"):
        decide(state, Cancel(1, SENDER))
    run(state, Drop(1, "no"))
    assert run(state, conclude(1, 2, RECEIVED)) == []
    assert state.phase is Phase.DROPPED


@pytest.mark.parametrize("command", [Cancel(5, SENDER), Drop(5), Hold(5), Hasten(5), Release(5)])
def test_after_the_end_it_is_too_late(command: Command) -> None:
    state = fresh()
    run(state, StartAttempt(0), conclude(1, 1, RECEIVED))
    with pytest.raises(Conflict, match="too late: it is delivered"):
        decide(state, command)


def test_only_its_sender_takes_a_message_back() -> None:
    state = fresh()
    with pytest.raises(NotFound):
        decide(state, Cancel(1, ADDRESS))
    run(state, Cancel(1, SENDER))
    assert state.phase is Phase.CANCELLED


@pytest.mark.parametrize("command", [StartAttempt(5), Cancel(5, SENDER), Hold(5)])
def test_what_was_never_scheduled_is_not_found(command: Command) -> None:
    with pytest.raises(NotFound):
        decide(initial("beta.example:m1"), command)


def report(address: str = ADDRESS, code: str = "2.0.0") -> NoteReport:
    return NoteReport(at=50, peer="beta.example", statuses=(RecipientStatus(address=address, code=code),))


def test_a_report_counts_once_and_only_for_a_recipient() -> None:
    state = fresh(BOB, OTHER)
    assert run(state, report()) == [], "nothing was sent yet"
    run(state, StartAttempt(0))
    assert len(run(state, report())) == 1, "it may come before the receipt"
    assert run(state, report()) == []
    assert run(state, report("0x" + "cc" * 20)) == []
    assert set(state.reported) == {ADDRESS}


def test_a_peer_that_changes_its_mind_again_and_again_does_not_fill_the_log() -> None:
    state = fresh(BOB, OTHER)
    run(state, StartAttempt(0))
    codes = ("4.2.2", "4.2.1", "2.0.0", "5.8.2", "2.0.0", "4.2.2", "5.1.1")
    assert [len(run(state, report(code=code))) for code in codes] == [1, 0, 1, 1, 0, 0, 0]
    assert state.reported[ADDRESS].code == "5.8.2"


def test_of_several_words_about_one_recipient_in_one_report_the_worst_is_kept() -> None:
    state = fresh(BOB, OTHER)
    statuses = tuple(RecipientStatus(address=ADDRESS, code=code) for code in ("4.2.2", "5.8.2", "2.0.0"))
    run(state, StartAttempt(0), NoteReport(at=50, peer="beta.example", statuses=statuses))
    assert state.reported[ADDRESS].code == "5.8.2"


@pytest.mark.parametrize("code", ["2.0.0", "5.8.2"])
def test_a_peer_that_has_spoken_of_every_recipient_has_the_message_though_its_receipt_was_lost(
    code: str,
) -> None:
    state = fresh(BOB, OTHER)
    run(state, StartAttempt(0), conclude(1, 1, DEAD))
    assert [type(one) for one in run(state, report(code=code))] == [DeliveryReported]
    assert not state.final, "of the other one nothing is known"
    told = run(state, report(OTHER.address))
    assert [type(one) for one in told] == [MessageDelivered, DeliveryReported]
    assert state.phase is Phase.DELIVERED
    assert state.server == "beta.example"


def test_a_report_ends_an_attempt_whose_answer_then_says_nothing_new() -> None:
    state = fresh()
    run(state, StartAttempt(0), report())
    assert state.phase is Phase.DELIVERED
    assert run(state, conclude(1, 2, DEAD)) == []
    assert run(state, conclude(1, 2, RECEIVED)) == []


def test_a_report_says_nothing_about_a_recipient_whose_address_nobody_knows_yet() -> None:
    state = fresh(BOB, Addressee(email="eve@beta.example"))
    run(state, StartAttempt(0))
    assert [type(one) for one in run(state, report())] == [DeliveryReported]


def test_by_email_a_report_counts_once_an_attempt_has_found_whose_address_that_is() -> None:
    state = fresh(Addressee(email="bob@beta.example"), Addressee(email="nobody@beta.example"))
    named = (
        RecipientStatus(email="bob@beta.example", address=ADDRESS, code="2.0.0"),
        RecipientStatus(email="nobody@beta.example", code="5.1.1"),
    )
    run(state, StartAttempt(0))
    with pytest.raises(TooEarly, match="tell it again"):
        decide(state, report())
    run(state, conclude(1, 10, msgspec.structs.replace(DEAD, statuses=named)))
    taken, _ = run(state, report())
    assert isinstance(taken, MessageDelivered)
    assert taken.statuses == named, "that one of them has no account is told too"


def test_once_every_address_is_known_a_report_about_others_is_a_lie_and_passed_over() -> None:
    state = fresh(Addressee(email="bob@beta.example"))
    named = (RecipientStatus(email="bob@beta.example", address=ADDRESS, code="2.0.0"),)
    run(state, StartAttempt(0), conclude(1, 10, msgspec.structs.replace(DEAD, statuses=named)))
    run(state, StartAttempt(state.next_at))
    assert state.trying
    assert run(state, report("0x" + "cc" * 20)) == []


@pytest.mark.parametrize(
    ("code", "good"),
    [("2.0.0", True), ("2.2.1", False), ("2.3.5", False), ("4.4.1", False), ("5.1.1", False)],
)
def test_success_codes_that_mean_failures_are_read_as_failures(code: str, good: bool) -> None:
    assert RecipientStatus(code=code).good is good


def test_reports_go_side_by_side_and_messages_of_a_sender_in_a_row() -> None:
    state = initial("beta.example:r1")
    run(state, schedule(kind=Kind.REPORT))
    assert state.lane == state.id
    assert fresh().lane == fresh().owner
    assert report_name("m", "a") != report_name("m", "b")


def test_a_held_delivery_says_why() -> None:
    state = fresh()
    assert run(state, Hold(1, "looks odd")) == [DeliveryHeld(owner=state.owner, at=1, reason="looks odd")]
    assert run(state, Hold(2)) == []
