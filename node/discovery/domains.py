"""What kind of domain it is: Mailio, plain mail, or neither (wire spec section 2).

Unlike the reference server (section 10.2, D8), MX and Mailio record are judged apart, a failed lookup
is not "no", and a key is forgotten together with its record.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

import msgspec

from events.errors import InvalidInput, MailioError
from events.identity import MAX_DOMAIN_LENGTH, normalise_domain
from node.crypto.base64_text import to_base64
from node.discovery.answers import Answer, DnsUnavailable, Outcome
from node.discovery.record import MailioRecord, MalformedRecord, Reading, read_records, record_name
from node.discovery.resolver import Resolver

NULL_MX: Final = "0 ."
"""The domain takes no mail (RFC 7505). Wire spec section 0.4: it does for a server's own domain."""


class DomainKind(StrEnum):
    """How to reach the users of a domain; a Mailio domain may take plain mail as well."""

    MAILIO = "mailio"
    SMTP = "smtp"
    NEITHER = "neither"


class Domain(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The `Domain` of wire spec section 2.3; `timestamp` (ms): the oldest lookup it rests on."""

    name: str
    supports_mailio: bool
    mailio_did_domain: str = msgspec.field(default="", name="mailioDIDDomain")
    supports_standard_email: bool
    mailio_public_key: str = ""
    timestamp: int
    mx_check_error: str = ""
    mailio_check_error: str = ""


class NameAsked(msgspec.Struct, frozen=True):
    """One name that was asked for a Mailio record, and what its records say."""

    server: str
    answer: Answer
    reading: Reading


class Discovered(msgspec.Struct, frozen=True):
    """A domain with everything that led to the judgement."""

    name: str
    mail: Answer
    asked: tuple[NameAsked, ...]

    @property
    def server(self) -> str:
        """Name that carries the record, hence the host of the API; "" when none does."""
        last = self.asked[-1]
        return last.server if last.reading.record is not None else ""

    @property
    def record(self) -> MailioRecord | None:
        """The record in force."""
        return self.asked[-1].reading.record

    @property
    def takes_mail(self) -> bool:
        """Whether an MX other than the null MX exists.

        The address record that RFC 5321 section 5.1 takes in its place does not count (wire spec
        section 2.3): most hosts have an address, and few of them take mail.
        """
        return any(value != NULL_MX for value in self.mail.values)

    @property
    def kind(self) -> DomainKind:
        """How to reach its users. Raises what `require` raises."""
        if self.require() is not None:
            return DomainKind.MAILIO
        return DomainKind.SMTP if self.takes_mail else DomainKind.NEITHER

    @property
    def trouble(self) -> MailioError | None:
        """Why nothing can be said about Mailio, if so."""
        last = self.asked[-1]
        if last.reading.flaw is not None:
            return MalformedRecord(last.reading.flaw)
        try:
            last.answer.require()
        except DnsUnavailable as error:
            return error
        return None

    def require(self) -> MailioRecord | None:
        """Return the record, None when the domain has none for certain.

        Raises DnsUnavailable (also when only the MX is unknown and nothing else speaks for the domain)
        and MalformedRecord: nobody should fall back to plain mail because of a fault.
        """
        if (trouble := self.trouble) is not None:
            raise trouble
        if self.record is None:
            self.mail.require()
        return self.record

    @property
    def until(self) -> int:
        """When the first answer that this rests on ends (ms)."""
        return min(answer.until for answer in self._answers)

    @property
    def _answers(self) -> list[Answer]:
        return [self.mail, *(asked.answer for asked in self.asked)]

    def domain(self) -> Domain:
        """Return it in the wire's form."""
        record, trouble = self.record, self.trouble
        return Domain(
            name=self.name,
            supports_mailio=record is not None,
            mailio_did_domain=self.server,
            supports_standard_email=self.takes_mail,
            mailio_public_key=to_base64(record.public_key) if record is not None else "",
            timestamp=min(answer.asked_at for answer in self._answers),
            mx_check_error="" if self.takes_mail else _mail_remark(self.mail),
            mailio_check_error=trouble.public if trouble is not None else "",
        )


class Domains:
    """Judges domains by their DNS records."""

    def __init__(self, resolver: Resolver, prefixes: tuple[str, ...]) -> None:
        self._resolver = resolver
        self._prefixes = prefixes

    async def look_up(self, domain: str, *, force: bool = False) -> Discovered:
        """Look a domain up, in Unicode or ASCII form. Raises InvalidInput, Busy.

        What DNS could not say is in the result; `kind` and `require` raise it.
        """
        name = checked_domain(domain)
        mail, asked = await asyncio.gather(
            self._resolver.look_up(name, "MX", force=force), self._ask(name, force)
        )
        return Discovered(name, mail, asked)

    async def keys_at(self, server: str, *, force: bool = False) -> NameAsked:
        """Ask for the record of exactly this name, for signatures are by servers. Raises InvalidInput, Busy.

        A server's record is at its own name (wire spec section 0.4, item 2). The names below it lead from
        an e-mail domain to its server; whoever has one of them does not sign for what is above.
        """
        return await self._asked(checked_domain(server), force)

    async def _asked(self, server: str, force: bool) -> NameAsked:
        answer = await self._resolver.look_up(record_name(server), "TXT", force=force)
        return NameAsked(server, answer, read_records(answer.values))

    async def _ask(self, name: str, force: bool) -> tuple[NameAsked, ...]:
        """Ask the names of section 2.2 in order, until one has a record or can't be asked."""
        asked = []
        names = (name, *(f"{prefix}.{name}" for prefix in self._prefixes))
        for server in (one for one in names if len(record_name(one)) <= MAX_DOMAIN_LENGTH):
            said = await self._asked(server, force)
            asked.append(said)
            if said.answer.temporary or said.reading.record is not None or said.reading.flaw is not None:
                break
        return tuple(asked)


def checked_domain(domain: str) -> str:
    """Return a domain in ASCII form. Raises InvalidInput for what is no name that others could publish.

    That is a name without a dot, a local one (RFC 6761), an address, and one with a port (wire spec 2.5).
    """
    name = normalise_domain(domain)
    last = name.rpartition(".")[2]
    too_long = len(record_name(name)) > MAX_DOMAIN_LENGTH
    if "." not in name or last in {"localhost", "local"} or last.isdigit() or too_long:
        raise InvalidInput("invalid domain", "not a public name")
    return name


def _mail_remark(mail: Answer) -> str:
    if mail.outcome is Outcome.FOUND:
        return "null MX: takes no mail"
    return f"MX: {mail.outcome}"
