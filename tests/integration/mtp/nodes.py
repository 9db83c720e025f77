"""Two and more whole nodes in one process that find each other by a real DNS server and talk by real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from actors.outgoing import DeliverySettings
from events import delivery
from events.delivery import Delivery, delivery_id
from events.event import Event
from node.api.app import SERVER, build_app
from node.core import Core
from node.discovery.limits import DiscoverySettings
from node.settings import HttpSettings, NodeSettings, Settings
from node.smtp.door import SmtpDoor
from tests.integration.api.harness import Answer, Node, User, database
from tests.servers.dns import DnsServer, dns_server

QUICK: dict[str, Any] = {
    "first_seconds": 0.05, "most_seconds": 0.2, "breaker_seconds": 0.05, "probe_seconds": 0.01,
    "requests_per_peer": 1_000,
}  # fmt: skip
"""Pauses that a test can wait for."""

JWE: dict[str, Any] = {
    "aad": "YWFk",
    "ciphertext": "Y2lwaGVydGV4dA",
    "iv": "aXY",
    "tag": "dGFn",
    "protected": "eyJlbmMiOiJBMjU2R0NNIn0",
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Place:
    """One node: its settings, which outlive it, and the node itself while it runs."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.domain = f"mio.{name}.example"
        self.email_domain = f"{name}.example"
        self.port = free_port()
        self.node: Node | None = None
        self._stack = AsyncExitStack()

    @property
    def core(self) -> Core:
        assert self.node is not None
        return self.node.core

    def settings(self, **delivery_settings: Any) -> Settings:
        return Settings(
            node=NodeSettings(
                data=self.world.folder / self.name,
                server_domain=self.domain,
                email_domains=(self.email_domain,),
                web_domain=self.email_domain,
            ),
            http=HttpSettings(requests_per_second=1_000.0, request_burst=1_000),
            discovery=DiscoverySettings(
                resolvers=(self.world.dns.address,), loopback=True, hosts=self.world.hosts(), failure_seconds=0,
                fetches_per_host=1_000, least_seconds=0,
            ),
            delivery=DeliverySettings(**{**QUICK, **self.world.delivery, **delivery_settings}),
        )  # fmt: skip

    async def start(self, *, opened: bool = True, **delivery_settings: Any) -> Node:
        settings = self.settings(**delivery_settings)
        core = Core(settings)
        self._stack.push_async_callback(core.close)
        smtp = SmtpDoor(
            core.acceptance, settings.smtp.limits, tls=None, hostname=self.domain, clock=core.clock
        )
        await core.start()
        server = TestServer(build_app(core, smtp), port=self.port)
        await server.start_server(**SERVER)
        client = await self._stack.enter_async_context(TestClient(server))
        self.node = Node(core, smtp, client)
        self.world.publish()
        if opened:
            await core.federation.open(core.log.head)
        return self.node

    async def stop(self) -> None:
        await self._stack.aclose()
        self.node = None

    async def user(self, name: str) -> User:
        """An account with a token."""
        from node.accounts import Registration
        from tests.integration.api.harness import PASSWORD

        user = User(f"{name}@{self.email_domain}")
        registration = Registration(
            email=user.email,
            signing_key=user.keys.public_key,
            agreement_key=user.keys.agreement_public_key,
            database_password=PASSWORD,
        )
        await self.core.accounts.open(registration, "test")
        user.token = self.core.accounts.issue_token(user.address, user.keys.public_key, name)
        return user

    def did(self, user: User) -> str:
        return f"did:web:{self.domain}#{user.address}"

    async def send(self, sender: User, *to: str, **changes: Any) -> Answer:
        """Send as a client does, to DIDs and emails."""
        assert self.node is not None
        return await self.node.call(
            "POST", "/api/v1/senddid", {"didCommMessage": message(*to, **changes)}, token=sender.token
        )

    async def sent(self, sender: User, *to: str, **changes: Any) -> str:
        answer = await self.send(sender, *to, **changes)
        assert answer.status == 202, answer
        ident: str = answer.json["didCommId"]
        return ident

    async def documents(self, user: User) -> dict[str, dict[str, Any]]:
        """What a user's clients see, by id."""
        store = self.core.views.stores["userdb"]
        return {one.id: json.loads(one.winner.body) for one in await store.documents_since(database(user))}

    async def recipients(self, user: User, ident: str) -> list[dict[str, Any]]:
        found = (await self.documents(user)).get(f"delivery:{ident}", {"recipients": []})
        recipients: list[dict[str, Any]] = found["recipients"]
        return recipients

    async def mail(self, user: User, folder: str = "") -> list[dict[str, Any]]:
        """Messages in a folder, or in all but `sent`."""
        everything = (await self.documents(user)).values()
        return [one for one in everything if "folder" in one and (one["folder"] == folder or not folder)]

    async def delivery(self, destination: str, ident: str) -> Delivery:
        state = delivery.initial(delivery_id(destination, ident))
        for record in await self.core.log.stream(delivery.stream(state.id)):
            state = delivery.evolve(state, record.event)
        return state

    async def events(self, kind: type[Event]) -> list[Any]:
        return [one.event for one in await self.core.log.read(0, 10_000, types={kind.__name__})]


def message(*to: str, **changes: Any) -> dict[str, Any]:
    """A message as a client writes it, encrypted for these DIDs (emails: for whom `kids` names)."""
    dids = [one for one in to if one.startswith("did:")]
    emails = [{"email": one, "emailHash": ""} for one in to if not one.startswith("did:")]
    kids = changes.pop("kids", dids) or ["did:web:nobody.example#0x" + "00" * 20]
    found = {
        "type": "application/didcomm-encrypted+json",
        "from": "whatever",
        "createdTime": 1,
        "intent": "message",
        "body": {**JWE, "recipients": [{"encrypted_key": "a2V5", "header": {"kid": kid}} for kid in kids]},
    }
    found |= ({"to": dids} if dids else {}) | ({"toEmails": emails} if emails else {})
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


class World:
    """Nodes by name, and the DNS that they share."""

    def __init__(self, folder: Path, dns: DnsServer, delivery_settings: dict[str, Any]) -> None:
        self.folder = folder
        self.dns = dns
        self.delivery = delivery_settings
        self.places: dict[str, Place] = {}
        self.elsewhere: dict[str, int] = {}
        self.zone = ""

    def hosts(self) -> tuple[str, ...]:
        ports = {place.domain: place.port for place in self.places.values()} | self.elsewhere
        return tuple(f"{name}=127.0.0.1:{port}" for name, port in ports.items())

    def publish(self) -> None:
        """Publish the records of all nodes that run, and what else is in `zone`."""
        text = self.zone
        for place in self.places.values():
            if place.node is not None:
                key = base64.b64encode(place.core.keys.public_key).decode()
                text += f'mailio._mailiokey.{place.domain}. 300 IN TXT "v=MAILIO1; k=ed25519; p={key}"\n'
                text += f"{place.domain}. 300 IN MX 0 .\n{place.email_domain}. 300 IN MX 0 .\n"
        self.dns.publish(text)


@asynccontextmanager
async def world(folder: Path, *names: str, **delivery_settings: Any) -> AsyncIterator[World]:
    """Run nodes of these names while the block runs."""
    async with dns_server() as dns:
        found = World(folder, dns, delivery_settings)
        found.places = {name: Place(found, name) for name in names}
        try:
            for place in found.places.values():
                await place.start(opened=False)
            for place in found.places.values():
                await place.core.federation.open(place.core.log.head)
            yield found
        finally:
            for place in found.places.values():
                await place.stop()


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until an (async) condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.01)
