"""What operators did about events that a view could not take in."""

from __future__ import annotations

from events.event import Event

STREAM = "views"


class ViewEventRetried(Event, frozen=True, kw_only=True):
    """An operator had a view try the parked event at `position` again.

    What comes of it has the position of this event as its sequence number: readers that were past
    `position` see it, and a rebuild gives the same numbers.
    """

    view: str
    position: int
