"""Sequence numbers as clients see them: log positions, until a restore has positions given a second time.

A client may keep a number for years, in a checkpoint document or in a file of its own. After a restore it
must not miss what stands at a position that it has seen used for something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from events.node import Restorations


class Numbering:
    """Between the positions of one log and the numbers that its clients see."""

    def __init__(
        self,
        restorations: Callable[[], Restorations] = Restorations,
        head: Callable[[], int] = lambda: (1 << 63) - 1,
    ) -> None:
        """`restorations` and `head` are what the log knows now."""
        self._restorations = restorations
        self._head = head

    def sequence(self, position: int) -> int:
        """Return the number of a position."""
        return self._restorations().sequence(position)

    def position(self, sequence: int) -> int:
        """Return the position up to which a reader who gives this number has seen the log."""
        return self._restorations().position(sequence, self._head())

    def instance(self, node: str) -> str:
        """Name this life of a node (32 hex digits): after a restore, replicators begin with new checkpoints.

        They then compare revisions from the beginning, both ways. Nothing is sent that the other side has;
        what the clients hold of lost documents comes back.
        """
        lives = "".join(f" {event.jump}" for event in self._restorations().events)
        return hashlib.sha256(f"{node}{lives}".encode()).hexdigest()[:32]
