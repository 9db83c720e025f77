"""Events of what goes out, in words, for people. Texts of strangers are in them as they came: escape them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from events.delivery import (
    AttemptStarted,
    DeliveryCancelled,
    DeliveryDeferred,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryHastened,
    DeliveryHeld,
    DeliveryReleased,
    DeliveryReported,
    DeliveryScheduled,
    Kind,
    MessageDelivered,
)
from events.destination import (
    BreakerClosed,
    BreakerOpened,
    DestinationEvent,
    PauseAsked,
    PeerContacted,
    PeerFailed,
    ProbeStarted,
)
from events.event import Event
from events.mailbox import MessageSent

_PLAIN: Final[Mapping[type[Event], str]] = {
    DeliveryReleased: "let go on by an operator",
    DeliveryHastened: "to be tried at once, says an operator",
    DeliveryCancelled: "taken back by its sender",
    ProbeStarted: "one delivery shows whether it is back",
    PauseAsked: "it asked to be left alone for a while",
    PeerContacted: "it has sent us something, so it is there",
}


def phrase_of(event: Event) -> str | None:
    """Say what an event did; None for an event that is not about what goes out."""
    if isinstance(event, MessageSent):
        return f"message sent to {', '.join(event.recipients)}"
    if isinstance(event, DeliveryEvent):
        return _PLAIN.get(type(event)) or _of_delivery(event)
    if isinstance(event, DestinationEvent):
        return _PLAIN.get(type(event)) or _of_destination(event)
    return None


def _of_delivery(event: DeliveryEvent) -> str:
    match event:
        case DeliveryScheduled(kind=Kind.REPORT):
            return f"report about message {event.message} promised to {event.destination}"
        case DeliveryScheduled():
            return f"to be delivered to {', '.join(one.name for one in event.addressees)}"
        case AttemptStarted():
            return f"attempt {event.number} begun"
        case MessageDelivered():
            return f"taken by {event.server or 'the node'} at attempt {event.number}"
        case DeliveryDeferred():
            return f"attempt {event.number} failed, another will follow: {event.reason} ({event.code})"
        case DeliveryFailed():
            return f"failed for good: {event.reason} ({event.code})"
        case DeliveryReported():
            return f"{event.peer} says: " + "; ".join(f"{one.code} {one.text}" for one in event.statuses)
        case _:
            return _by_hand(event)


def _by_hand(event: DeliveryEvent) -> str:
    held = isinstance(event, DeliveryHeld)
    why = event.reason if isinstance(event, DeliveryHeld | DeliveryDropped) else ""
    return ("held back" if held else "given up") + " by an operator" + (f": {why}" if why else "")


def _of_destination(event: DestinationEvent) -> str:
    match event:
        case PeerFailed():
            return f"it did not answer: {event.reason}"
        case BreakerOpened():
            return f"left alone for a while, it did not answer: {event.reason}"
        case BreakerClosed(operator=True):
            return "an operator says that it is there"
        case _:
            return "it answers again"
