"""Who asks: a client token, or for the sync door also address and database password.

Wire spec sections 1.11 (tokens) and 6.3 (`<address>:<databasePassword>` as HTTP Basic).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from aiohttp import web

from events.errors import Unauthenticated
from events.identity import is_address
from node.accounts import Accounts
from node.api.clients import Clients
from node.api.rate import Cost, Limits
from node.crypto.tokens import COOKIE, Claims, presented_token
from node.rate import TooManyRequests
from node.sync.ports import Identity
from node.sync.refusal import Refusal
from projections.directory import AccountEntry

MAX_BASIC: Final = 8_192
"""Characters of an Authorization header with a password: an address and 1,000 characters need 1,500."""


class TokenRefused(Unauthenticated):
    """A client token that does not hold; answered in the shape of wire spec section 1.11."""

    @property
    def status(self) -> int:
        """HTTP status: 400 for a token that can't be read, 401 for one that does not hold."""
        return 400 if self.public.startswith("Failed to parse") else 401


class PasswordRequired(Unauthenticated):
    """Something of the operator's that a browser or Prometheus may ask for with HTTP Basic."""


class Authentication:
    """Tells who asks. Failures count against the client's address."""

    def __init__(self, accounts: Accounts, limits: Limits, clients: Clients) -> None:
        self._accounts = accounts
        self._limits = limits
        self._clients = clients

    async def token(self, request: web.Request) -> Claims:
        """Return the claims of the request's token, from the header or the cookie.

        Raises TokenRefused; TooManyRequests once a client has failed too often.
        """
        try:
            token = presented_token(request.headers.get("Authorization"), request.cookies.get(COOKIE))
            return await self._accounts.authenticate_token(token)
        except Unauthenticated as error:
            self._limits.by_client[Cost.ORDINARY].take(self._clients.key(request))
            raise TokenRefused(error.public, error.private) from None

    async def identity(self, request: web.Request) -> Identity:
        """Say who speaks to the sync door. Raises Unauthenticated, Busy, and a Refusal (429)."""
        try:
            scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "basic":
                return await self._password(rest, self._clients.key(request))
            return await self.token(request)
        except TooManyRequests as error:
            raise Refusal(error.http, "too_many_requests", error.public) from None

    async def _password(self, encoded: str, client: str) -> AccountEntry:
        """Check a password, unless the client has guessed too often: the answer costs scrypt."""
        address, password = _credentials(encoded)
        ordinary, failures = self._limits.by_client[Cost.ORDINARY], self._limits.failures
        attempt = f"{client} {address}"
        ordinary.check(client)
        failures.check(attempt)
        try:
            return await self._accounts.authenticate_password(address, password)
        except Unauthenticated:
            ordinary.take(client)
            failures.take(attempt)
            raise


def basic_password(request: web.Request) -> str:
    """Return the password that a request shows, whatever the name; "" when it shows none."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    try:
        return _pair(rest)[1] if scheme.lower() == "basic" else ""
    except Unauthenticated:
        return ""


def _credentials(encoded: str) -> tuple[str, str]:
    """Return address and password. Raises Unauthenticated."""
    name, password = _pair(encoded)
    if not is_address(name):
        raise Unauthenticated("Name or password is incorrect.", "the name is no address")
    return name.lower(), password


def _pair(encoded: str) -> tuple[str, str]:
    """Split the parameter of HTTP Basic (RFC 7617, UTF-8). Raises Unauthenticated."""
    try:
        text = base64.b64decode(encoded.strip()[:MAX_BASIC], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("Name or password is incorrect.", "not base64 of UTF-8") from None
    name, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("Name or password is incorrect.", "no colon")
    return name, password
