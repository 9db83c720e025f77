"""Which addresses of the internet a request on a stranger's behalf may go to: the public ones, no others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose registries (RFC 6890), as a list of our own: what Python's `is_global` takes for
# public differs between its versions, and says nothing against multicast or an IPv4 address inside.
_CLOSED: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
            "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
            "224.0.0.0/4", "240.0.0.0/4",
            # Teredo, benchmarks, ORCHID, documentation, 6to4: all inside 2000::/3.
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        ),
    )
)  # fmt: skip

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is routed between networks. NAT64 (64:ff9b::/96), IPv4-mapped and
IPv4-compatible addresses are outside, each of which would hide an IPv4 address."""


def is_public(address: Address, refused: Iterable[Network] = ()) -> bool:
    """Whether the address is a public unicast one and in none of the `refused` networks."""
    if address.version == 6 and (address not in _GLOBAL_UNICAST or address.scope_id is not None):
        return False
    closed = (*_CLOSED, *refused)
    return address.is_global and not any(address in network for network in closed)
