"""Whether limits held, found out from what the logs and the network have, not by those who enforce them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise

from events.mailbox import STREAM, MessageFiled
from events.policy import Reason
from tests.simulation.story import Person, Story

COUNTED = (Reason.HANDSHAKE_ACCEPTED, Reason.HANDSHAKE_ACCEPTED_UNVERIFIED)
"""Why a message is in the inbox because of a handshake, and so counts against the agreed frequency."""


async def exceeded(story: Story) -> AsyncIterator[str]:
    """Say which limits were not held, one line each."""
    for owner in story.people:
        for sender in story.people:
            if minutes := story.limits.get((owner.did, sender.did), 0):
                for gap in _too_short(await _counted(owner, sender), minutes):
                    yield f"{sender.name} reached {owner.name} twice within {gap} ms, {minutes} minutes were agreed"
    for (peer, life), times in story.network.let_in.items():
        limits = story.nodes[0].settings().mtp
        if _overflows(times, limits.requests_per_second, limits.request_burst):
            yield f"{life} let {peer} in more often than it may ({len(times)} requests)"


async def _counted(owner: Person, sender: Person) -> list[int]:
    """When (ms) messages of a sender came into an inbox because of the handshake."""
    records = await owner.home.running.log.stream(STREAM + owner.address)
    filed = [record.event for record in records if isinstance(record.event, MessageFiled)]
    return [one.filed_at for one in filed if one.sender == sender.did and one.reason in COUNTED]


def _too_short(times: Sequence[int], minutes: int) -> Iterator[int]:
    return (later - before for before, later in pairwise(times) if later - before < minutes * 60_000)


def _overflows(times: Sequence[float], per_second: float, burst: int) -> bool:
    """Whether a bucket of `burst` that loses `per_second` would have run over; a millisecond is forgiven."""
    level, before = 0.0, 0.0
    for at in sorted(times):
        level = max(0.0, level - (at - before) * per_second) + 1
        before = at
        if level > burst + 0.001 * per_second:
            return True
    return False
