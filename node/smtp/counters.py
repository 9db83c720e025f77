"""What the door counts."""

from __future__ import annotations

from collections import Counter


class DoorCounters:
    """Figures for /metrics; `refused` counts by reason, `connected` and the rest since the start."""

    __slots__ = ("accepted", "connected", "faults", "refused", "tls_failures")

    def __init__(self) -> None:
        self.accepted = self.connected = self.faults = self.tls_failures = 0
        self.refused: Counter[str] = Counter()
