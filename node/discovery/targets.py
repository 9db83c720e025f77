"""Addresses that strangers chose, read by one strict grammar before anything is looked up.

Whatever another reader could take for a different host is refused: the reader here is the only one.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Final

import msgspec
from yarl import URL

from events.errors import Fault, InvalidInput, MailioError
from events.identity import normalise_domain
from node.discovery.limits import DiscoverySettings

MAX_URL: Final = 2_048
"""Characters of an address that is fetched; DID documents and endpoints need a tenth."""

_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.IGNORECASE
)
_PLAIN = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.IGNORECASE)
"""The characters of RFC 3986: no blanks, controls, backslashes, quotes, angle brackets, no Unicode."""

_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
# WHATWG URL, "ends in a number": such a host is an IPv4 address in some form, decimal, octal or hex.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Refusal(StrEnum):
    """Why the node does not go there, in words for the log."""

    MALFORMED = "not a plain URL"
    SCHEME = "not https"
    USERINFO = "a user or password before the host"
    LITERAL = "an address in the place of a name"
    HOST = "not a public host name"
    PORT = "a port that discovery.ports does not allow"
    PRIVATE = "no public address"
    REDIRECT = "the answer leads elsewhere"
    TOO_LARGE = "the answer is too large"
    ENCODING = "an encoding that was not asked for"


class FetchRefused(MailioError):
    """The node does not go to this address, or does not take what it answers.

    The public text is the same for every reason: who chose the address learns nothing about networks.
    """

    fault = Fault.CLIENT
    smtp = "550 5.4.4"
    http = 400
    mtp = "5.4.4"

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__("the address can't be fetched", f"{refusal}: {detail}" if detail else refusal)
        self.refusal = refusal


class Target(msgspec.Struct, frozen=True):
    """Where a request goes. `local`: only this machine may be meant, which `discovery.loopback` allows."""

    scheme: str
    host: str
    port: int
    path: str
    local: bool = False

    @property
    def url(self) -> URL:
        """The address again, made of the parts that were checked."""
        path, _, query = self.path.partition("?")
        return URL.build(
            scheme=self.scheme, host=self.host, port=self.port, path=path, query_string=query, encoded=True
        )


def target_of(text: str, settings: DiscoverySettings) -> Target:
    """Read an address. Raises FetchRefused."""
    found = _URL.fullmatch(text) if len(text) <= MAX_URL and _PLAIN.fullmatch(text) else None
    if found is None:
        raise FetchRefused(Refusal.MALFORMED, text[:200])
    scheme, authority = found["scheme"].lower(), found["authority"]
    if scheme != "https" and not (scheme == "http" and settings.loopback):
        raise FetchRefused(Refusal.SCHEME, scheme)
    if "@" in authority:
        raise FetchRefused(Refusal.USERINFO)
    host, port = _host_and_port(authority, 443 if scheme == "https" else 80)
    here = settings.loopback and _is_here(host)
    checked = host.strip("[]") if here else _public_host(host)
    unusual = port not in settings.ports or scheme != "https"
    if unusual and not settings.loopback:
        raise FetchRefused(Refusal.PORT, str(port))
    path = (found["path"] or "/") + (found["query"] or "")
    return Target(scheme, checked, port, path, local=here or unusual)


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return authority.lower(), default
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65_536:
        raise FetchRefused(Refusal.PORT, port)
    return host.lower(), int(port)


def _public_host(host: str) -> str:
    if host.startswith("[") or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise FetchRefused(Refusal.LITERAL, host)
    try:
        name = normalise_domain(host)
    except InvalidInput:
        raise FetchRefused(Refusal.HOST, host) from None
    if "." not in name or name.endswith(".localhost"):
        raise FetchRefused(Refusal.HOST, host)
    return name


def _is_here(host: str) -> bool:
    """Whether the host is this machine, written in the one usual way."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
