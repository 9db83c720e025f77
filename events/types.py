"""Every event type of this program: a type is only known once its module was imported."""

from __future__ import annotations

from events import (
    account,
    attestation,
    delivery,
    destination,
    handshake,
    mail,
    mailbox,
    node,
    offer,
    original,
    parking,
    peer,
    view,
)
from events.event import EVENT_TYPES, Event

MODULES = (
    account,
    attestation,
    delivery,
    destination,
    handshake,
    mail,
    mailbox,
    node,
    offer,
    original,
    parking,
    peer,
    view,
)
"""Where events are defined; whoever reads a log of unknown content needs all of them."""


def known_types() -> dict[str, type[Event]]:
    """Return every event type by its name."""
    names = {module.__name__ for module in MODULES}
    return {name: kind for name, kind in EVENT_TYPES.items() if kind.__module__ in names}
