"""Nodes that die and a network that lies: the promises are kept, the same seed does the same, lies are found."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from unittest.mock import patch

import pytest

from events.consent import Demands
from events.log import failpoints as real_failpoints
from node.rate import Limiter
from tests.simulation import failpoints
from tests.simulation.loop import WORLD, Dead
from tests.simulation.run import Result, simulate
from tests.simulation.story import Sent, Size, Story

PEACEFUL = Size(nodes=2, people=1, acts=12, seconds=60.0, trouble=False)

SEEDS = 36
"""How many run here; `make simulate` runs a thousand others."""

PLACES = 10
"""Failpoints and the like at which nodes die in that many stories, at least."""


def test_every_seed_keeps_all_promises() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--from", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds" in done.stdout
    places = re.search(r"deaths in (\d+) places", done.stdout)
    assert places is not None
    assert int(places[1]) >= PLACES


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
        return simulate(1, PEACEFUL)

    return begin


async def _lose_a_promise(story: Story) -> None:
    story.people[0].sent["f" * 64] = Sent([story.people[1]])


async def _forget_a_handshake(story: Story) -> None:
    story.people[0].handshakes["f" * 64] = (1, "revoked")


async def _forgive_nobody(story: Story) -> None:
    """Let a refusal stand that nobody wanted."""
    owner, sender = story.people
    await story.says(owner, sender, "revoked")
    await story.writes(sender, [owner])
    await story.settle()
    owner.revoked.clear()


async def _change_a_view(story: Story) -> None:
    store = story.nodes[0].running.views.stores["userdb"]
    changed = store._writer.execute("UPDATE document SET body = '{}' WHERE folder = 'sent'").rowcount
    assert changed


async def _two_within_an_hour(story: Story) -> None:
    """Let somebody write twice under a handshake for one message an hour."""
    owner, sender = story.people
    await story.says(owner, sender, "accepted", minutes=60)
    await story.writes(sender, [owner])
    await story.settle()
    await story.writes(sender, [owner])
    await story.settle()


async def _ignore_a_frequency(story: Story) -> None:
    """As somebody would whose policy forgot the terms."""
    with patch.object(Demands, "minutes", lambda *_: 0):
        await _two_within_an_hour(story)


async def _let_a_peer_flood(story: Story) -> None:
    """As a door would that counts nothing."""
    owner, sender = story.people
    with patch.object(Limiter, "take", lambda *_: None):
        for _ in range(30):
            await story.writes(sender, [owner])
        await story.settle()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_lose_a_promise, "sees nothing of it"),
        (_forget_a_handshake, "the book says unknown"),
        (_change_a_view, "is not what a rebuild gives"),
        (_forgive_nobody, "has failed: 5.7.1"),
        (_ignore_a_frequency, "had in the inbox what came before its time"),
        (_let_a_peer_flood, "at once, or too fast"),
    ],
)
def test_a_broken_promise_is_found(spoilt: Callable[[Spoil], Result], spoil: Spoil, complaint: str) -> None:
    result = spoilt(spoil)
    assert any(complaint in one for one in result.broken), result.broken


def test_a_limit_that_is_kept_is_no_complaint(spoilt: Callable[[Spoil], Result]) -> None:
    result = spoilt(_two_within_an_hour)
    assert result.broken == ()


def test_in_peace_every_message_is_delivered() -> None:
    result = simulate(1, PEACEFUL)
    assert result.broken == ()
    assert result.messages
    assert result.states == {"delivered": result.messages}


async def _expire(story: Story) -> None:
    """Write to somebody who is away for longer than the message may take, then let them come back."""
    owner, sender = story.people
    story.network.split({owner.home.domain: 1})
    await story.writes(sender, [owner], lifetime=5)
    await asyncio.sleep(60)
    story.network.split({})
    await story.settle()


def test_what_expires_while_the_peer_is_away_has_failed_for_its_sender(
    spoilt: Callable[[Spoil], Result],
) -> None:
    result = spoilt(_expire)
    assert result.broken == ()
    assert result.states["expired"] == 1


def test_a_life_ends_at_its_failpoint_and_nowhere_else() -> None:
    died: list[str] = []

    def done() -> str:
        return "done"

    plain, other = failpoints.after("blob-written")(done), failpoints.after("blob-synced")(done)

    def live() -> None:
        WORLD.set("alpha/1")
        failpoints.arm("alpha/1", "blob-written", 2, died.append)
        assert plain() == "done"
        assert other() == "done"
        with pytest.raises(Dead):
            plain()
        assert plain() == "done"

    copy_context().run(live)
    assert died == ["blob-written"]


def test_a_node_in_this_process_dies_at_no_failpoint() -> None:
    assert real_failpoints.after is not failpoints.after
