"""Long work on the loop, in pieces."""

from __future__ import annotations

import asyncio
import time
from typing import Final

TURN_SECONDS: Final = 0.005
"""How long one request may hold the loop before others get their turn."""


class Turns:
    """Gives others their turn when one's own has lasted too long."""

    def __init__(self) -> None:
        """Begin a turn."""
        self._began = time.perf_counter()

    async def give(self) -> None:
        """Let others go on, if it is time."""
        if time.perf_counter() - self._began > TURN_SECONDS:
            await asyncio.sleep(0)
            self._began = time.perf_counter()
