"""What became of a message, in numbers: the MTP status codes (wire spec section 3.9).

Modelled on RFC 3463 with a subject of its own for handshakes. Whoever reads codes asks `outcome`: the
reference server files failures under class 2 (Q11).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from events.errors import InvalidInput, MailioError

SUCCESS: Final = 2
TEMPORARY: Final = 4
PERMANENT: Final = 5

MAX_STATUSES: Final = 1_000
"""Statuses in one delivery notification: one for each recipient of the largest message."""


class Subject(IntEnum):
    """What a status is about: the second number."""

    UNDEFINED = 0
    ADDRESSING = 1
    MAILBOX = 2
    SYSTEM = 3
    NETWORK = 4
    PROTOCOL = 5
    CONTENT = 6
    SECURITY = 7
    HANDSHAKE = 8


DETAILS: Final[Mapping[Subject, Mapping[int, str]]] = {
    Subject.UNDEFINED: {0: "accepted"},
    Subject.ADDRESSING: {0: "other", 1: "bad mailbox", 3: "bad syntax", 4: "ambiguous", 5: "valid",
                         6: "moved", 7: "bad sender syntax", 8: "bad sender system"},
    Subject.MAILBOX: {0: "other", 1: "disabled", 2: "full", 3: "message too long", 4: "list expansion",
                      5: "other", 6: "moved", 7: "bad sender", 8: "bad sender"},
    Subject.SYSTEM: {0: "other", 1: "full", 2: "not accepting", 3: "feature missing", 4: "message too big",
                     5: "misconfigured", 6: "content refused", 7: "expired", 8: "storage exceeded",
                     9: "authentication required"},
    Subject.NETWORK: {0: "other", 1: "no answer", 2: "bad connection", 3: "directory failure",
                      4: "unable to route", 5: "congestion", 6: "loop", 7: "expired"},
    Subject.PROTOCOL: {0: "other", 1: "duplicate id", 2: "syntax", 3: "too many recipients",
                       4: "bad arguments", 5: "wrong version"},
    Subject.CONTENT: {0: "other", 1: "media unsupported", 2: "conversion required, prohibited",
                      3: "conversion required, unsupported", 4: "lossy conversion", 5: "conversion failed"},
    Subject.SECURITY: {0: "other", 1: "refused", 2: "list", 3: "conversion", 4: "feature missing",
                       5: "keys invalid", 6: "algorithm unknown", 7: "bad signature"},
    Subject.HANDSHAKE: {0: "other", 1: "failed", 2: "revoked", 3: "expired", 4: "unsupported",
                        5: "impossible", 6: "unavailable", 7: "unverified", 8: "incomplete",
                        9: "not found", 10: "frequency exceeded", 11: "intent unsupported"},
}  # fmt: skip
"""The third number in words, by subject."""


class Outcome(StrEnum):
    """What a sender does about a status: nothing more, try again, or give up."""

    DONE = "done"
    RETRY = "retry"
    FAILED = "failed"


class MtpStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A status as it travels; class, subject and detail are always there. `timestamp` is in ms."""

    class_: int = msgspec.field(name="class")
    subject: int
    detail: int
    description: str = ""
    address: str = ""
    timestamp: int = 0

    @property
    def code(self) -> Code:
        """The three numbers."""
        return Code(self.class_, self.subject, self.detail)

    @property
    def outcome(self) -> Outcome:
        """See `Code.outcome`."""
        return self.code.outcome


class Code(msgspec.Struct, frozen=True):
    """Class, subject and detail; `str()` gives `5.1.1`."""

    class_: int
    subject: int
    detail: int

    def __str__(self) -> str:
        """Give the written form."""
        return f"{self.class_}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> Code:
        """Read `5.1.1`. Raises InvalidInput."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 3 for part in parts):
            raise InvalidInput("invalid status code")
        return cls(*map(int, parts))

    def status(self, description: str, *, address: str = "", at: int = 0) -> MtpStatus:
        """Make a status of it, about the recipient `address`, at a time in ms."""
        return MtpStatus(self.class_, self.subject, self.detail, description, address, at)

    @property
    def outcome(self) -> Outcome:
        """Class 2 is only success when its subject is 0 or 1: 2.2.1, 2.2.2, 2.3.5 are failures (Q11)."""
        if self.class_ == SUCCESS and self.subject in (Subject.UNDEFINED, Subject.ADDRESSING):
            return Outcome.DONE
        return Outcome.RETRY if self.class_ == TEMPORARY else Outcome.FAILED

    @property
    def words(self) -> str:
        """What the code says, for an operator: `mailbox: full`; "" for numbers that are not defined."""
        try:
            subject = Subject(self.subject)
        except ValueError:
            return ""
        detail = DETAILS[subject].get(self.detail, "")
        return f"{subject.name.lower()}: {detail}" if detail else ""


DELIVERED: Final = Code(2, 0, 0)
"""A receiver has stored the message, or a sender was told that a peer took it."""
OTHER_FAILURE: Final = Code(5, 0, 0)
BAD_MAILBOX: Final = Code(5, 1, 1)
BAD_RECIPIENT_SYNTAX: Final = Code(5, 1, 3)
MAILBOX_DISABLED: Final = Code(5, 2, 1)
MAILBOX_FULL: Final = Code(5, 2, 2)
SYSTEM_UNSUITABLE: Final = Code(5, 3, 0)
MESSAGE_TOO_BIG: Final = Code(5, 3, 4)
EXPIRED: Final = Code(5, 4, 7)
NETWORK_OTHER: Final = Code(4, 4, 0)
NO_ANSWER: Final = Code(4, 4, 1)
DIRECTORY_FAILURE: Final = Code(5, 4, 3)
UNABLE_TO_ROUTE_NOW: Final = Code(4, 4, 4)
UNABLE_TO_ROUTE: Final = Code(5, 4, 4)
CONGESTION: Final = Code(4, 4, 5)
DUPLICATE_ID: Final = Code(5, 5, 1)
BAD_SYNTAX: Final = Code(5, 5, 2)
CONTENT_OTHER: Final = Code(5, 6, 0)
CONVERSION_FAILED: Final = Code(5, 6, 5)
REFUSED: Final = Code(5, 7, 1)
KEYS_INVALID: Final = Code(5, 7, 5)
BAD_SIGNATURE: Final = Code(5, 7, 7)
HANDSHAKE_FAILED: Final = Code(5, 8, 1)
HANDSHAKE_REVOKED: Final = Code(5, 8, 2)
HANDSHAKE_EXPIRED: Final = Code(5, 8, 3)
HANDSHAKE_UNVERIFIED: Final = Code(5, 8, 7)
HANDSHAKE_NOT_FOUND: Final = Code(5, 8, 9)
FREQUENCY_EXCEEDED: Final = Code(4, 8, 10)
INTENT_UNSUPPORTED: Final = Code(5, 8, 11)

GO_NO_SUCH_USER: Final = Code(2, 3, 5)
"""What a reference server says of an unknown address; it has 2.2.1 for disabled, 2.2.2 for full."""


def code_of(error: MailioError) -> Code:
    """Return the code of an error's class."""
    return Code.parse(error.mtp)


def status_of(error: MailioError, *, address: str = "", at: int = 0) -> MtpStatus:
    """Tell an error as a status: its class's code and its public text."""
    return code_of(error).status(error.public, address=address, at=at)


class _Statuses(msgspec.Struct, rename="camel"):
    status_codes: list[MtpStatus]


def encode_statuses(statuses: list[MtpStatus]) -> bytes:
    """Write the content of a delivery notification's `plainBodyBase64` (wire spec section 3.3.6)."""
    return msgspec.json.encode(_Statuses(statuses))


def decode_statuses(content: bytes) -> list[MtpStatus]:
    """Read the content of a delivery notification. Raises InvalidInput."""
    try:
        found = msgspec.json.decode(content, type=_Statuses).status_codes
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput("invalid delivery notification", str(error)[:200]) from None
    if len(found) > MAX_STATUSES:
        raise InvalidInput("invalid delivery notification", f"{len(found)} statuses")
    return found
