"""Everything that finds other domains, on one resolver and one memory."""

from __future__ import annotations

import ssl

from events.log.log import Clock
from node.discovery.did_web import WebDids
from node.discovery.domains import Domains
from node.discovery.fetch import GuardedClient
from node.discovery.limits import DiscoverySettings
from node.discovery.resolver import Resolver


class Discovery:
    """The resolver, the domains, the guarded client, the DIDs. Nothing is opened before it is used."""

    def __init__(self, settings: DiscoverySettings, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.resolver = Resolver(settings, clock)
        self.domains = Domains(self.resolver, settings.prefixes)
        self._clock = clock
        self.client = self.client_with(settings)
        self.dids = WebDids(self.client, settings, clock)

    def client_with(self, settings: DiscoverySettings) -> GuardedClient:
        """Make another client, with bounds of its own; whoever gets it closes it."""
        return GuardedClient(self.resolver, settings, self._clock, self.tls)

    async def close(self) -> None:
        """Stop what is under way and close connections."""
        await self.dids.close()
        await self.client.close()
        await self.resolver.close()
