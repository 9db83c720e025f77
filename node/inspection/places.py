"""Places in the log as an operator writes them: positions and times.

A time means: everything before the first record that is later. Positions are looked up by halving, which
takes for granted that times ascend; where the clock was set back, a time may be off by that much.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from events.errors import InvalidInput
from events.log.reading import LogReader
from node.inspection.records import time_of

_AGO: Final = re.compile(r"-(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def position_of(text: str, reader: LogReader, now: Callable[[], int]) -> int:
    """Return the position that a place means: its record is the last that counts, 0 for none.

    `now` gives the time in milliseconds. Raises InvalidInput.
    """
    head = reader.head.position
    if text.isascii() and text.isdigit():
        position = int(text)
        if position > head:
            raise InvalidInput(f"position {position} is not there yet: the log ends at {head}")
        return position
    if text == "now":
        return head
    return position_at(reader, moment_of(text, now()))


def moment_of(text: str, now: int) -> int:
    """Return the time (ms) that a text means. Raises InvalidInput."""
    if ago := _AGO.fullmatch(text):
        span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return now - int(span.total_seconds() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        advice = "give a position, a time as in 2026-11-28T10:00, or -2h"
        raise InvalidInput(f"{text!r} is no place in the log: {advice}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def position_at(reader: LogReader, moment: int) -> int:
    """Return the position of the last record written at or before a time (ms), 0 for none."""
    low, high = 0, reader.head.position
    while low < high:
        middle = (low + high + 1) // 2
        if _is_later(reader, middle, moment):
            high = middle - 1
        else:
            low = middle
    return low


def _is_later(reader: LogReader, position: int, moment: int) -> bool:
    """Whether a record is later than a time; one that can't be read counts as early."""
    row = reader.at(position)
    written = time_of(row) if row else None
    return written is not None and written > moment


def place_at(reader: LogReader, position: int) -> dict[str, int | None]:
    """Describe a position as JSON: with the time at which its record was written, if there is one."""
    row = reader.at(position)
    return {"position": position, "time": time_of(row) if row else None}
