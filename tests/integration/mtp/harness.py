"""A node with its door for peers open, peers that DNS knows, and a clock that the test rules."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from events.log.clock import VirtualClock
from events.mailbox import MessageFiled
from node.crypto.did_documents import MESSAGING_PATH
from node.crypto.keys import ServerKeys, UserKeys, verify_signature
from node.discovery.limits import DiscoverySettings
from node.mtp.envelope import MESSAGE, Kind, open_reply, sign_request
from node.mtp.limits import MtpSettings
from tests.integration.api import harness as api
from tests.integration.api.harness import Answer, Node, User, database
from tests.servers.dns import DnsServer, dns_server

HERE = "mio.alpha.example"
BETA = "mio.beta.example"
GAMMA = "mio.gamma.example"
START = 1_760_000_000_000
MESSAGE_ID = "5f1d1f7d3a5f8b0f1c8a4a0c7f2f5c0a6a1e3a1d0a6d8f6b6c5a4b3c2d1e0f9a"


class Peer:
    """Another server with one user: what it signs is right unless a test bends it."""

    def __init__(self, domain: str, seed: int) -> None:
        self.domain = domain
        self.keys = ServerKeys(bytes([seed]) * 32, START)
        self.user = UserKeys(bytes([seed + 1]) * 32, bytes([seed + 2]) * 32)

    @property
    def author(self) -> str:
        return f"did:web:{self.domain}#{self.user.address}"

    @property
    def record(self) -> str:
        """The zone of this peer."""
        key = base64.b64encode(self.keys.public_key).decode()
        text = f'mailio._mailiokey.{self.domain}. 300 IN TXT "v=MAILIO1; k=ed25519; p={key}"\n'
        return text + f"{self.domain}. 300 IN MX 0 .\n"

    def message(self, *recipients: User | str, **changes: Any) -> dict[str, Any]:
        """A message to these users (or `kid`s); `changes` set its members, None takes one away."""
        kids = [one if isinstance(one, str) else f"did:web:{HERE}#{one.address}" for one in recipients]
        found: dict[str, Any] = {
            "type": "application/didcomm-encrypted+json",
            "id": MESSAGE_ID,
            "from": self.author,
            "to": kids,
            "intent": "message",
            "body": {
                "aad": "YWFk",
                "ciphertext": "Y2lwaGVydGV4dA",
                "iv": "aXY",
                "recipients": [
                    {"encrypted_key": "a2V5", "header": {"kid": kid}} for kid in [self.author, *kids]
                ],
                "tag": "dGFn",
                "protected": "eyJlbmMiOiJBMjU2R0NNIn0",
            },
        }
        return {name: value for name, value in {**found, **changes}.items() if value is not None}

    def request(self, message: dict[str, Any], at: int, **changes: Any) -> dict[str, Any]:
        return {"signatureScheme": "EdDSA_X25519", "timestamp": at, "didCommMessage": message, **changes}

    def signed(
        self, message: dict[str, Any], at: int, *, domain: str = "", keys: ServerKeys | None = None
    ) -> bytes:
        return sign_request(MESSAGE, self.request(message, at), keys or self.keys, domain or self.domain)


class Receiver:
    """The node, in words of these tests."""

    def __init__(self, node: Node, dns: DnsServer, clock: VirtualClock) -> None:
        self.node = node
        self.dns = dns
        self.clock = clock
        self.beta = Peer(BETA, 0xB1)
        self.gamma = Peer(GAMMA, 0xC1)
        self.publish(self.beta, self.gamma)

    def publish(self, *peers: Peer) -> None:
        self.dns.publish("".join(peer.record for peer in peers))

    async def post(self, body: bytes, path: str = MESSAGING_PATH, **headers: str) -> Answer:
        return await self.node.call("POST", path, raw=body, headers=headers)

    async def send(self, peer: Peer, message: dict[str, Any], **options: Any) -> Answer:
        return await self.post(peer.signed(message, self.clock.now(), **options))

    async def ask(self, peer: Peer, kind: Kind, payload: object) -> Answer:
        return await self.post(sign_request(kind, payload, peer.keys, peer.domain), kind.path)

    def receipt(self, answer: Answer) -> str:
        """Id in a receipt that this node has signed."""
        assert answer.status == 202, answer
        opened = open_reply(MESSAGE, answer.body)
        assert opened.sender_domain == HERE
        assert verify_signature(self.node.core.keys.public_key, opened.signed, opened.signature)
        opened.require_covered()
        message = opened.payload["didCommMessage"]
        assert (message["type"], message["from"]) == ("", "")
        identifier: str = message["id"]
        return identifier

    async def filed(self) -> list[MessageFiled]:
        await self.node.settled()
        records = await self.node.core.log.read(0, types={"MessageFiled"})
        return [record.event for record in records if isinstance(record.event, MessageFiled)]

    async def documents(self, user: User) -> list[dict[str, Any]]:
        """What the user's clients see of their messages."""
        await self.node.settled()
        found = await self.node.core.views.stores["userdb"].documents_since(database(user), 0)
        return [json.loads(document.winner.body) for document in found]

    async def kept(self) -> int:
        """Messages for which the node has taken responsibility."""
        return len(await self.node.core.log.read(0, types={"MailAccepted"}))


@asynccontextmanager
async def receiver(folder: Path, **mtp: Any) -> AsyncIterator[Receiver]:
    clock = VirtualClock(START)
    async with dns_server() as dns, received(folder, dns, clock, **mtp) as found:
        yield found


@asynccontextmanager
async def received(folder: Path, dns: DnsServer, clock: VirtualClock, **mtp: Any) -> AsyncIterator[Receiver]:
    """A receiver on an existing folder, zone and clock: a restart is to enter this twice."""
    discovery = DiscoverySettings(resolvers=(dns.address,))
    settings = msgspec.structs.replace(api.settings_for(folder), discovery=discovery, mtp=MtpSettings(**mtp))
    async with api.running(settings, clock, whole=True) as node:
        yield Receiver(node, dns, clock)
