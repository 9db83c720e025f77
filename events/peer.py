"""What is known of another server, by its domain: the keys that DNS said were its own, and when. Pure.

A key is never taken from what a peer sends: only `node/discovery/peer_keys.py` appends here, of DNS answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from events.errors import Fault, MailioError
from events.event import Event

STREAM: Final = "peer-"
"""Prefix of a peer's stream; its domain follows, in ASCII."""

DAY_MS: Final = 86_400_000

MAX_CHANGES: Final = 12
"""Changes of a domain's keys that are followed in a day: a rotation has two. More is not worth a log."""


class PeerKeySeen(Event, frozen=True, kw_only=True):
    """A key that the domain had not published before, or not lately, is in its Mailio record at `at` (ms).

    `public_key` (32 bytes, Ed25519) is base64; `validated`: DNSSEC proved the answer.
    """

    domain: str
    public_key: str
    at: int
    validated: bool = False


class PeerKeyGone(Event, frozen=True, kw_only=True):
    """The domain publishes this key no more: nothing is accepted by it from here on."""

    domain: str
    public_key: str
    at: int


class KeysUnstable(MailioError):
    """A domain changes its keys faster than anybody who means it; what it signs has to wait."""

    fault = Fault.SENDER
    temporary = True
    smtp = "451 4.4.3"
    http = 503
    mtp = "4.4.3"

    def __init__(self, domain: str) -> None:
        super().__init__("the domain's keys change too often", f"{domain}: over {MAX_CHANGES} times in a day")


class PeerState(msgspec.Struct, frozen=True):
    """The keys that a domain published when it was last noted, each with the time (ms) of its first sight.

    `changes` are the times of the last `MAX_CHANGES` events.
    """

    live: tuple[tuple[str, int], ...] = ()
    changes: tuple[int, ...] = ()


def evolve(state: PeerState, event: Event) -> PeerState:
    """Return the state after the event."""
    match event:
        case PeerKeySeen():
            others = tuple(one for one in state.live if one[0] != event.public_key)
            live = (*others, (event.public_key, event.at))
        case PeerKeyGone():
            live = tuple(one for one in state.live if one[0] != event.public_key)
        case _:
            return state
    return PeerState(live, (*state.changes, event.at)[-MAX_CHANGES:])


def published(
    state: PeerState, domain: str, keys: Collection[str], at: int, *, validated: bool = False
) -> list[Event]:
    """Say what changed, now that DNS answers with these keys (base64); nothing, where they are the same.

    Raises KeysUnstable when that is too much in a day.
    """
    live = dict(state.live)
    events: list[Event] = [
        PeerKeySeen(domain=domain, public_key=key, at=at, validated=validated)
        for key in keys
        if key not in live
    ]
    events += [PeerKeyGone(domain=domain, public_key=key, at=at) for key in live if key not in keys]
    recent = sum(at - DAY_MS < one for one in state.changes)
    if events and recent + len(events) > MAX_CHANGES:
        raise KeysUnstable(domain)
    return events


class KeySpan(msgspec.Struct, frozen=True):
    """From when to when (ms) a key (base64) was published; `gone_at` is 0 while it is."""

    public_key: str
    seen_at: int
    validated: bool
    gone_at: int = 0


def key_spans(events: Iterable[Event]) -> list[KeySpan]:
    """Return a peer's keys in the order in which they were seen; one that came back is there again."""
    spans: list[KeySpan] = []
    for event in events:
        if isinstance(event, PeerKeySeen):
            spans.append(KeySpan(event.public_key, event.at, event.validated))
        elif isinstance(event, PeerKeyGone):
            spans = [_ended(span, event) for span in spans]
    return spans


def _ended(span: KeySpan, event: PeerKeyGone) -> KeySpan:
    ends = span.public_key == event.public_key and not span.gone_at
    return msgspec.structs.replace(span, gone_at=event.at) if ends else span
