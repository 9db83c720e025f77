"""Asking a CouchDB-protocol server: JSON requests with time limits, retries and clear errors."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from events.errors import InvalidInput, LimitExceeded, MailioError, Misconfigured, StorageUnavailable

RETRY_DELAYS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further attempt: about nine in all, which a restart of the server takes."""

REQUEST_SECONDS: Final = 60.0
"""Time for one attempt, the upload of a large mail included."""

CONNECT_SECONDS: Final = 5.0
"""Time to reach the server."""

CONNECTIONS: Final = 16
"""Connections of one store to its server."""


class Answer(NamedTuple):
    """What the server said: an HTTP status and the decoded JSON."""

    status: int
    body: Any


class CouchClient:
    """Requests to one server. `url` may hold user and password."""

    def __init__(
        self, url: str, delays: Sequence[float] = RETRY_DELAYS, timeout: float = REQUEST_SECONDS
    ) -> None:
        """Must be called on the event loop. Raises Misconfigured unless `url` is an http(s) URL."""
        try:
            parsed = URL(url)
        except ValueError as error:
            raise Misconfigured("the CouchDB address is not a URL", str(error)) from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise Misconfigured("the CouchDB address must look like http://user:password@host:5984")
        self._delays = tuple(delays)
        self._base = parsed.with_user(None)
        """Without credentials, hence fit for messages."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout, connect=CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            headers=_headers(parsed),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expected: Sequence[int] = (),
    ) -> Answer:
        """Send a request until it is answered; only use it for what may be repeated.

        `path` and `query` are unquoted. Statuses below 300 and the
        `expected` ones are returned. Raises StorageUnavailable when no attempt got through,
        Misconfigured for refused credentials, LimitExceeded or InvalidInput for a refused request.
        """
        url = self._url(path, query or {})
        for delay in itertools.chain(self._delays, (None,)):
            try:
                answer = await self._once(method, url, body)
                if answer.status < 300 or answer.status in expected:
                    return answer
                failure = _failure(answer, f"{method} {url.path}")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = StorageUnavailable("CouchDB can't be reached", f"{self._base}: {error!r}")
            if delay is None or not failure.temporary:
                raise failure
            await asyncio.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    def _url(self, path: Sequence[str], query: Mapping[str, str]) -> URL:
        segments = "/".join(quote(part, safe="") for part in path)
        values = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        base = str(self._base).rstrip("/")
        return URL(f"{base}/{segments}{'?' if values else ''}{values}", encoded=True)

    async def _once(self, method: str, url: URL, body: bytes | None) -> Answer:
        async with self._session.request(method, url, data=body, allow_redirects=False) as response:
            content = await response.read()
        try:
            return Answer(response.status, msgspec.json.decode(content))
        except msgspec.DecodeError:
            if response.status < 300:
                raise Misconfigured(
                    "the CouchDB address answers with something else than JSON", str(url)
                ) from None
            return Answer(response.status, {"reason": content[:200].decode(errors="replace")})


def _headers(url: URL) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if url.user:
        headers["Authorization"] = aiohttp.encode_basic_auth(url.user, url.password or "")
    return headers


def _failure(answer: Answer, request: str) -> MailioError:
    """The error that a refusing status means."""
    told = answer.body if isinstance(answer.body, dict) else {}
    reason = f"{request}: {answer.status} {told.get('error', '')} {told.get('reason', '')}"
    match answer.status:
        case 401 | 403:
            return Misconfigured("CouchDB refuses the user or its rights: check the CouchDB address", reason)
        case 408 | 429 | 500 | 502 | 503 | 504:
            return StorageUnavailable("CouchDB can't take the request now", reason)
        case 413:
            return LimitExceeded("CouchDB refuses a document of this size", reason)
        case _:
            return InvalidInput("CouchDB refuses the request", reason)
