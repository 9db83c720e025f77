"""Where a request comes from: the socket's address, or what trusted proxies say about it.

X-Forwarded-For is read from the right: each entry counts only when a trusted proxy wrote it. Whatever
a client put there itself stands further left and is never reached (RFC 7239 section 8.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from aiohttp import web

from events.errors import Misconfigured

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""Key of requests without an address (UNIX sockets)."""

V6_PREFIX: Final = 64
"""Bits of an IPv6 address that name one site: the rest is the client's to choose (RFC 6177)."""

MAX_HOPS: Final = 20
"""Entries of X-Forwarded-For that are looked at; more proxies in a row are a mistake or an attack."""

KEPT: Final = 4_096
"""Addresses that are remembered with their keys, some 2 MB: each request of a connection asks two or three
times, and reading one took 5 us."""

MAX_LENGTH: Final = 100
"""Characters of an address in any form, brackets and a zone included; what is longer is none."""


class Clients:
    """Names the clients of the HTTP door."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        """Trust these addresses and networks. Raises Misconfigured."""
        self._trusted = [_network(text) for text in trusted_proxies]

    def key(self, request: web.Request) -> str:
        """Name the client for rates: an IPv4 address or an IPv6 /64."""
        return _key(self._address(request))

    def is_secure(self, request: web.Request) -> bool:
        """Whether the client itself came by TLS, as far as the node or a trusted proxy knows."""
        peer = _parsed(request.remote or "")
        said = request.headers.getall("X-Forwarded-Proto", [""])[-1].rpartition(",")[2].strip()
        trusted = peer is not None and self._is_trusted(peer)
        return request.secure or (trusted and said.lower() == "https")

    def _address(self, request: web.Request) -> Address | None:
        address = _parsed(request.remote or "")
        if address is None or not self._is_trusted(address):
            return address
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for text in forwarded[: -MAX_HOPS - 1 : -1]:
            before = _parsed(text.strip())
            if before is None:
                break
            address = before
            if not self._is_trusted(address):
                break
        return address

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> Address | None:
    """Read an address, with or without brackets; an IPv4 address in IPv6 clothes is an IPv4 address."""
    return _read(text) if len(text) <= MAX_LENGTH else None


@lru_cache(KEPT)
def _read(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(KEPT)
def _key(address: Address | None) -> str:
    if address is None:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))
    return str(address)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise Misconfigured(f"http.trusted_proxies: {text}: {error}") from None
