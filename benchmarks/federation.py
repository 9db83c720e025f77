"""Messages from node to node, and what one dead peer of ten takes from the others.

`python -m benchmarks.federation [--size quick]`. All in one process on one loop, with real HTTP on loopback
and a real DNS server: what is measured is both ends together. "to one node" is two whole nodes; a message
counts when its sender has the peer's confirmation that it was filed (four signed messages for each). "to nine
of ten" is one whole node and ten small servers that sign receipts and forget; then the same with one of the
ten that takes connections and never answers. The request limit of one peer (10 a second) is lifted. "emails
looked up" costs the asker a scrypt each: the longest time that a task of that loop had to wait for its turn
meanwhile, beside the time that one scrypt takes.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from benchmarks.results import Size, in_turns, middle, percentile, run
from events.delivery import DeliveryReported
from events.log.log import Origin
from tests.integration.api.harness import User
from tests.integration.mtp.nodes import Place, World, free_port, message, until, world
from tests.messages import messages_from
from tests.servers.peer import ScriptedPeer, scripted_peer

PEERS = 10
SENDERS = 8
"""Users who send at the same time: each one's messages to one destination go one after the other."""

UNLIMITED: dict[str, Any] = {"requests_per_peer": 100_000, "attempt_seconds": 5.0}


class Pair(msgspec.Struct, frozen=True):
    """Two nodes: confirmed messages a second in a rush, and the time of one alone (ms)."""

    rate: float
    p50: float
    p99: float


class Ten(msgspec.Struct, frozen=True):
    """Ten peers: messages a second to the nine that are compared, all alive, with one dead, and the loss."""

    alive: float
    one_dead: float
    loss_percent: float


class Lookups(msgspec.Struct, frozen=True):
    """Emails looked up a second, one scrypt alone (ms), and how long the loop was away meanwhile (ms)."""

    rate: float
    scrypt: float
    pause_p99: float
    pause: float


class Figures(msgspec.Struct, frozen=True):
    """All measures."""

    pair: Pair
    ten: Ten
    lookups: Lookups


async def _send(place: Place, sender: User, to: str) -> str:
    origin = Origin(actor=f"client/{sender.address}")
    return await place.core.federation.sending.send(sender.address, message(to), origin)


async def _users(place: Place, count: int, name: str) -> list[User]:
    return [await place.user(f"{name}{number}") for number in range(count)]


async def pair(folder: Path, size: Size) -> tuple[Pair, Lookups]:
    """Measure two nodes."""
    async with world(folder, "alpha", "beta", **UNLIMITED) as nodes:
        alpha, beta = nodes.places["alpha"], nodes.places["beta"]
        senders, bob = await _users(alpha, SENDERS, "sender"), await beta.user("bob")
        to = beta.did(bob)
        alone = []
        for number in range(size.of(100, 30, 2)):
            began = time.perf_counter()
            await _send(alpha, senders[0], to)
            await _count(alpha, DeliveryReported, number + 1)
            alone.append((time.perf_counter() - began) * 1000)
        total, began = size.of(1_200, 400, 8), time.perf_counter()
        await asyncio.gather(*(_sender(alpha, one, [to] * (total // SENDERS)) for one in senders))
        await _count(alpha, DeliveryReported, len(alone) + total)
        rush = Pair(total / (time.perf_counter() - began), middle(alone), percentile(alone, 99))
        return rush, await lookups(alpha, beta.email_domain, senders[0], size.of(100, 40, 4))


async def lookups(place: Place, domain: str, asker: User, count: int) -> Lookups:
    """Look up emails that nobody has asked about, eight at once, and see what the loop does meanwhile."""
    began = time.perf_counter()
    await place.core.hasher.hash(f"one@{domain}")
    scrypt, pauses, done = time.perf_counter() - began, list[float](), asyncio.Event()
    watch = asyncio.create_task(_watch(pauses, done))
    emails, began = iter([f"somebody{number}@{domain}" for number in range(count)]), time.perf_counter()

    async def ask() -> None:
        for email in emails:
            await place.core.federation.lookup.all([email], place.did(asker))

    await asyncio.gather(*(ask() for _ in range(SENDERS)))
    seconds = time.perf_counter() - began
    done.set()
    await watch
    return Lookups(count / seconds, scrypt * 1000, percentile(pauses, 99), max(pauses))


async def _watch(pauses: list[float], done: asyncio.Event) -> None:
    """Note how late each turn comes (ms) that was due a millisecond later."""
    while not done.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        pauses.append((time.perf_counter() - began - 0.001) * 1000)


async def _sender(place: Place, sender: User, to: Sequence[str]) -> None:
    for one in to:
        await _send(place, sender, one)


async def _count(place: Place, kind: type, count: int) -> None:
    """Wait until so many events of a type are in the log."""
    found, position = 0, 0

    async def enough() -> bool:
        nonlocal found, position
        while page := await place.core.log.read(position, 500):
            found += sum(type(one.event) is kind for one in page)
            position = page[-1].position
        return found >= count

    await until(enough, 600)


async def ten(folder: Path, size: Size, *, one_dead: bool) -> float:
    """Return the rate at which nine peers get their messages."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(scripted_peer(f"p{number}.example", free_port()))
            for number in range(PEERS)
        ]
        nodes = await stack.enter_async_context(world(folder, **UNLIMITED))
        _introduce(nodes, peers)
        if one_dead:
            peers[0].answer = _never
        nodes.places["alpha"] = alpha = Place(nodes, "alpha")
        await alpha.start()
        senders = await _users(alpha, SENDERS, "sender")
        each = size.of(120, 40, 2)
        began = time.perf_counter()
        routes = [peer.did for _ in range(max(1, each // SENDERS)) for peer in peers]
        await asyncio.gather(*(_sender(alpha, one, routes) for one in senders))
        wanted = len(routes) // PEERS * SENDERS * (PEERS - 1)
        await until(lambda: sum(len(peer.taken) for peer in peers[1:]) >= wanted, 600)
        return wanted / (time.perf_counter() - began)


def _introduce(nodes: World, peers: Sequence[ScriptedPeer]) -> None:
    nodes.elsewhere = {peer.domain: peer.port for peer in peers}
    nodes.zone = "".join(peer.record for peer in peers)


async def _never(peer: ScriptedPeer, request: web.Request, body: bytes) -> web.Response:
    await peer.released.wait()
    return web.Response()


async def measured(folder: Path, size: Size) -> Figures:
    """Measure all, what is compared in turns."""
    first, looked_up = await pair(folder / "pair", size)
    alive, dead = list[float](), list[float]()
    for number, one_dead in in_turns([False, True], size.of(3, 1, 1)):
        rate = await ten(folder / f"ten{number}{one_dead}", size, one_dead=one_dead)
        (dead if one_dead else alive).append(rate)
    rate, slowed = middle(alive), middle(dead)
    return Figures(first, Ten(rate, slowed, (1 - slowed / rate) * 100), looked_up)


def measure(size: Size) -> Figures:
    """Measure in a temporary folder. Messages to the operator are left out, as with `logging.level`."""
    with messages_from(logging.WARNING), tempfile.TemporaryDirectory() as folder:
        return uvloop.run(measured(Path(folder), size))


def show(figures: Figures) -> None:
    """Print what was found."""
    one, many, emails = figures.pair, figures.ten, figures.lookups
    print(
        f"to one node      {one.rate:8,.0f} confirmed/s   alone: p50 {one.p50:.1f} ms, p99 {one.p99:.1f} ms"
    )
    print(f"to nine of ten   {many.alive:8,.0f} taken/s, all alive")
    print(f"                 {many.one_dead:8,.0f} taken/s, the tenth dead: {many.loss_percent:.1f} % less")
    print(
        f"emails looked up {emails.rate:8,.1f} /s   one scrypt {emails.scrypt:.0f} ms; the loop was away for "
        f"{emails.pause:.1f} ms at most, p99 {emails.pause_p99:.1f} ms"
    )


if __name__ == "__main__":
    run("federation", measure, show)
