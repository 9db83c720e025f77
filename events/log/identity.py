"""Ids and lineage of the events of one append. Pure but for the clock that is handed in."""

from __future__ import annotations

from hashlib import sha256

from events.event import Metadata
from events.log.log import Clock, Origin

_TIME_BYTES = 6
_DIGEST_BYTES = 10


def answer_id(actor: str, cause: str, number: int) -> str:
    """Return the id of event `number` (from 0) of the actor's only answer to the event `cause`.

    The first 6 bytes are the cause's (its time, RFC 9562 version 7), so that ids still ascend roughly
    in time; the other 10 are of SHA-256 over actor, cause and number.
    """
    image = b"\0".join((actor.encode(), cause.encode(), str(number).encode()))
    return cause[: 2 * _TIME_BYTES] + sha256(image).digest()[:_DIGEST_BYTES].hex()


def describe(origin: Origin, number: int, clock: Clock, first: Metadata | None, software: str) -> Metadata:
    """Return the metadata of event `number` of an append whose event 0 has the metadata `first`.

    An answer shares time, correlation and cause with its neighbours; a beginning takes its first
    event's id as its correlation id.
    """
    cause = origin.cause
    if origin.answers and cause is not None:
        ident = answer_id(origin.actor, cause.id, number)
    else:
        ident = clock.event_id()
    return Metadata(
        id=ident,
        at=first.at if first else clock.now(),
        actor=origin.actor,
        correlation=cause.correlation if cause else (first.correlation if first else ident),
        causation=cause.id if cause else "",
        software=software,
    )
