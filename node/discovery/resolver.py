"""DNS lookups: asynchronous, remembered as long as their TTL allows, each question asked once at a time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import msgspec

from events.errors import Busy
from events.log.log import Clock
from node.discovery.answers import Answer, Kind, Outcome
from node.discovery.limits import DiscoverySettings, resolver_address
from node.discovery.remembered import Remembered

PAYLOAD: Final = 1_232
"""Largest UDP answer that we announce (EDNS): it passes every link in one piece. More comes over TCP."""

MAX_VALUES: Final = 64
"""Records in one answer; a mail domain has some ten at the most."""

MAX_ANSWER: Final = 8_192
"""Characters of all values of one answer."""


class Resolver:
    """Asks the configured resolvers. `look_up` never raises for what DNS says; the answer has it all."""

    def __init__(self, settings: DiscoverySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._remembered: Remembered[Answer] = Remembered(settings.names)
        self._room = asyncio.Semaphore(settings.lookups)
        self._stub: dns.asyncresolver.Resolver | None = None

    async def look_up(self, name: str, kind: Kind, *, force: bool = False) -> Answer:
        """Look up a name (ASCII, without the last dot). Raises Busy.

        `force` passes over what is remembered, unless it is younger than `force_seconds`.
        """
        key = (name.lower(), kind)
        known = self._remembered.get(key)
        if known is not None and self._serves(known, force):
            return known
        return await self._remembered.ask(key, lambda: self._renewed(name.lower(), kind, known))

    async def close(self) -> None:
        """Stop running lookups."""
        await self._remembered.close()

    def _serves(self, known: Answer, force: bool) -> bool:
        now = self._clock.now()
        young = now < known.asked_at + self._settings.force_seconds * 1_000
        # An answer from the future is none: the clock was set back, and its end is nobody's measure any more.
        return known.asked_at <= now < known.until and (young or not force)

    async def _renewed(self, name: str, kind: Kind, known: Answer | None) -> Answer:
        """Ask; when that fails, keep what was good until it is too old."""
        fresh = await self._in_turn(name, kind)
        if fresh.temporary and known is not None and not known.temporary:
            ended = known.asked_at + self._lifetime(known.outcome, known.ttl)
            if fresh.asked_at < ended + self._settings.stale_seconds * 1_000:
                reason = f"{fresh.outcome} {fresh.reason}".strip()
                return msgspec.structs.replace(known, stale=True, until=fresh.until, reason=reason)
        return fresh

    async def _in_turn(self, name: str, kind: Kind) -> Answer:
        """Ask when there is room. Raises Busy, which says nothing about the name and is not remembered."""
        try:
            await asyncio.wait_for(self._room.acquire(), self._settings.lookup_seconds)
        except TimeoutError:
            raise Busy("too many lookups at once", f"{self._settings.lookups} are under way") from None
        try:
            return await self._asked(name, kind)
        finally:
            self._room.release()

    async def _asked(self, name: str, kind: Kind) -> Answer:
        try:
            found = await self._resolver().resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN as error:
            (response,) = error.kwargs["responses"].values()
            return self._absent(name, kind, Outcome.NO_NAME, response)
        except dns.exception.Timeout as error:
            return self._answer(name, kind, Outcome.TIMED_OUT, reason=_why(error))
        except (dns.exception.DNSException, OSError) as error:
            return self._answer(name, kind, Outcome.FAILED, reason=_why(error))
        if found.rrset is None:
            return self._absent(name, kind, Outcome.NO_DATA, found.response)
        return self._found(name, kind, found)

    def _found(self, name: str, kind: Kind, found: dns.resolver.Answer) -> Answer:
        values = tuple(_text(record) for record in found)
        if len(values) > MAX_VALUES or sum(map(len, values)) > MAX_ANSWER:
            return self._answer(name, kind, Outcome.FAILED, reason="the answer is too large")
        ttl = int(found.chaining_result.minimum_ttl)
        return self._answer(
            name, kind, Outcome.FOUND, values=values, ttl=ttl, validated=_is_validated(found.response)
        )

    def _absent(self, name: str, kind: Kind, outcome: Outcome, response: Any) -> Answer:
        """A negative answer lives as long as the zone's SOA says; without one it is not kept (RFC 2308)."""
        with_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
        ttl = int(response.resolve_chaining().minimum_ttl) if with_soa else 0
        return self._answer(name, kind, outcome, ttl=ttl, validated=_is_validated(response))

    def _answer(self, name: str, kind: Kind, outcome: Outcome, **members: Any) -> Answer:
        now = self._clock.now()
        until = now + self._lifetime(outcome, members.get("ttl", 0))
        return Answer(name=name, kind=kind, outcome=outcome, asked_at=now, until=until, **members)

    def _lifetime(self, outcome: Outcome, ttl: int) -> int:
        """Milliseconds that an answer is used."""
        settings = self._settings
        if outcome in {Outcome.FAILED, Outcome.TIMED_OUT}:
            return settings.failure_seconds * 1_000
        most = settings.most_seconds if outcome is Outcome.FOUND else settings.absent_seconds
        return max(settings.least_seconds, min(ttl, most)) * 1_000

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Make dnspython's resolver at the first lookup: only then the system's settings must be there."""
        if self._stub is None:
            settings = self._settings
            stub = dns.asyncresolver.Resolver(configure=not settings.resolvers)
            if settings.resolvers:
                addresses = map(resolver_address, settings.resolvers)
                stub.nameservers = [dns.nameserver.Do53Nameserver(*address) for address in addresses]
            stub.timeout = settings.attempt_seconds
            stub.lifetime = settings.lookup_seconds
            stub.use_edns(0, 0, PAYLOAD)
            # AD in a question asks whether DNSSEC proved the answer (RFC 6840 section 5.7).
            stub.flags = dns.flags.RD | dns.flags.AD
            self._stub = stub
        return self._stub


def _is_validated(response: dns.message.Message) -> bool:
    return bool(response.flags & dns.flags.AD)


def _text(record: Any) -> str:
    """Give a record's presentation form, as `Answer` describes it."""
    if record.rdtype == dns.rdatatype.TXT:
        return b"".join(record.strings).decode("ascii", "backslashreplace")
    if record.rdtype == dns.rdatatype.MX:
        exchange = record.exchange.to_text(omit_final_dot=True).lower()
        return f"{record.preference} {exchange}"
    return str(record.address)


def _why(error: Exception) -> str:
    """Say what the resolvers did, the last of them in the end; RFC 8914 codes tell of broken DNSSEC."""
    said = []
    errors = getattr(error, "kwargs", {}).get("errors") or ()
    for _, _, _, problem, response in errors[-3:]:
        remarks = [option.to_text() for option in response.extended_errors()] if response else []
        name = problem if isinstance(problem, str) else type(problem).__name__
        said.append(" ".join([_KNOWN.get(name, name), *remarks]))
    return "; ".join(dict.fromkeys(said)) or _KNOWN.get(type(error).__name__, type(error).__name__)


_KNOWN: Final = {
    "ChainTooLong": "the CNAMEs lead nowhere",
    "NoResolverConfiguration": "no resolver is configured: see discovery.resolvers",
    "LifetimeTimeout": "",
    "Timeout": "",
}
