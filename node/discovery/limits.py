"""How other domains are looked up; each bound is a setting with its reason."""

from __future__ import annotations

import ipaddress

import msgspec

CUSTOMARY_PREFIXES = ("mio", "mailio", "didcomm")
"""Names below a domain that other nodes ask (wire spec section 0.4, item 4)."""


class DiscoverySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Looking up other domains: DNS, DID documents, requests to hosts that strangers chose."""

    resolvers: tuple[str, ...] = ()
    """DNS resolvers, tried in order: 127.0.0.1, 127.0.0.1:5353 or [::1]:5353; empty: those of
    /etc/resolv.conf. One that validates DNSSEC, on this machine, is best."""
    prefixes: tuple[str, ...] = CUSTOMARY_PREFIXES
    """Names below a domain that are asked for a Mailio record after the domain itself (wire spec 2.2)."""
    lookup_seconds: float = 5.0
    """How long one DNS lookup may take, all tries together (wire spec section 2.2)."""
    attempt_seconds: float = 2.0
    """How long one try at one resolver may take before the next."""
    lookups: int = 128
    """DNS lookups at once; each holds a file descriptor. One that finds no room in `lookup_seconds` is
    refused: slow name servers of strangers must not hold up everybody for long."""
    names: int = 10_000
    """DNS answers remembered; the least used go first. About 1 KB each, 8 KB at the most."""
    least_seconds: int = 5
    """An answer is used at least this long, also with TTL 0: no zone makes the node ask for each message."""
    most_seconds: int = 86_400
    """An answer is used at most this long, whatever its TTL."""
    absent_seconds: int = 3_600
    """The same bound for "no such name" and "no such record" (RFC 2308 section 5: one to three hours)."""
    failure_seconds: int = 30
    """A failed lookup is not tried again for this long (RFC 9520 section 3.2: 5 minutes at the most)."""
    stale_seconds: int = 3_600
    """While lookups fail, the last good answer is used for this long after its end (RFC 8767). 0: never."""
    force_seconds: int = 60
    """A forced lookup (wire spec section 2.4) takes an answer that is younger than this as it is."""
    fetch_seconds: float = 10.0
    """How long one request to another host may take, name lookup and body included."""
    fetches: int = 32
    """Requests to other hosts at once."""
    fetches_per_host: int = 10
    """Requests to one host in a second: what a reference server allows a peer (wire spec section 3.8)."""
    ports: tuple[int, ...] = (443,)
    """Ports that such requests may use."""
    refused_networks: tuple[str, ...] = ()
    """Networks that such requests may not reach although they are public, for example 198.51.100.0/24."""
    document_bytes: int = 32_768
    """Largest DID document that is read; a usual one has 1.5 KB."""
    documents: int = 1_000
    """DID documents remembered; the least used go first."""
    document_seconds: int = 900
    """How long a DID document is used: not the week of the reference server (wire spec section 10.3, S19)."""
    loopback: bool = False
    """For development only: such requests may go to this machine, then also by http and to any port."""
    hosts: tuple[str, ...] = ()
    """For development only, with `loopback`: hosts that are elsewhere than DNS says, by http, for example
    mio.beta.example=127.0.0.1:8026. Several nodes on one machine find each other so."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings that nothing could be looked up with."""
        for name in ("lookup_seconds", "attempt_seconds", "lookups", "names", "fetch_seconds", "fetches",
                     "fetches_per_host", "document_bytes", "documents"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        for network in self.refused_networks:
            ipaddress.ip_network(network)
        for resolver in self.resolvers:
            resolver_address(resolver)
        if self.hosts and not self.loopback:
            raise ValueError("hosts needs loopback: it is for development only")
        for host in self.hosts:
            elsewhere(host)


def elsewhere(text: str) -> tuple[str, str, int]:
    """Split `name=address:port` of `hosts` into name, loopback address and port. Raises ValueError."""
    name, _, place = text.partition("=")
    address, port = resolver_address(place) if name and ":" in place else ("", 0)
    if not port or not ipaddress.ip_address(address).is_loopback:
        raise ValueError(f"hosts: {text!r} is no loopback place, for example beta.example=127.0.0.1:8026")
    return name, address, port


def resolver_address(text: str) -> tuple[str, int]:
    """Split `address`, `address:port` or `[v6]:port` into address and port. Raises ValueError."""
    bare = text.removeprefix("[").removesuffix("]")
    if (text.count(":") != 1 and not text.startswith("[")) or text.endswith("]"):
        host, port = bare, "53"
    else:
        host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(
            f"resolvers: {text!r} is no address, for example 127.0.0.1 or 127.0.0.1:5353"
        ) from None
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"resolvers: {text!r} has no port between 1 and 65535")
    return str(address), int(port)
