"""The window on a queue: bounded, fair, and hungry only when reading on is worth it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from actors.window import NEVER, Window
from events.delivery import Delivery, Phase


def one(name: str, owner: str, phase: Phase = Phase.WAITING) -> Delivery:
    return Delivery(id=name, owner=owner, phase=phase)


def hungry(window: Window) -> bool:
    return window.hungry


async def queue(states: Iterable[Delivery]) -> AsyncIterator[Delivery]:
    for state in states:
        yield state


async def test_a_lane_that_was_cut_is_read_on_when_half_of_its_share_has_gone() -> None:
    window, all_of_them = Window(size=100, share=4), [one(f"a{n}", "a") for n in range(10)]
    assert hungry(window)
    await window.fill(queue(all_of_them))
    assert (len(window), window.complete, hungry(window)) == (4, False, False)
    window.remove("a0")
    assert not hungry(window)
    window.remove("a1")
    assert hungry(window)
    await window.fill(queue(all_of_them[2:]))
    assert [state.id for state in window.all()] == ["a2", "a3", "a4", "a5"]


async def test_a_full_window_is_read_on_when_half_of_it_has_gone() -> None:
    window, all_of_them = Window(size=4, share=2), [one(f"{n}", f"owner{n}") for n in range(10)]
    await window.fill(queue(all_of_them))
    assert (len(window), hungry(window)) == (4, False)
    window.remove("0")
    assert not hungry(window)
    window.remove("1")
    assert hungry(window)


async def test_what_comes_in_when_there_is_no_place_waits_in_the_queue() -> None:
    window = Window(size=2, share=2)
    await window.fill(queue([]))
    for name in ("a", "b", "c"):
        window.offer(one(name, name))
    assert (len(window), window.complete, hungry(window)) == (2, False, False)
    window.remove("a")
    assert hungry(window)
    window.offer(one("d", "d"))
    assert window.get("d") is None, "c comes before it"


async def test_a_full_lane_keeps_no_other_lane_out() -> None:
    window = Window(size=100, share=2)
    await window.fill(queue([]))
    for name in ("a1", "a2", "a3", "b1"):
        window.offer(one(name, name[0]))
    assert [state.id for state in window.all()] == ["a1", "a2", "b1"]
    assert not window.complete, "a3 waits in the queue"
    window.remove("a1")
    window.offer(one("a4", "a"))
    assert window.get("a4") is None, "a3 comes before it"
    assert hungry(window)


async def test_what_is_held_or_has_ended_takes_no_place() -> None:
    window = Window()
    await window.fill(queue([one("held", "a", Phase.HELD), one("next", "a")]))
    assert [state.id for state in window.heads()] == ["next"]
    window.put(one("next", "a", Phase.DELIVERED))
    assert (len(window), window.complete) == (0, True)


async def test_the_next_end_is_known_without_a_search_and_found_anew_when_it_has_come() -> None:
    window = Window()
    assert window.next_end(0) == NEVER
    ends = {"a": 30, "b": 10, "c": 20}
    await window.fill(
        queue(Delivery(id=name, owner=name, phase=Phase.WAITING, expires_at=at) for name, at in ends.items())
    )
    assert window.next_end(0) == 10
    window.remove("b")
    assert window.next_end(9) == 10, "too early does no harm"
    assert window.next_end(10) == 20
    assert window.next_end(25) == 20, "c has run out of time and is still here"
