"""One attempt to deliver something: what it came to, what that says about whom, when to try again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import msgspec

MAX_REASON = 300
"""Characters kept of what a peer said."""

REPORTED = "2.0.0"
"""MTP code of a delivery whose receipt was lost, but not what the peer said of the message afterwards."""


class Cause(StrEnum):
    """What an attempt that failed says: something about the peer, or about this delivery alone."""

    UNREACHABLE = "unreachable"
    BUSY = "busy"
    REFUSED = "refused"


class Verdict(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    LATER = "later"
    FINAL = "final"


class Addressee(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recipient, as the sender named them: by DID (then the address is known), or by email."""

    did: str = ""
    email: str = ""
    address: str = ""

    @property
    def name(self) -> str:
        """The name that the sender used."""
        return self.did or self.email


class RecipientStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a message for one recipient: an MTP code `class.subject.detail` and its text."""

    address: str = ""
    email: str = ""
    code: str
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether it arrived: classes 2.2 and 2.3 are failures (wire spec section 3.9)."""
        return self.code.startswith("2.") and not self.code.startswith(("2.2.", "2.3."))

    @property
    def weight(self) -> int:
        """How much is decided by it: 0, nothing yet (class 4); 1, that it arrived; 2, that it did not."""
        return 0 if self.code.startswith("4.") else 1 if self.good else 2


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait between attempts, and how often a peer may refuse one message."""

    first_ms: int
    factor: float
    most_ms: int
    refusals: int

    def pause(self, failures: int, jitter: float) -> int:
        """Return the milliseconds after failure number `failures`.

        `jitter`, from 0 up to 1, takes up to a quarter off: the longest pause is what the setting says.
        """
        grown: float = self.first_ms * self.factor ** min(failures - 1, 64)
        return max(1, int(min(grown, self.most_ms) * (1 - jitter / 4)))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt came to, with the MTP code and a text for the sender.

    `retry_after` (ms) is what the peer asked for. `statuses` tell recipients apart, if anything does.
    `server` is the host that gave the receipt. `answered`: the peer itself said so, so it is there.
    """

    verdict: Verdict
    code: str
    text: str
    cause: Cause | None = None
    retry_after: int = 0
    statuses: tuple[RecipientStatus, ...] = ()
    server: str = ""
    answered: bool = True


def is_spoken_of(one: Addressee, statuses: Sequence[RecipientStatus], reported: Collection[str]) -> bool:
    """Whether it is known what became of a recipient, when the peer has `reported` of these addresses.

    `statuses` are what an attempt found out: the address of an email, or that nobody has it.
    """
    found = next((status for status in statuses if status.email and status.email == one.email), None)
    if found is not None and not found.address:
        return not found.good
    return (one.address or (found.address if found is not None else "")) in reported


def awaits_address(addressees: Sequence[Addressee], statuses: Sequence[RecipientStatus]) -> bool:
    """Whether somebody was written to by email, and no attempt has told yet whose address that is."""
    found = {status.email for status in statuses if status.email}
    return any(not one.address and one.email not in found for one in addressees)


def news(
    told: Sequence[RecipientStatus], about: Collection[str], known: Mapping[str, RecipientStatus]
) -> tuple[RecipientStatus, ...]:
    """Return what is told about these addresses and not `known` by address yet, in the form that is kept.

    A later word counts when it is a worse one: a peer that changes its mind again and again fills no log.
    """
    fresh: dict[str, RecipientStatus] = {}
    for status in told:
        earlier = fresh.get(status.address) or known.get(status.address)
        if status.address in about and (earlier is None or status.weight > earlier.weight):
            fresh[status.address] = msgspec.structs.replace(status, text=status.text[:MAX_REASON])
    return tuple(fresh.values())


def permanent(code: str) -> str:
    """Return the code in class 5: what was temporary has become final."""
    return "5" + code[1:] if code.startswith("4.") else code
