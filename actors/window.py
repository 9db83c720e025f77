"""The part of a destination's queue that its actor has in memory: the oldest deliveries of every sender.

Ten thousand may wait; a few hundred are looked at. One sender fills no more than a share of the window, so
that nobody waits behind somebody else's thousands. Deliveries of one lane (`Delivery.lane`) leave in order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from events.delivery import Delivery, Phase

SIZE = 512
"""Deliveries in memory for each destination: some 300 KB."""

SHARE = 64
"""Deliveries of one lane among them. Reading the queue again is put off until half of them have gone."""


NEVER = 2**63
"""A time that does not come."""


class Window:
    """Deliveries by lane, oldest first. `complete`: there are no others of this destination."""

    def __init__(self, size: int = SIZE, share: int = SHARE) -> None:
        """Begin empty, and not knowing what there is."""
        self._size = size
        self._share = share
        self._lanes: dict[str, dict[str, Delivery]] = {}
        self._known: dict[str, Delivery] = {}
        self._soonest = NEVER
        self.complete = False
        self._unread = True
        self._full: set[str] = set()
        self._cut = False

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Delivery | None:
        """Return a delivery that is in memory."""
        return self._known.get(key)

    def forget(self) -> None:
        """Forget everything; `fill` brings it back."""
        self._lanes.clear()
        self._known.clear()
        self.complete, self._unread = False, True

    @property
    def hungry(self) -> bool:
        """Whether the queue is worth reading again: it is read from its beginning, which takes its time."""
        if self.complete:
            return False
        few = any(len(self._lanes.get(lane, ())) <= self._share // 2 for lane in self._full)
        return self._unread or few or (self._cut and len(self._known) <= self._size // 2)

    def offer(self, state: Delivery) -> None:
        """Take in the newest delivery of all, if it has a place; else it waits in the queue.

        It has none behind others of its lane that wait there. Lanes that are whole stay open to theirs.
        """
        if self._unread or self._cut or state.lane in self._full or self._take(state):
            return
        self.complete, self._cut = False, len(self._known) >= self._size
        if not self._cut:
            self._full.add(state.lane)

    def _take(self, state: Delivery) -> bool:
        if state.id in self._known:
            return True
        lane = self._lanes.get(state.lane, {})
        if len(self._known) >= self._size or len(lane) >= self._share:
            return False
        self._lanes.setdefault(state.lane, lane)[state.id] = self._known[state.id] = state
        self._soonest = min(self._soonest, state.expires_at)
        return True

    def put(self, state: Delivery) -> None:
        """Take note of a delivery's new state; one that ended or is held leaves."""
        if state.id not in self._known:
            return
        if state.final or state.phase is Phase.HELD:
            self.remove(state.id)
            return
        self._known[state.id] = self._lanes[state.lane][state.id] = state
        if state.attempts and not state.trying:
            # After a failure others have their turn: one message that its peer chokes on is not every probe.
            self._lanes[state.lane] = self._lanes.pop(state.lane)

    def remove(self, key: str) -> None:
        """Let a delivery go."""
        state = self._known.pop(key, None)
        if state is not None and (lane := self._lanes.get(state.lane)) is not None:
            lane.pop(key, None)
            if not lane:
                del self._lanes[state.lane]

    async def fill(self, queue: AsyncIterator[Delivery]) -> None:
        """Take in what there is a place for, oldest first; what is held needs none."""
        complete, full = True, set[str]()
        self._unread = False
        async for state in queue:
            if state.phase is not Phase.WAITING:
                continue
            # Once a lane was full, no later one of it may come in before the earlier ones.
            if state.lane in full or not self._take(state):
                complete = False
                full.add(state.lane)
            if len(self._known) >= self._size:
                break
        self._cut = len(self._known) >= self._size
        self.complete, self._full = complete and not self._cut, full

    def next_end(self, now: int) -> int:
        """Return a time (ms) before which none runs out of time: not later than `now` only if one has.

        It is remembered, and found anew only when it has come: an actor asks at the end of every attempt.
        """
        if self._soonest <= now:
            self._soonest = min((one.expires_at for one in self._known.values()), default=NEVER)
        return self._soonest

    def heads(self) -> Iterator[Delivery]:
        """Give the delivery of each lane whose turn it is."""
        for lane in self._lanes.values():
            yield next(iter(lane.values()))

    def all(self) -> list[Delivery]:
        """Return all that are in memory."""
        return list(self._known.values())
