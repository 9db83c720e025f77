"""What the node owes its mailboxes: bytes that were accepted and are not filed yet.

The quota counts them too; otherwise a burst could fill a mailbox many times over before the first of its
messages is filed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import msgspec


class Debt(msgspec.Struct, eq=False):
    """One message on its way into mailboxes.

    `ahead` says how many bytes were owed to each of them when it came. `position` is that of its event,
    0 while it has none.
    """

    ahead: dict[str, int]
    size: int
    position: int = 0


class Owed:
    """Debts by mailbox. Sizes are in bytes."""

    def __init__(self) -> None:
        """Owe nothing."""
        self._bytes: Counter[str] = Counter()
        self._due: deque[Debt] = deque()

    def to(self, owner: str, low_water: int) -> int:
        """Bytes owed to a mailbox, now that all events up to `low_water` have been worked on."""
        self._settle(low_water)
        return self._bytes[owner]

    def promise(self, owners: Sequence[str], size: int, low_water: int) -> Debt:
        """Note a message that is about to be accepted."""
        self._settle(low_water)
        debt = Debt({owner: self._bytes[owner] for owner in owners}, size)
        for owner in debt.ahead:
            self._bytes[owner] += size
        return debt

    def accepted(self, debt: Debt, position: int) -> None:
        """Note that its event is durable; it is paid when the event has been worked on."""
        debt.position = position
        self._due.append(debt)

    def _settle(self, low_water: int) -> None:
        while self._due and self._due[0].position <= low_water:
            self.cancel(self._due.popleft())

    def cancel(self, debt: Debt) -> None:
        """Strike a debt: it was paid, or the message was not accepted after all."""
        for owner in debt.ahead:
            self._bytes[owner] -= debt.size
            if not self._bytes[owner]:
                del self._bytes[owner]
