"""`did:web` of servers and users: their documents, fetched from their hosts, checked and remembered."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from events.errors import Busy, InvalidInput, MailioError, NotFound
from events.identity import Did
from events.log.log import Clock
from node.discovery.documents import Doubt, InvalidDocument, checked_document
from node.discovery.domains import checked_domain
from node.discovery.fetch import Fetched, GuardedClient
from node.discovery.limits import DiscoverySettings
from node.discovery.remembered import Remembered
from node.rate import TooManyRequests

Document = dict[str, Any]

GONE: Final = frozenset({404, 410})
"""Statuses that say that there is no such DID (wire spec section 1.4)."""


DEVELOPMENT_HOSTS: Final = frozenset({"localhost", "127.0.0.1"})
"""Hosts that are asked by http, and may have a port, where `discovery.loopback` is set."""


class RemoteFailure(MailioError):
    """The other host answered with an error that says nothing about the DID."""

    temporary = True
    smtp = "451 4.4.0"
    http = 503
    mtp = "4.4.0"


class _Known(msgspec.Struct, frozen=True):
    """A document, or the error that stands for it, from one time (ms) until another."""

    outcome: Document | MailioError
    since: int
    until: int


class WebDids:
    """Resolves DIDs of other hosts; the node's own users are in its directory."""

    def __init__(self, client: GuardedClient, settings: DiscoverySettings, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._known: Remembered[_Known] = Remembered(settings.documents)

    async def resolve(self, did: Did) -> Document:
        """Return the document of `did:web:<host>`, `…#<address>` (a user) or `…:<address>` (a server).

        Raises InvalidInput for other DIDs, NotFound, InvalidDocument, FetchRefused, and temporary errors.
        """
        host, address = self._host(did), did.address
        bare = did.value.lower() == host
        if bare and did.fragment and address:
            return await self.user(host, address)
        if did.fragment or not (bare or address):
            raise InvalidInput("invalid DID", "neither a server nor a user")
        document = await self.server(host)
        if address and document["id"] != f"did:mailio:{address}":
            raise InvalidDocument(Doubt.OTHER_ID, f"asked for {address}, got {document['id']}")
        return document

    async def user(self, host: str, address: str) -> Document:
        """Return a user's document; it is about this address for certain. Raises as `resolve` does."""
        return await self._document(f"{self._origin(host)}/{address}/did.json", address)

    async def server(self, host: str) -> Document:
        """Return a server's own document. Raises as `resolve` does."""
        return await self._document(f"{self._origin(host)}/.well-known/did.json", "")

    async def close(self) -> None:
        """Stop running requests."""
        await self._known.close()

    def _host(self, did: Did) -> str:
        """Return the host; a port can't federate (wire spec section 2.5), but may be tried out at home."""
        if did.method != "web":
            raise InvalidInput("invalid DID", "not did:web")
        return did.host if self._is_here(did.host) else checked_domain(did.host)

    def _is_here(self, host: str) -> bool:
        """Whether it is a development host (wire spec section 10.1, Q19), and such are allowed."""
        return self._settings.loopback and host.partition(":")[0] in DEVELOPMENT_HOSTS

    def _origin(self, host: str) -> str:
        return f"{'http' if self._is_here(host) else 'https'}://{host}"

    async def _document(self, url: str, address: str) -> Document:
        known = self._known.get(url)
        if known is None or not known.since <= self._clock.now() < known.until:
            known = await self._known.ask(url, lambda: self._asked(url, address))
        if isinstance(known.outcome, MailioError):
            raise known.outcome.with_traceback(None)
        return known.outcome

    async def _asked(self, url: str, address: str) -> _Known:
        outcome: Document | MailioError
        try:
            outcome, seconds = await self._fetched(url, address), self._settings.document_seconds
        except (TooManyRequests, Busy):
            raise  # That is about us, not about the DID.
        except MailioError as error:
            outcome, seconds = error, self._settings.failure_seconds
        now = self._clock.now()
        return _Known(outcome, now, now + seconds * 1_000)

    async def _fetched(self, url: str, address: str) -> Document:
        answer = await self._client.get(url, self._settings.document_bytes)
        _require_success(answer)
        if "json" not in answer.content_type:
            raise InvalidDocument(Doubt.SHAPE, f"content type {answer.content_type}")
        return checked_document(answer.body, address)


def _require_success(answer: Fetched) -> None:
    if answer.status in GONE:
        raise NotFound("did not found")
    if answer.status != 200:
        raise RemoteFailure("received error from remote server", f"status {answer.status}")
