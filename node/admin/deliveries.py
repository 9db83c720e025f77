"""What an operator may ask about what goes out: the queue, and its destinations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from actors.federation import Intervene, ResetDestination
from actors.messages import Inspect
from actors.outgoing import KIND
from actors.runtime.aggregate import fold
from events import delivery
from events.delivery import Delivery, Drop, Hasten, Hold, Phase, Release
from events.destination import Destination
from events.errors import InvalidInput, MailioError, NotFound
from events.identity import normalise_domain
from node.core import Core
from node.discovery.peer_keys import key_history

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

OPERATOR: Final = "operator"

MAX_LISTED: Final = 1_000
"""Deliveries in one answer."""

MAX_MATCHED: Final = 10_000
"""Deliveries that one `--destination` may mean."""

MAX_KEYS: Final = 50
"""Keys of one peer that are shown, the latest: it may change them every few hours for years."""

STATES: Final = ("queued", "trying", "deferred", "held")


def state_of(one: Delivery) -> str:
    """Say in one word how a delivery is."""
    if one.phase is not Phase.WAITING:
        return one.phase.value
    if one.trying:
        return "trying"
    return "deferred" if one.attempts else "queued"


def _row(one: Delivery) -> Answer:
    return {
        "id": one.id,
        "kind": one.kind.value,
        "destination": one.destination,
        "owner": one.owner,
        "recipients": [addressee.name for addressee in one.addressees],
        "state": state_of(one),
        "attempts": one.attempts,
        "scheduled": one.scheduled_at,
        "next": one.next_at,
        "expires": one.expires_at,
        "code": one.code,
        "reason": one.reason,
    }


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name, "")
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is a text")
    return value


async def _listed(core: Core, arguments: Arguments) -> AsyncIterator[Delivery]:
    destination, state = _text(arguments, "destination").lower(), _text(arguments, "state")
    if state and state not in STATES:
        raise InvalidInput(f"state is one of {', '.join(STATES)}")
    await core.views.reached("outbox", core.log.head)
    waiting = core.federation.queue.waiting
    async for one in waiting.of(destination) if destination else waiting.all():
        if not state or state_of(one) == state:
            yield one


async def queue_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List what waits, by destination, the oldest first."""
    limit = arguments.get("limit", 100)
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LISTED:
        raise InvalidInput(f"limit is a number from 1 to {MAX_LISTED}")
    found: list[Answer] = []
    total = 0
    async for one in _listed(core, arguments):
        total += 1
        if len(found) < limit:
            found.append(_row(one))
    yield {"deliveries": found, "total": total}


async def queue_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show one delivery with its history; also one that has ended, which the log knows."""
    key = _text(arguments, "id")
    records = await core.log.stream(delivery.stream(key))
    if not records:
        raise NotFound(f"no delivery has the id {key}")
    state = fold(delivery.evolve, delivery.initial(key), records)
    history = [
        {"at": one.metadata.at, "actor": one.metadata.actor, "type": type(one.event).__name__}
        | msgspec.to_builtins(one.event)
        for one in records
    ]
    yield _row(state) | {"reports": msgspec.to_builtins(state.reported), "history": history}


async def _ids(core: Core, arguments: Arguments) -> list[str]:
    """Return the deliveries that are meant: one, or all that wait for a destination."""
    if key := _text(arguments, "id"):
        return [key]
    if not _text(arguments, "destination"):
        raise InvalidInput("name a delivery, or a destination with --destination")
    found: list[str] = []
    async for one in _listed(core, arguments):
        found.append(one.id)
        if len(found) > MAX_MATCHED:
            raise InvalidInput(f"more than {MAX_MATCHED} deliveries: choose with --state")
    return found


async def _each(core: Core, arguments: Arguments, command: Drop | Hasten | Hold | Release) -> Answer:
    done: list[str] = []
    refused: dict[str, str] = {}
    ids = await _ids(core, arguments)
    for key in ids:
        destination = key.partition(":")[0]
        try:
            await core.actors.ask(KIND, destination, Intervene(key, command, OPERATOR))
        except MailioError as error:
            if len(ids) == 1:
                raise
            refused[key] = error.public
        else:
            done.append(key)
    return {"done": done, "refused": refused}


async def queue_retry(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Try deliveries now, whatever the breaker of their destination says."""
    yield await _each(core, arguments, Hasten(core.clock.now()))


async def queue_hold(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Keep deliveries back."""
    yield await _each(core, arguments, Hold(core.clock.now(), _text(arguments, "reason")))


async def queue_release(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Let held deliveries go on."""
    yield await _each(core, arguments, Release(core.clock.now()))


async def queue_drop(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Give deliveries up; their senders are told."""
    yield await _each(core, arguments, Drop(core.clock.now(), _text(arguments, "reason")))


async def _destination(core: Core, domain: str) -> Destination:
    state = await core.actors.ask(KIND, domain, Inspect())
    assert isinstance(state, Destination)
    return state


async def _peer(core: Core, domain: str, waiting: int, oldest: int) -> Answer:
    state = await _destination(core, domain)
    figures = core.federation.outgoing.figures.get(domain)
    return {
        "domain": domain,
        "breaker": state.breaker.value,
        "failures": state.failures,
        "until": state.opens_at(),
        "reason": state.reason,
        "waiting": waiting,
        "oldest": oldest,
        "sinceStart": {
            name: getattr(figures, name, 0) for name in ("attempts", "delivered", "deferred", "failed")
        },
    }


async def _waiting(core: Core) -> dict[str, tuple[int, int]]:
    """Return (how many, since when) for each destination that something waits for."""
    counts: dict[str, tuple[int, int]] = {}
    async for one in _listed(core, {}):
        count, oldest = counts.get(one.destination, (0, one.scheduled_at))
        counts[one.destination] = (count + 1, min(oldest, one.scheduled_at))
    return counts


async def peers_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List destinations: those that something waits for, and those that were dialled since the start."""
    counts = await _waiting(core)
    names = sorted({*counts, *(name for name in core.federation.outgoing.figures if "." in name)})
    yield {"peers": [await _peer(core, name, *counts.get(name, (0, 0))) for name in names]}


async def peers_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show one destination with the last that happened to it, and the keys that DNS gave for it so far."""
    domain = normalise_domain(_text(arguments, "domain"))
    counts = await _waiting(core)
    records = await core.log.stream(f"destination-{domain}")
    history = [
        {"at": one.metadata.at, "actor": one.metadata.actor, "type": type(one.event).__name__}
        | msgspec.to_builtins(one.event)
        for one in records[-20:]
    ]
    peer = await _peer(core, domain, *counts.get(domain, (0, 0)))
    yield peer | {"keys": await _keys(core, domain), "history": history}


async def _keys(core: Core, domain: str) -> list[Answer]:
    spans = (await key_history(core.log, domain))[-MAX_KEYS:]
    return [
        {
            "publicKey": one.public_key,
            "state": "gone" if one.gone_at else "live",
            "seen": one.seen_at,
            "gone": one.gone_at,
            "dnssec": one.validated,
        }
        for one in spans
    ]


async def peers_retry(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Try everything that waits for a destination, each now."""
    domain = normalise_domain(_text(arguments, "domain"))
    yield await _each(core, {"destination": domain, "state": "deferred"}, Hasten(core.clock.now()))


async def peers_reset(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Forget the failures of a destination: its breaker closes, and what waits goes on."""
    domain = normalise_domain(_text(arguments, "domain"))
    await core.actors.ask(KIND, domain, ResetDestination(OPERATOR))
    yield {"domain": domain, "breaker": (await _destination(core, domain)).breaker.value}


DELIVERY_OPERATIONS: Final = {
    "queue.list": queue_list,
    "queue.show": queue_show,
    "queue.retry": queue_retry,
    "queue.hold": queue_hold,
    "queue.release": queue_release,
    "queue.drop": queue_drop,
    "peers.list": peers_list,
    "peers.show": peers_show,
    "peers.retry": peers_retry,
    "peers.reset": peers_reset,
}
