"""Nodes that die and a network that lies: the promises are kept, the same seed does the same, lies are found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.simulation.run import Result, simulate
from tests.simulation.story import Sent, Size, Story

PEACEFUL = Size(nodes=2, people=1, acts=40, seconds=200.0, deaths=False)

SEEDS = 16
"""How many run here; `make simulate` runs a thousand others."""


def test_every_seed_keeps_all_promises() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--from", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds" in done.stdout


def test_the_same_seed_tells_the_same_story_to_the_last_hash() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "7"]
    once, again = (
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    )
    assert once == again
    assert "writes to" in once
    assert "is dead" in once
    assert re.search(r"logs end with( [0-9a-f]{16}){3}", once)


Spoil = Callable[[Story], Awaitable[None]]


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spoil], Result]:
    """Run a small story that is spoilt before it is judged."""

    def begin(spoil: Spoil) -> Result:
        tell = Story.tell

        async def told(story: Story) -> None:
            await tell(story)
            await spoil(story)

        monkeypatch.setattr(Story, "tell", told)
        return simulate(2, PEACEFUL)

    return begin


async def _lose_a_promise(story: Story) -> None:
    story.people[0].sent["f" * 64] = Sent([story.people[1]])


async def _forgive_nobody(story: Story) -> None:
    for person in story.people:
        person.revoked.clear()


async def _forget_a_handshake(story: Story) -> None:
    story.people[0].handshakes["f" * 64] = "revoked"


async def _change_a_view(story: Story) -> None:
    store = story.nodes[0].running.views.stores["userdb"]
    changed = store._writer.execute("UPDATE document SET body = '{}' WHERE folder = 'sent'").rowcount
    assert changed


async def _agree_on_patience_afterwards(story: Story) -> None:
    """Say that everybody who was let in twice had promised to come once in a lifetime."""
    for owner in story.people:
        story.limits |= {(owner.did, other.did): 1_000_000 for other in story.people}


async def _let_a_crowd_in(story: Story) -> None:
    story.network.let_in["mio.beta.example", "alpha/1"] = [1.0] * 21


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_lose_a_promise, "sees nothing of it"),
        (_forget_a_handshake, "the book says unknown"),
        (_change_a_view, "is not what a rebuild gives"),
        (_forgive_nobody, "has failed: 5.7.1"),
        (_agree_on_patience_afterwards, "minutes were agreed"),
        (_let_a_crowd_in, "in more often than it may"),
    ],
)
def test_a_broken_promise_is_found(spoilt: Callable[[Spoil], Result], spoil: Spoil, complaint: str) -> None:
    result = spoilt(spoil)
    assert any(complaint in one for one in result.broken), result.broken


def test_a_story_without_spoiling_is_fine() -> None:
    assert simulate(2, PEACEFUL).broken == ()
