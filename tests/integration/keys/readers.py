"""Peers as they read keys: one as the reference server is, one as this node is; and DNS with its memories."""

from __future__ import annotations

from events.errors import MailioError
from events.log.clock import VirtualClock
from node.crypto.base64_text import from_base64
from node.crypto.keys import SigningKeys, verify_signature
from node.discovery.discovery import Discovery
from node.discovery.limits import DiscoverySettings
from node.discovery.peer_keys import DnsPeerKeys
from node.discovery.resolver import Resolver
from tests.fakes.memory_log import MemoryLog
from tests.servers.dns import DnsServer

SERVER = "mio.alpha.example"
DAY_MS = 86_400_000
WORDS = b"what a peer signs"


def settings_for(server: DnsServer) -> DiscoverySettings:
    """Ask the server of the test."""
    return DiscoverySettings(resolvers=(server.address,), lookup_seconds=2.0)


class OneKeyReader:
    """The reference server: one key, for a day; a wrong signature of a request makes it look once more.

    Wire spec sections 2.1 to 2.4, 3.2, 3.3.4. It asks through a resolver that remembers as long as TTLs say.
    """

    def __init__(self, resolver: Resolver, clock: VirtualClock) -> None:
        self._resolver = resolver
        self._clock = clock
        self._key = b""
        self._asked_at = -DAY_MS

    async def _look(self) -> None:
        answer = await self._resolver.look_up(f"mailio._mailiokey.{SERVER}", "TXT")
        text = next(text for text in answer.values if "v=MAILIO1" in text)
        third = text.split(";")[2].strip()
        self._key, self._asked_at = from_base64(third.removeprefix("p="), length=32), self._clock.now()

    async def _current(self) -> bytes:
        if self._clock.now() - self._asked_at >= DAY_MS:
            await self._look()
        return self._key

    async def takes(self, keys: SigningKeys) -> bool:
        """Whether it takes a request that these keys sign."""
        signature = keys.sign(WORDS)
        if verify_signature(await self._current(), WORDS, signature):
            return True
        await self._look()
        return verify_signature(self._key, WORDS, signature)

    async def believes(self, keys: SigningKeys) -> bool:
        """Whether it believes a reply: there is no second look."""
        return verify_signature(await self._current(), WORDS, keys.sign(WORDS))


class ManyKeysReader:
    """A node like this one, with a log of its own."""

    def __init__(self, server: DnsServer, clock: VirtualClock) -> None:
        self.log = MemoryLog(clock)
        self._discovery = Discovery(settings_for(server), clock)
        self.keys = DnsPeerKeys(self._discovery.domains, self.log, clock)

    async def takes(self, keys: SigningKeys) -> bool:
        """Whether it takes a request, without looking at DNS again because of it."""
        try:
            return keys.public_key in await self.keys.of(SERVER)
        except MailioError:
            return False

    async def close(self) -> None:
        await self.keys.close()
        await self._discovery.close()
