"""A DNS server of the test's own, and discovery that asks it, by a clock that the test rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.log.clock import VirtualClock
from node.discovery.discovery import Discovery
from node.discovery.limits import DiscoverySettings
from tests.servers.dns import DnsServer, dns_server


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as running:
        yield running


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def settings_for(server: DnsServer, **members: Any) -> DiscoverySettings:
    usual: dict[str, Any] = {"resolvers": (server.address,), "lookup_seconds": 2.0}
    return DiscoverySettings(**usual | members)


@pytest.fixture
async def discovery(server: DnsServer, clock: VirtualClock) -> AsyncIterator[Discovery]:
    made = Discovery(settings_for(server), clock)
    yield made
    await made.close()
