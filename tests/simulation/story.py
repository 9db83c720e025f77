"""What happens in a simulation, drawn from its seed: people write, nodes die, the network misbehaves.

Told in virtual time. In the end everything is repaired and left alone until nothing moves any more; then
`judging` looks whether the promises were kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.federation import Intervene
from actors.outgoing import KIND as FEDERATION
from events.delivery import Hold, Release
from events.errors import Conflict, CorruptRecord, MailioError
from events.identity import handshake_id, userdb_name, web_did
from events.log.log import Origin
from events.log.reading import LogReader
from node.accounts import Registration
from node.core import Core
from node.crypto.handshakes import handshake_document, sign_handshake
from node.crypto.keys import UserKeys
from node.sync.database import Database
from node.sync.incoming import incoming
from node.sync.superseded import Superseded
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Faults, Network
from tests.simulation.node import Down, SimulatedNode

MINUTE = 60.0
AWAY = 0.9
"""How often somebody writes to another node and not to their own."""

SETTLING_MINUTES = 60
"""What is not done an hour after the last fault never will be."""

FLOOD = 14
"""Messages of a flood: more than are set aside under an agreed frequency before the door says no."""

LIMITS = (0, 0, 2, 15)
"""Minutes that may have to lie between two messages under a handshake; 0: none have to."""

JWE = {
    "aad": "YWFk", "ciphertext": "Y2lwaGVydGV4dA", "iv": "aXY", "tag": "dGFn", "protected": "eyJlbmMiOiJBMjU2R0NNIn0"
}  # fmt: skip


class Size(msgspec.Struct, frozen=True):
    """How much happens: nodes, people on each, acts, and virtual seconds in which they fall. Nobody has to die."""

    nodes: int = 3
    people: int = 2
    acts: int = 60
    seconds: float = 10 * MINUTE
    deaths: bool = True


class Sent(NamedTuple):
    """A message that a node has promised to deliver: to whom, and within how many seconds (0: days)."""

    to: list[Person]
    lifetime: int = 0


class Person:
    """Somebody with an account. `sent` are messages by id; `revoked` are those who were ever revoked."""

    def __init__(self, name: str, home: SimulatedNode) -> None:
        self.name = name
        self.home = home
        self.email = f"{name}@{home.name}.example"
        self.keys = UserKeys.generate()
        self.sent: dict[str, Sent] = {}
        self.revoked: set[Person] = set()
        self.taken_back: set[str] = set()
        self.handshakes: dict[str, str] = {}
        self.unsaid: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """The Mailio address."""
        return self.keys.address

    @property
    def did(self) -> str:
        """`did:web:<server>#<address>`."""
        return str(web_did(self.home.domain, self.address))


class Story:
    """One run. `log` tells what was done, one line each, for whoever reads a failure.

    `limits` are the minutes that an owner demands between two messages of somebody, by both their DIDs: drawn
    when they first speak of each other, and part of every acceptance from then on.
    """

    def __init__(self, folder: Path, size: Size, chance: random.Random, loop: SimulatedLoop) -> None:
        self.size = size
        self.chance = chance
        self.loop = loop
        self.network = Network(chance)
        self.nodes = [
            SimulatedNode(name, folder / name, self.network, loop, chance)
            for name in ("alpha", "beta", "gamma", "delta", "epsilon")[: size.nodes]
        ]
        self.people: list[Person] = []
        self.limits: dict[tuple[str, str], int] = {}
        self.log: list[str] = []
        self.deaths = 0

    @property
    def fingerprint(self) -> str:
        """The hashes of the last records of all logs: the same seed gives the same."""
        heads = []
        for node in self.nodes:
            with suppress(CorruptRecord), LogReader.open(node.data / "log.sqlite") as reader:
                heads.append(reader.head.hash.hex()[:16])
        return " ".join(heads)

    def note(self, text: str) -> None:
        """Write a line."""
        self.log.append(f"{self.loop.time():9.1f}  {text}")

    async def tell(self) -> None:
        """Begin, let things happen, repair, wait until nothing moves."""
        for node in self.nodes:
            await node.start()
        for number in range(self.size.nodes * self.size.people):
            await self._arrive(number)
        await self._happen()
        await self._settle()

    async def _arrive(self, number: int) -> None:
        home = self.nodes[number % len(self.nodes)]
        person = Person(f"person{number}", home)
        registration = Registration(
            email=person.email,
            signing_key=person.keys.public_key,
            agreement_key=person.keys.agreement_public_key,
            database_password="secret",
        )
        await home.inside(lambda core: core.accounts.open(registration, "simulation"))
        self.people.append(person)

    async def _happen(self) -> None:
        keeper = self.loop.create_task(self._revive())
        acts = [*[self._write] * 6, self._answer, self._answer, self._weather]
        acts += [self._take_back, self._interfere, self._flood]
        acts += [self._kill, self._doom] if self.size.deaths else []
        for _ in range(self.size.acts):
            await asyncio.sleep(self.chance.expovariate(self.size.acts / self.size.seconds))
            await self.chance.choice(acts)()
        self._repair()
        await asyncio.sleep(3 * MINUTE)
        keeper.cancel()

    # What people do

    async def _write(self) -> None:
        sender = self.chance.choice(self.people)
        others = [one for one in self.people if one is not sender]
        away = [one for one in others if one.home is not sender.home]
        known = away if self.chance.random() < AWAY else others
        to = self.chance.sample(known, min(len(known), self.chance.choice((1, 1, 1, 2))))
        lifetime = self.chance.choice((0, 0, 0, 0, 30, 120))
        ident = await self._sent(sender, to, lifetime)
        hurry = f", within {lifetime} s" if lifetime else ""
        self.note(
            f"{sender.name} writes to {', '.join(one.name for one in to)}{hurry}: {ident or 'not taken'}"
        )

    async def _sent(self, sender: Person, to: list[Person], lifetime: int = 0) -> str:
        """Hand a message to the sender's node; return its id, "" when it was not taken."""
        stated = {
            "type": "application/didcomm-encrypted+json",
            "createdTime": 1,
            "expiresTime": self._now() + lifetime * 1000 if lifetime else 0,
            "intent": "message",
            "to": [one.did for one in to],
            "body": {**JWE, "recipients": [_recipient(one) for one in (sender, *to)]},
        }
        origin = Origin(actor=f"client/{sender.address}")

        async def send(core: Core) -> str:
            return await core.federation.sending.send(sender.address, stated, origin)

        ident: str | None = await self._tried(sender.home, send)
        if ident:
            sender.sent[ident] = Sent(to, lifetime)
        return ident or ""

    async def _flood(self) -> None:
        """Write to somebody again and again, rather to one who has asked for patience."""
        patient = [
            (sender, owner) for sender in self.people for owner in self.people if self._limit(owner, sender)
        ]
        if not patient or self.chance.random() < 0.5:
            return
        sender, owner = self.chance.choice(patient)
        taken = [await self._sent(sender, [owner]) for _ in range(FLOOD)]
        self.note(f"{sender.name} floods {owner.name}: {sum(map(bool, taken))} taken")

    def _limit(self, owner: Person, sender: Person) -> int:
        return self.limits.get((owner.did, sender.did), 0)

    async def _take_back(self) -> None:
        """Cancel somebody's last message, if it is not too late."""
        sender = self.chance.choice(self.people)
        ident = next(reversed(sender.sent), "")
        origin = Origin(actor=f"client/{sender.address}")

        async def cancel(core: Core) -> bool:
            await core.federation.sending.cancel(sender.address, ident, origin)
            return True

        done = ident and await self._tried(sender.home, cancel)
        sender.taken_back.add(ident)
        self.note(f"{sender.name} takes {ident or 'nothing'} back: {'done' if done else 'too late'}")

    async def _interfere(self) -> None:
        """Hold back what waits at a node, or let it go on, as an operator would."""
        node = self.chance.choice(self.nodes)
        holds = self.chance.random() < 0.5

        async def interfere(core: Core) -> int:
            return await _told(core, _hold if holds else Release)

        done = await self._tried(node, interfere) or 0
        self.note(f"{node.name}'s operator {'holds' if holds else 'releases'} {done} deliveries")

    async def _answer(self) -> None:
        """Accept or revoke somebody, perhaps offline: then it is told the next time."""
        owner = self.chance.choice(self.people)
        other = self.chance.choice([one for one in self.people if one is not owner])
        status = self.chance.choice(("accepted", "revoked"))
        now = owner.home.running.clock.now() if owner.home.core else 0
        ident = handshake_id(owner.address, other.did)
        limit = self.limits.setdefault((owner.did, other.did), self.chance.choice(LIMITS))
        content: dict[str, Any] = {
            "handshakeId": ident,
            "originServer": {"domain": owner.home.domain},
            "status": status,
            "level": "none",
            "type": "user",
            "created": now or self._now(),
        } | ({"signupRules": {"frequencyMinutes": limit}} if limit else {})
        signed = sign_handshake(content, owner.keys)
        owner.unsaid.append(handshake_document(ident, signed, owner.did, content["created"]))
        owner.handshakes[ident] = status
        if status == "revoked":
            owner.revoked.add(other)
        if self.chance.random() < 0.7:
            await self._sync(owner)
        self.note(f"{owner.name} says of {other.name}: {status}{', offline' if owner.unsaid else ''}")

    def _now(self) -> int:
        from tests.simulation.clock import EPOCH

        return EPOCH + int(self.loop.time() * 1000)

    async def _sync(self, person: Person) -> None:
        """Bring to the node what a device has; what is not answered is brought again."""
        while person.unsaid:
            document = person.unsaid[0]

            async def write(core: Core, document: dict[str, Any] = document) -> bool:
                return await _written(person, core, document)

            if not await self._tried(person.home, write):
                return
            person.unsaid.pop(0)

    async def _tried(self, node: SimulatedNode, work: Callable[[Core], Coroutine[Any, Any, Any]]) -> Any:
        """Do it, or None when the node is down, dies on the way, or says no for now."""
        try:
            return await node.inside(work)
        except (Down, MailioError):
            return None

    # What happens to them

    async def _kill(self) -> None:
        node = self.chance.choice(self.nodes)
        node.die()

    async def _doom(self) -> None:
        """Let a node die in the middle of something."""
        node = self.chance.choice(self.nodes)
        if node.core is not None:
            node.doom(self.chance.randint(1, 40))

    async def _revive(self) -> None:
        """Start whoever is dead again, sooner or later."""
        while True:
            await asyncio.sleep(1.0)
            for node in self.nodes:
                if node.core is None:
                    self.deaths += 1
                    self.note(f"{node.name} is dead")
                    await asyncio.sleep(self.chance.choice((0.1, 5.0, 60.0)))
                    await node.start()
                    self.note(f"{node.name} is back")

    async def _weather(self) -> None:
        """Change how the network behaves."""
        kind = self.chance.choice(("fair", "lossy", "split", "slow", "nameless"))
        self.network.split({})
        self.network.faults = Faults(
            lose=0.3 if kind == "lossy" else 0.0,
            duplicate=0.3 if kind in {"lossy", "slow"} else 0.0,
            delay=8.0 if kind == "slow" else 0.05,
            no_name=0.5 if kind == "nameless" else 0.0,
        )
        if kind == "split":
            self.network.split({node.domain: self.chance.randint(0, 1) for node in self.nodes})
        self.note(f"the network is {kind}")

    # The end

    def _repair(self) -> None:
        self.network.split({})
        self.network.faults = Faults()
        self.loop.at_step.clear()
        self.note("everything is repaired")

    async def _settle(self) -> None:
        """Wait until all that is owed is done."""
        for person in self.people:
            await self._sync(person)
        for node in self.nodes:
            await self._tried(node, lambda core: _told(core, Release))
        for _ in range(SETTLING_MINUTES):
            await asyncio.sleep(MINUTE)
            if not [one for node in self.nodes for one in await _waiting(node)]:
                break
        await asyncio.sleep(MINUTE)


def _recipient(person: Person) -> dict[str, Any]:
    return {"encrypted_key": "a2V5", "header": {"kid": person.did}}


def _hold(at: int) -> Hold:
    return Hold(at, "looks odd")


async def _told(core: Core, command: Callable[[int], Hold | Release]) -> int:
    """Tell all that waits at a node the same; return how many heard it."""
    heard = 0
    for destination in await core.federation.queue.destinations():
        async for one in core.federation.queue.of(destination):
            with suppress(Conflict):
                order = Intervene(one.id, command(core.clock.now()), "operator")
                await core.actors.ask(FEDERATION, destination, order)
                heard += 1
    return heard


async def _waiting(node: SimulatedNode) -> list[str]:
    return await node.running.federation.queue.destinations()


async def _written(person: Person, core: Core, document: dict[str, Any]) -> bool:
    """Write a document as a device does: on top of what is there."""
    writes, settings = person.home.writes, core.settings
    assert writes is not None
    database = Database(
        core.views.stores["userdb"], userdb_name(person.address), settings.sync, Superseded(1 << 20)
    )
    stored = await database.get(document["_id"])
    sent = document | ({"_rev": stored.winner.rev} if stored else {})
    taken = incoming(sent, document["_id"], settings.sync)
    (outcome,) = await writes.write(person.address, database, [taken], new_edits=True)
    return outcome.refusal is None
