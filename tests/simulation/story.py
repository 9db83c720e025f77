"""What happens in a simulation, drawn from its seed: people write, nodes die, the network misbehaves.

Told in virtual time. In the end everything is repaired and left alone until nothing moves any more; then
`judging` looks whether the promises were kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.federation import Intervene
from actors.outgoing import KIND as FEDERATION
from events.delivery import Delivery, Drop, Hasten, Hold, Phase, Release
from events.errors import CorruptRecord, MailioError
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
from tests.simulation import failpoints
from tests.simulation.clock import EPOCH
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Faults, Network
from tests.simulation.node import Down, Draw, SimulatedNode

MINUTE = 60.0
AWAY = 0.9
"""How often somebody writes to another node and not to their own."""

SETTLING_MINUTES = 60
"""What is not done an hour after the last fault never will be."""

LIFETIMES = (0, 0, 0, 0, 5, 30, 180)
"""Seconds that a message may take, drawn; 0: as long as the node tries."""

JWE = {
    "aad": "YWFk", "ciphertext": "Y2lwaGVydGV4dA", "iv": "aXY", "tag": "dGFn", "protected": "eyJlbmMiOiJBMjU2R0NNIn0"
}  # fmt: skip


class Size(msgspec.Struct, frozen=True):
    """How much happens: nodes, people on each, acts, and virtual seconds in which they fall.

    Without `trouble` nobody dies, the network is fair, and nobody takes anything back or holds it up.
    """

    nodes: int = 3
    people: int = 2
    acts: int = 36
    seconds: float = 6 * MINUTE
    trouble: bool = True


class Sent(NamedTuple):
    """A message that a node has promised to deliver: to whom, and within how many seconds (0: days)."""

    to: list[Person]
    lifetime: float = 0


class Person:
    """Somebody with an account. `sent` are messages by id, `taken_back` those that they wanted back.

    `revoked` and `limited` are the people of whom they ever said so.
    """

    def __init__(self, name: str, home: SimulatedNode) -> None:
        self.name = name
        self.home = home
        self.email = f"{name}@{home.name}.example"
        self.keys = UserKeys.generate()
        self.sent: dict[str, Sent] = {}
        self.taken_back: set[str] = set()
        self.revoked: set[Person] = set()
        self.limited: set[Person] = set()
        self.handshakes: dict[str, tuple[int, str]] = {}
        self.unsaid: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """The Mailio address."""
        return self.keys.address

    @property
    def did(self) -> str:
        """`did:web:<server>#<address>`."""
        return str(web_did(self.home.domain, self.address))

    def handshake_with(self, sender: Person) -> str:
        """Compute the id of what this owner says about a sender."""
        return handshake_id(self.address, sender.did)

    def said(self, ident: str, status: str, created: int) -> None:
        """Remember what was said last; of the same time, the later one counts."""
        if created >= self.handshakes.get(ident, (0, ""))[0]:
            self.handshakes[ident] = (created, status)


class Story:
    """One run. `log` tells what was done, one line each, for whoever reads a failure."""

    def __init__(self, folder: Path, size: Size, draw: Draw, loop: SimulatedLoop) -> None:
        self.size = size
        self.chance = draw("story")
        self.loop = loop
        self.network = Network(draw("network"))
        self.nodes = [
            SimulatedNode(name, folder / name, self.network, loop, draw)
            for name in ("alpha", "beta", "gamma", "delta", "epsilon")[: size.nodes]
        ]
        self.people: list[Person] = []
        self.log: list[str] = []
        self.states: Counter[str] = Counter()
        self.dropped: set[str] = set()

    @property
    def deaths(self) -> list[str]:
        """Where the nodes died."""
        return [where for node in self.nodes for where in node.deaths]

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
            await self._begin(node)
        for number in range(self.size.nodes * self.size.people):
            await self._arrive(number)
        await self._happen()
        await self.settle()

    async def _begin(self, node: SimulatedNode) -> None:
        """Start a node for the first time; it may die of that, too."""
        if self.size.trouble and self.chance.random() < 0.3:
            failpoints.arm(node.next_life(), *self._place(3), node.die)
        while not node.world:
            with suppress(Down):
                await node.start()
        failpoints.disarm()

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
        acts = [*[self._write] * 6]
        if self.size.trouble:
            acts += [self._flood, self._answer, self._answer, self._take_back, self._operate, self._operate]
            acts += [self._weather, self._kill, self._doom, self._undermine]
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
        await self.writes(sender, to, lifetime=self.chance.choice(LIFETIMES) if self.size.trouble else 0)

    async def writes(self, sender: Person, to: list[Person], *, lifetime: float = 0) -> str:
        """Send a message, one that may take `lifetime` seconds unless that is 0; return its id, "" if refused."""
        stated = {
            "type": "application/didcomm-encrypted+json",
            "createdTime": 1,
            "intent": "message",
            "to": [one.did for one in to],
            "body": {**JWE, "recipients": [_recipient(one) for one in (sender, *to)]},
        }
        origin = Origin(actor=f"client/{sender.address}")

        async def send(core: Core) -> str:
            expires = {"expiresTime": core.clock.now() + int(lifetime * 1000)} if lifetime else {}
            return await core.federation.sending.send(sender.address, stated | expires, origin)

        ident = await self._tried(sender.home, send) or ""
        if ident:
            sender.sent[ident] = Sent(to, lifetime)
        within = f" within {lifetime:g} s" if lifetime else ""
        self.note(
            f"{sender.name} writes to {', '.join(one.name for one in to)}{within}: {ident or 'not taken'}"
        )
        return ident

    async def _flood(self) -> None:
        """Let somebody write again and again to the same: more than a limit allows, and a peer takes at once."""
        sender, to = self.chance.sample(self.people, 2)
        if self.chance.random() < 0.7:
            await self.says(to, sender, "accepted", minutes=self.chance.choice((1, 3, 60)))
        for _ in range(self.chance.choice((3, 4, 13))):
            await self.writes(sender, [to])
            await asyncio.sleep(self.chance.choice((0.0, 0.1, 8.0)))

    async def _answer(self) -> None:
        """Accept or revoke somebody, perhaps offline: then it is told the next time."""
        owner, other = self.chance.sample(self.people, 2)
        status = self.chance.choice(("accepted", "revoked"))
        minutes = self.chance.choice((0, 1, 3)) if status == "accepted" else 0
        await self.says(owner, other, status, minutes=minutes, offline=self.chance.random() < 0.3)

    async def says(
        self, owner: Person, other: Person, status: str, *, minutes: int = 0, offline: bool = False
    ) -> None:
        """Sign a handshake, one message in so many minutes unless that is 0; bring it to the node if online."""
        now = owner.home.running.clock.now() if owner.home.core else self._now()
        ident = owner.handshake_with(other)
        content: dict[str, Any] = {
            "handshakeId": ident,
            "originServer": {"domain": owner.home.domain},
            "status": status,
            "level": "none",
            "type": "user",
            "created": now,
        }
        if minutes:
            content |= {"type": "signup", "signupSubType": 1, "signupRules": {"frequencyMinutes": minutes}}
        signed = sign_handshake(content, owner.keys)
        owner.unsaid.append(handshake_document(ident, signed, owner.did, now))
        owner.said(ident, status, now)
        if status == "revoked":
            owner.revoked.add(other)
        if minutes:
            owner.limited.add(other)
        if not offline:
            await self._sync(owner)
        limit = f", one in {minutes} min" if minutes else ""
        self.note(f"{owner.name} says of {other.name}: {status}{limit}{', offline' if owner.unsaid else ''}")

    def _now(self) -> int:
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

    async def _take_back(self) -> None:
        """Let a sender cancel a message, which may have gone already."""
        sender = self.chance.choice(self.people)
        if not sender.sent:
            return
        ident = self.chance.choice(list(sender.sent)[-3:])
        origin = Origin(actor=f"client/{sender.address}")

        async def cancel(core: Core) -> bool:
            await core.federation.sending.cancel(sender.address, ident, origin)
            return True

        sender.taken_back.add(ident)
        taken = await self._tried(sender.home, cancel)
        self.note(f"{sender.name} takes {ident} back: {'done' if taken else 'too late'}")

    async def _tried(self, node: SimulatedNode, work: Callable[[Core], Coroutine[Any, Any, Any]]) -> Any:
        """Do it, or None when the node is down, dies on the way, or says no for now."""
        try:
            return await node.inside(work)
        except (Down, MailioError):
            return None

    # What operators do

    async def _operate(self) -> None:
        """Hold, release, hasten or drop something that waits."""
        node, at = self.chance.choice(self.nodes), self._now()
        command = self.chance.choice((Hold(at), Hold(at, "why not"), Release(at), Hasten(at), Drop(at)))
        which = self.chance.random()

        async def intervene(core: Core) -> str:
            waiting = [one async for one in core.federation.queue.waiting.all()]
            if not waiting:
                return "nothing"
            chosen = waiting[int(which * len(waiting))]
            if isinstance(command, Drop):
                self.dropped.add(chosen.message)
            await _intervened(core, chosen, command)
            return chosen.id

        ident = await self._tried(node, intervene)
        self.note(f"the operator of {node.name} wants {type(command).__name__}: {ident or 'not done'}")

    async def _release_all(self, node: SimulatedNode) -> None:
        async def release(core: Core) -> None:
            held = [one async for one in core.federation.queue.waiting.all() if one.phase is Phase.HELD]
            for one in held:
                await _intervened(core, one, Release(core.clock.now()))

        await node.inside(release)

    # What happens to them

    async def _kill(self) -> None:
        self.chance.choice(self.nodes).die()

    async def _doom(self) -> None:
        """Let a node die in the middle of something."""
        node = self.chance.choice(self.nodes)
        if node.core is not None:
            node.doom(self.chance.randint(1, 40))

    async def _undermine(self) -> None:
        """Let a node die at a failpoint, in this life or at the start of the next."""
        node = self.chance.choice(self.nodes)
        failpoints.arm(node.world or node.next_life(), *self._place(6), node.die)

    def _place(self, most: int) -> tuple[str, int]:
        return self.chance.choice(failpoints.NAMES), self.chance.randint(1, most)

    async def _revive(self) -> None:
        """Start whoever is dead again, sooner or later."""
        while True:
            await asyncio.sleep(1.0)
            for node in self.nodes:
                if not node.life:
                    self.note(f"{node.name} is dead: {node.deaths[-1]}")
                    await asyncio.sleep(self.chance.choice((0.1, 5.0, 60.0)))
                    with suppress(Down):
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
        failpoints.disarm()
        self.note("everything is repaired")

    async def settle(self) -> None:
        """Wait until all that is owed is done."""
        for person in self.people:
            await self._sync(person)
        for node in self.nodes:
            await self._release_all(node)
        for _ in range(SETTLING_MINUTES):
            await asyncio.sleep(MINUTE)
            if not [one for node in self.nodes for one in await _waiting(node)]:
                break
        await asyncio.sleep(MINUTE)


async def _intervened(core: Core, one: Delivery, command: Hold | Release | Hasten | Drop) -> None:
    wanted = Intervene(one.id, command, "operator")
    await core.actors.ask(FEDERATION, one.destination, wanted)


def _recipient(person: Person) -> dict[str, Any]:
    return {"encrypted_key": "a2V5", "header": {"kid": person.did}}


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
