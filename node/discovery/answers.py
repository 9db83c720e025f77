"""What DNS answered: found, not there, or no answer at all. These three are never mixed up."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from events.errors import Fault, MailioError

Kind = Literal["A", "AAAA", "MX", "TXT"]
"""Type of a record."""


class Outcome(StrEnum):
    """How a lookup ended. The last two say nothing about the name."""

    FOUND = "found"
    NO_DATA = "no such record"
    NO_NAME = "no such name"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class DnsUnavailable(MailioError):
    """DNS gave no answer now, hence nothing is known; the same lookup may succeed later."""

    fault = Fault.RECIPIENT
    temporary = True
    smtp = "451 4.4.3"
    http = 503
    mtp = "4.4.3"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one name and type.

    `values` are in presentation form: names in lower case without the last dot, a TXT record's strings
    joined. Times are in milliseconds; `ttl` (seconds) is what the zone said, `until` what we make of it.
    `validated`: the resolver says that DNSSEC proved it. `stale`: the last good answer, past its end,
    because there is no newer one; `reason` then says why.
    """

    name: str
    kind: Kind
    outcome: Outcome
    values: tuple[str, ...] = ()
    ttl: int = 0
    asked_at: int = 0
    until: int = 0
    reason: str = ""
    validated: bool = False
    stale: bool = False

    @property
    def temporary(self) -> bool:
        """Whether nothing was learnt."""
        return self.outcome in {Outcome.FAILED, Outcome.TIMED_OUT}

    def require(self) -> tuple[str, ...]:
        """Return the values, none when the name or the record is not there. Raises DnsUnavailable."""
        if self.temporary:
            raise DnsUnavailable(
                "DNS gave no answer", f"{self.kind} {self.name}: {self.outcome} {self.reason}"
            )
        return self.values
