"""The records that a node's own domains must publish, and how they differ from what is published.

Wire spec section 0.4, items 2 to 4. Text and answers only: `survey` asks, everything else is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from events.errors import Misconfigured
from events.identity import normalise_domain
from events.log.clock import SystemClock
from node.crypto.keys import load_server_keys
from node.discovery.answers import Answer, Kind, Outcome
from node.discovery.domains import NULL_MX
from node.discovery.limits import CUSTOMARY_PREFIXES
from node.discovery.record import VERSION_TAG, record_name, record_text
from node.discovery.resolver import Resolver
from node.settings import Settings

TTL: Final = 3_600
"""Seconds that peers may keep a record: an hour is how long a change takes to reach everybody."""

MX_PREFERENCE: Final = 10


class OwnNames(msgspec.Struct, frozen=True):
    """What the records are made of: the names of wire spec section 0.2, the SMTP host, the public keys.

    `second` is the other live key while keys change.
    """

    server_domain: str
    email_domains: tuple[str, ...]
    mail_host: str
    public_key: bytes
    second: bytes | None = None


def own_names(settings: Settings) -> OwnNames:
    """Read the names from the settings and the key from its file. Raises Misconfigured, InvalidInput."""
    if settings.node.server_domain == "localhost":
        raise Misconfigured("this is a development node: set node.server_domain and node.email_domains first")
    path = settings.node.data / "keys" / "server.json"
    if not path.exists():
        raise Misconfigured(f"{path} is missing: the first `mailio-node run` makes the node's key")
    first, second = load_server_keys(path).published
    return OwnNames(
        server_domain=normalise_domain(settings.node.server_domain),
        email_domains=tuple(map(normalise_domain, settings.node.email_domains)),
        mail_host=normalise_domain(settings.smtp.hostname or settings.node.server_domain),
        public_key=first,
        second=second,
    )


class Wanted(msgspec.Struct, frozen=True):
    """One record set that should be published. No value: any will do (addresses), or none may be there."""

    name: str
    kind: Kind
    value: str
    why: str
    forbidden: bool = False


class State(StrEnum):
    """How what is published compares with what is wanted."""

    FINE = "fine"
    MISSING = "missing"
    DIFFERENT = "different"
    EXTRA = "extra"
    UNKNOWN = "unknown"


class Difference(msgspec.Struct, frozen=True):
    """One record set compared: what is there now, and what to do."""

    wanted: Wanted
    state: State
    published: tuple[str, ...]
    advice: str = ""
    ttl: int = 0

    @property
    def wrong(self) -> bool:
        """Whether something has to be done."""
        return self.state is not State.FINE


def wanted_records(own: OwnNames) -> list[Wanted]:
    """List what has to be published, and what must not be, in the order in which it is printed."""
    wanted = [
        Wanted(own.server_domain, "A", "", "where the API and the DID documents are served, on port 443"),
        _key(own, own.server_domain),
        _server_mail(own),
    ]
    if own.mail_host != own.server_domain:
        wanted.append(Wanted(own.mail_host, "A", "", "where mail for the email domains is taken"))
    for domain in own.email_domains:
        wanted += _of_email_domain(own, domain)
    return wanted


def _key(own: OwnNames, server: str) -> Wanted:
    text = record_text(own.public_key, own.second)
    return Wanted(record_name(server), "TXT", text, "the node's key, by which peers find and check it")


def _server_mail(own: OwnNames) -> Wanted:
    """A reference server asks for any MX of the server's own name before it believes the key."""
    if own.server_domain in own.email_domains:
        return Wanted(own.server_domain, "MX", _mx(own), "where mail for the domain goes")
    return Wanted(own.server_domain, "MX", NULL_MX, "takes no mail, but some peers ask for an MX first")


def _mx(own: OwnNames) -> str:
    return f"{MX_PREFERENCE} {own.mail_host}"


def _of_email_domain(own: OwnNames, domain: str) -> Iterator[Wanted]:
    """Peers ask the domain, then its prefixes in order, and take the first name that has a key."""
    if domain == own.server_domain:
        return
    yield Wanted(domain, "MX", _mx(own), "where mail for the domain goes")
    why = "a key here would make peers call the API at this name, where it is not served"
    for server in (domain, *(f"{prefix}.{domain}" for prefix in CUSTOMARY_PREFIXES)):
        if server == own.server_domain:
            return
        if server != domain and not _is_below(own, domain):
            yield Wanted(server, "A", "", f"leads peers to {own.server_domain}; its certificate must name it")
            yield _key(own, server)
            return
        yield Wanted(record_name(server), "TXT", "", why, forbidden=True)


def _is_below(own: OwnNames, domain: str) -> bool:
    """Whether peers who ask for the domain come to the server's own name."""
    return own.server_domain in {f"{prefix}.{domain}" for prefix in CUSTOMARY_PREFIXES}


async def survey(own: OwnNames, resolver: Resolver) -> list[Difference]:
    """Compare every wanted record with what is published now."""
    return list(await asyncio.gather(*(_compared(one, resolver) for one in wanted_records(own))))


async def survey_once(settings: Settings, seconds: float = 0.0) -> list[Difference]:
    """Do what `survey` does for a command, with a resolver of its own. Raises Misconfigured.

    `seconds` bounds each lookup, if given.
    """
    discovery = settings.discovery
    if seconds:
        discovery = msgspec.structs.replace(discovery, lookup_seconds=seconds)
    resolver = Resolver(discovery, SystemClock())
    try:
        return await survey(own_names(settings), resolver)
    finally:
        await resolver.close()


async def _compared(wanted: Wanted, resolver: Resolver) -> Difference:
    answer = await resolver.look_up(wanted.name, wanted.kind)
    if wanted.kind == "A" and not answer.values:
        other = await resolver.look_up(wanted.name, "AAAA")
        if other.values or other.temporary:
            answer = other
    return compare(wanted, answer)


def compare(wanted: Wanted, answer: Answer) -> Difference:
    """Compare one wanted record with the answer for its name."""
    if answer.temporary:
        advice = f"DNS gave no answer ({answer.outcome} {answer.reason}".rstrip() + "); try again later"
        return Difference(wanted, State.UNKNOWN, (), advice)
    published = tuple(value for value in answer.values if wanted.kind != "TXT" or VERSION_TAG in value)
    state, advice = _verdict(wanted, published)
    return Difference(wanted, state, published, advice, answer.ttl if answer.outcome is Outcome.FOUND else 0)


def _verdict(wanted: Wanted, published: Sequence[str]) -> tuple[State, str]:
    if wanted.forbidden:
        return (State.EXTRA, "remove it") if published else (State.FINE, "")
    if not published:
        return State.MISSING, "publish it"
    if not wanted.value:
        return State.FINE, ""
    if wanted.value not in published:
        return _other(wanted, published)
    others = [value for value in published if value != wanted.value]
    if others and (wanted.kind == "TXT" or any(map(_is_preferred, others))):
        return State.EXTRA, f"remove {', '.join(others)}"
    return State.FINE, ""


def _other(wanted: Wanted, published: Sequence[str]) -> tuple[State, str]:
    """A server's own name needs some MX only; and a preference is the operator's."""
    host = wanted.value.rpartition(" ")[2]
    if wanted.kind == "MX" and (
        wanted.value == NULL_MX or host in {one.rpartition(" ")[2] for one in published}
    ):
        return State.FINE, ""
    return State.DIFFERENT, "publish the wanted one in its place"


def _is_preferred(value: str) -> bool:
    """Whether mail goes to this MX before or beside ours; a backup behind it is the operator's choice."""
    preference = value.partition(" ")[0]
    return not preference.isdigit() or int(preference) <= MX_PREFERENCE


def zone_lines(own: OwnNames) -> list[str]:
    """Write the records as a zone file has them; addresses are comments, for only the operator knows them."""
    return [_zone_line(one, own) for one in wanted_records(own) if not one.forbidden]


def _zone_line(wanted: Wanted, own: OwnNames) -> str:
    head = f"{wanted.name}.\t{TTL}\tIN\t{wanted.kind}\t"
    if wanted.kind == "A":
        if wanted.name in {own.server_domain, own.mail_host}:
            return f"; {head}<address of this host>"
        return f"{wanted.name}.\t{TTL}\tIN\tCNAME\t{own.server_domain}."
    if wanted.kind == "TXT":
        return f'{head}"{wanted.value}"'
    return head + wanted.value.removesuffix(".") + "."
