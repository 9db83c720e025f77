"""The one client for addresses that strangers chose: it goes to public hosts by https, and not further.

Where a name leads is looked up by our resolver inside the connection's own set-up, and only what was
found public there is connected to: between check and use there is no second lookup (DNS rebinding).
Nothing is followed, nothing is kept between requests, everything is counted while it streams.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from events.errors import Fault, MailioError
from events.log.log import Clock
from node.discovery.addresses import Address, is_public
from node.discovery.limits import DiscoverySettings, elsewhere
from node.discovery.resolver import Resolver
from node.discovery.targets import FetchRefused, Refusal, Target, target_of
from node.rate import Limiter, Rate

CHUNK: Final = 16_384
"""Bytes read, or inflated, at a time."""

CONNECT_SECONDS: Final = 5.0
"""How long one address of a host may take to accept the connection."""

KEEPALIVE_SECONDS: Final = 15.0
"""How long an idle connection is kept: about the time in which a host's addresses don't change."""

MAX_FIELD: Final = 8_190
"""Bytes of one header field, and aiohttp's own bound; it takes 128 fields."""


NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Lookup = Callable[[str], Awaitable[list[Address]]]
"""Addresses of a host name."""


class FetchFailed(MailioError):
    """The host could not be reached, or did not answer in time; it may do so later."""

    fault = Fault.RECIPIENT
    temporary = True
    smtp = "451 4.4.1"
    http = 503
    mtp = "4.4.1"


class Fetched(msgspec.Struct, frozen=True):
    """An answer: HTTP status, content type without parameters, body with its encoding undone.

    `retry_after` is the text of that header, which may be anything.
    """

    status: int
    content_type: str
    body: bytes
    retry_after: str = ""


class GuardedClient:
    """Sends requests. Must be closed."""

    def __init__(
        self,
        resolver: Resolver,
        settings: DiscoverySettings,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Use `tls` to check certificates; None: the system's authorities."""
        self._resolver = resolver
        self._settings = settings
        self._tls = tls
        self._refused = tuple(map(ipaddress.ip_network, settings.refused_networks))
        self._room = asyncio.Semaphore(settings.fetches)
        per_host = settings.fetches_per_host
        self._pace = Limiter(clock, Rate(float(per_host), per_host))
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._elsewhere = {name: (address, port) for name, address, port in map(elsewhere, settings.hosts)}

    async def get(self, url: str, limit: int) -> Fetched:
        """Fetch an address; the body has `limit` bytes at most. Raises what `send` raises."""
        return await self.send("GET", url, limit)

    async def send(
        self,
        method: str,
        url: str,
        limit: int,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Fetched:
        """Send a request and return the answer, whatever its status, unless it is a redirect.

        Raises FetchRefused; FetchFailed; TooManyRequests when the host has been asked too often.
        """
        target = target_of(url, self._settings)
        self._pace.take(target.host)
        if target.host in self._elsewhere:
            address, port = self._elsewhere[target.host]
            target = Target("http", address, port, target.path, local=True)
        try:
            async with asyncio.timeout(self._settings.fetch_seconds), self._room:
                return await self._sent(method, target, limit, body, dict(headers))
        except TimeoutError:
            raise FetchFailed("the other host did not answer in time", target.host) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed("the other host can't be reached", f"{target.host}: {error!r}") from None

    async def close(self) -> None:
        """Close idle connections."""
        for session in self._sessions.values():
            await session.close()

    async def _sent(
        self, method: str, target: Target, limit: int, body: bytes, headers: dict[str, str]
    ) -> Fetched:
        session = self._session(await self._is_local(target))
        async with session.request(
            method, target.url, data=body or None, headers=headers, allow_redirects=False
        ) as response:
            try:
                return await _read(response, limit)
            except MailioError:
                response.close()
                raise

    async def _is_local(self, target: Target) -> bool:
        """Whether the request goes to this machine; never without `discovery.loopback`."""
        if target.local or not self._settings.loopback:
            return target.local
        addresses = await self._addresses(target.host)
        return bool(addresses) and all(address.is_loopback for address in addresses)

    def _session(self, local: bool) -> aiohttp.ClientSession:
        """Return the session for public hosts, or the one that reaches nothing but this machine."""
        if local not in self._sessions:
            connector = aiohttp.TCPConnector(
                resolver=_Vetted(self._addresses, self._is_own if local else self._is_public),
                use_dns_cache=False,
                limit=self._settings.fetches,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ssl=self._tls or True,
            )
            self._sessions[local] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "mailio-node"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                read_bufsize=CHUNK,
                max_line_size=MAX_FIELD,
                max_field_size=MAX_FIELD,
            )
        return self._sessions[local]

    async def _addresses(self, host: str) -> list[Address]:
        if host == "localhost" and self._settings.loopback:
            return [ipaddress.ip_address("127.0.0.1")]
        v4, v6 = await asyncio.gather(self._resolver.look_up(host, "A"), self._resolver.look_up(host, "AAAA"))
        if not v4.values and not v6.values:
            v4.require()
            v6.require()
        return [ipaddress.ip_address(text) for text in (*v4.values, *v6.values)]

    def _is_public(self, address: Address) -> bool:
        return is_public(address, self._refused)

    def _is_own(self, address: Address) -> bool:
        return address.is_loopback


class _Vetted(AbstractResolver):
    """Gives aiohttp the addresses that it may connect to, and no others."""

    def __init__(self, addresses: Lookup, allowed: Callable[[Address], bool]) -> None:
        self._addresses = addresses
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up and keep what is allowed. Raises FetchRefused, DnsUnavailable."""
        found = await self._addresses(host)
        return [_resolved(host, port, address) for address in self._kept(host, found)]

    def _kept(self, host: str, found: list[Address]) -> list[Address]:
        kept = [address for address in found if self._allowed(address)]
        if not kept:
            raise FetchRefused(Refusal.PRIVATE, f"{host} has {', '.join(map(str, found)) or 'no address'}")
        return kept

    async def close(self) -> None:
        """Do nothing: the resolver is somebody else's."""


def _resolved(host: str, port: int, address: Address) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
        proto=0,
        flags=socket.AI_NUMERICHOST,
    )


async def _read(response: aiohttp.ClientResponse, limit: int) -> Fetched:
    """Read an answer to its end, or to its limit. Raises FetchRefused."""
    if 300 <= response.status < 400:
        raise FetchRefused(Refusal.REDIRECT, str(response.status))
    if (response.content_length or 0) > limit:
        raise FetchRefused(Refusal.TOO_LARGE, f"{response.content_length} bytes announced")
    body = _Body(response.headers.get("Content-Encoding", "identity").strip().lower(), limit)
    async for chunk in response.content.iter_chunked(CHUNK):
        body.add(chunk)
    after = response.headers.get("Retry-After", "")
    return Fetched(response.status, response.content_type, body.whole(), after)


class _Body:
    """Collects a body and undoes gzip, which some proxies add unasked; both sides are bounded."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in {"", "identity", "gzip"}:
            raise FetchRefused(Refusal.ENCODING, encoding[:100])
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
        self._limit = limit
        self._came = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises FetchRefused when the body outgrows its limit."""
        self._came += len(chunk)
        if self._inflater is None:
            self._data += chunk
        else:
            try:
                self._data += self._inflater.decompress(chunk, self._limit + 1 - len(self._data))
            except zlib.error as error:
                raise FetchRefused(Refusal.ENCODING, str(error)) from None
        if len(self._data) > self._limit or self._came > self._limit:
            raise FetchRefused(Refusal.TOO_LARGE, f"more than {self._limit} bytes")

    def whole(self) -> bytes:
        """Return the body. Raises FetchRefused when the compressed form ends too early."""
        if self._inflater is not None and not self._inflater.eof:
            raise FetchRefused(Refusal.ENCODING, "gzip that does not end")
        return bytes(self._data)
