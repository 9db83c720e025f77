from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events.log.clock import SystemClock, VirtualClock
from events.log.entry import answer_id


def test_ids_are_version_7_and_ascend() -> None:
    clock = SystemClock()
    before = clock.now()
    ids = [clock.event_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert all(len(ident) == 32 for ident in ids)
    first = UUID(ids[0])
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert before <= first.int >> 80 <= clock.now()


@given(st.lists(st.integers(-5_000, 5_000), max_size=200), st.integers())
def test_ids_ascend_however_the_clock_steps(steps: list[int], seed: int) -> None:
    clock = VirtualClock(seed=seed)
    ids = []
    for step in steps:
        clock.advance(step)
        ids.append(clock.event_id())
    assert ids == sorted(set(ids))


def test_ids_ascend_beyond_what_one_millisecond_can_count() -> None:
    clock = VirtualClock()
    ids = [clock.event_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(UUID(ident).version == 7 for ident in ids)


def test_a_virtual_clock_is_ruled_by_time_and_seed_alone() -> None:
    one, same, other = VirtualClock(5, seed=1), VirtualClock(5, seed=1), VirtualClock(5, seed=2)
    assert [one.event_id(), one.event_id()] == [same.event_id(), same.event_id()]
    assert one.event_id() != other.event_id()
    one.set(99)
    one.advance(1)
    assert one.now() == 100


def test_answer_ids_depend_on_actor_cause_and_number_and_keep_the_causes_time() -> None:
    cause = VirtualClock().event_id()
    other = VirtualClock(seed=1).event_id()
    ids = {answer_id(actor, c, n) for actor in ("a", "b", "a1") for c in (cause, other) for n in (0, 1, 11)}
    assert len(ids) == 18
    assert {ident[:12] for ident in ids} == {cause[:12]}
    assert answer_id("a", cause, 0) == answer_id("a", cause, 0)
