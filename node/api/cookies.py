"""The cookie that carries a client token (wire spec section 1.11)."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

from node.crypto.tokens import COOKIE

LIFETIME_SECONDS: Final = 2_505_600
"""29 days: a day less than the token, so that no browser sends one that has just expired."""

_LOCAL = ("localhost", "127.0.0.1")


class TokenCookie:
    """Makes `Set-Cookie` headers for one server domain."""

    def __init__(self, server_domain: str) -> None:
        local = any(host in server_domain for host in _LOCAL)
        self._domain = "localhost" if local else server_domain
        self._secure = "" if local else "; Secure"

    def log_in(self, token: str, now: int) -> Mapping[str, str]:
        """Set the cookie at `now` (ms)."""
        return self._header(token, now // 1000 + LIFETIME_SECONDS, LIFETIME_SECONDS)

    def log_out(self) -> Mapping[str, str]:
        """Set it empty, with a date that has passed."""
        return self._header("", 0, 0)

    def _header(self, value: str, expires: int, max_age: int) -> Mapping[str, str]:
        return {
            "Set-Cookie": f"{COOKIE}={value}; Path=/; Domain={self._domain}; "
            f"Expires={formatdate(expires, usegmt=True)}; Max-Age={max_age}; HttpOnly{self._secure}; "
            "SameSite=Lax"
        }
