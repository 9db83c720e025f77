"""The error tree: who is at fault, whether it passes, and the code each door answers with.

Every error has a text for the other side (`public`) and, apart from it, what only the operator may
read (`private`). Doors never show `private`; they answer with `smtp`, `http` or `mtp` of the class.
Enhanced status codes: RFC 3463. MTP codes: wire spec section 3.9.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Who has to change something before the same request can succeed."""

    CLIENT = "client"
    SENDER = "sender"
    RECIPIENT = "recipient"
    OPERATOR = "operator"
    NODE = "node"


class MailioError(Exception):
    """Root of all errors that this node raises on purpose."""

    fault: ClassVar[Fault] = Fault.NODE
    temporary: ClassVar[bool] = False
    smtp: ClassVar[str] = "554 5.3.0"
    http: ClassVar[int] = 500
    mtp: ClassVar[str] = "5.3.0"

    def __init__(self, public: str, private: str = "") -> None:
        super().__init__(public)
        self.public = public
        self.private = private

    def __str__(self) -> str:
        """Give both texts: this goes to the operator's log, never to the other side."""
        return f"{self.public} ({self.private})" if self.private else self.public


class InvalidInput(MailioError):
    """What came in breaks its own format or a documented rule."""

    fault = Fault.CLIENT
    smtp = "501 5.5.4"
    http = 400
    mtp = "5.5.2"


class Unauthenticated(MailioError):
    """No proof of identity, or one that does not hold."""

    fault = Fault.CLIENT
    smtp = "535 5.7.8"
    http = 401
    mtp = "5.7.7"


class Forbidden(MailioError):
    """Known, but not allowed to do this."""

    fault = Fault.CLIENT
    smtp = "550 5.7.1"
    http = 403
    mtp = "5.7.1"


class NotFound(MailioError):
    """There is no such thing, or the asker may not know of it."""

    fault = Fault.CLIENT
    smtp = "550 5.1.1"
    http = 404
    mtp = "5.1.1"


class Gone(NotFound):
    """It belonged to an account that was erased: it can't be read any more, and nothing new kept."""

    fault = Fault.RECIPIENT
    http = 410


class Conflict(MailioError):
    """It exists already, or was changed in between."""

    fault = Fault.CLIENT
    smtp = "451 4.3.0"
    http = 409
    mtp = "5.5.1"


class LimitExceeded(MailioError):
    """More than a named limit allows."""

    fault = Fault.CLIENT
    smtp = "552 5.3.4"
    http = 413
    mtp = "5.3.4"


class Busy(MailioError):
    """The node protects itself; the same request succeeds later."""

    temporary = True
    smtp = "451 4.3.2"
    http = 503
    mtp = "4.4.5"


class StorageUnavailable(MailioError):
    """The log or the blobs can't be written or read now (disk full, I/O error)."""

    fault = Fault.OPERATOR
    temporary = True
    smtp = "451 4.3.0"
    http = 503
    mtp = "4.3.0"


class CorruptRecord(MailioError):
    """Stored bytes do not say what they said when they were written."""

    fault = Fault.OPERATOR


class UnknownEventType(MailioError):
    """The log holds an event or schema that a newer program wrote."""

    fault = Fault.OPERATOR


class Misconfigured(MailioError):
    """The configuration or the environment must be changed before the node can start."""

    fault = Fault.OPERATOR


class VersionConflict(Conflict):
    """A stream was not at the version that the writer expected."""

    fault = Fault.NODE
    temporary = True

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(
            "changed in between, try again", f"{stream}: expected version {expected}, found {actual}"
        )
        self.stream = stream
        self.expected = expected
        self.actual = actual


class AlreadyAnswered(Conflict):
    """The actor has answered this cause before: its earlier answer stands, nothing was written."""

    fault = Fault.NODE

    def __init__(self, actor: str, causation: str) -> None:
        super().__init__("already done", f"{actor} has answered {causation}")
        self.actor = actor
        self.causation = causation


class MailboxDisabled(Forbidden):
    """The recipient's account is shut."""

    fault = Fault.RECIPIENT
    smtp = "550 5.2.1"
    mtp = "5.2.1"


class TooFrequent(MailioError):
    """The sender writes more often than the recipient agreed to; it may again when the time has passed."""

    fault = Fault.SENDER
    temporary = True
    smtp = "450 4.7.1"
    http = 429
    mtp = "4.8.10"


class TooEarly(MailioError):
    """What is told can't be understood yet, and will be in a moment; it counts against this request only."""

    fault = Fault.SENDER
    temporary = True
    smtp = "450 4.3.0"
    http = 429
    mtp = "4.3.0"


class MailboxFull(LimitExceeded):
    """The recipient has no room left; they may make some."""

    fault = Fault.RECIPIENT
    temporary = True
    smtp = "452 4.2.2"
    http = 507
    mtp = "5.2.2"


class MalformedMessage(InvalidInput):
    """The form of a message is beyond what any honest one needs (RFC 3463 X.6.0)."""

    fault = Fault.SENDER
    smtp = "554 5.6.0"
    mtp = "5.6.0"


class MailLoop(MalformedMessage):
    """The message has been through too many servers (RFC 5321 section 6.3)."""

    smtp = "554 5.4.6"
    mtp = "5.4.6"
