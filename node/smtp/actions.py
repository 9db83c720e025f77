"""What a session tells its connection to do, in order."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from events.mail import Recipient
from node.smtp.ports import SessionFacts


class Transition(StrEnum):
    """The vocabulary of the door's log: one line for each step of a session."""

    CONNECTED = "connected"
    HELO = "helo"
    TLS = "tls"
    MAIL = "mail"
    RECIPIENT = "recipient accepted"
    DATA = "data"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    CLOSED = "closed"


DETAILS = frozenset({Transition.HELO, Transition.MAIL, Transition.RECIPIENT, Transition.DATA})
"""Steps that are logged at `debug`: a mail that goes its way needs one line at `info`."""


class Send(msgspec.Struct, frozen=True):
    """Write these bytes."""

    data: bytes


class Admit(msgspec.Struct, frozen=True):
    """Ask `MailPorts.admit`, then give the outcome to `SmtpSession.answer`."""

    facts: SessionFacts
    sender: str
    recipient: str
    size: int


class Accept(msgspec.Struct, frozen=True):
    """Ask `MailPorts.accept`, then give the outcome to `SmtpSession.answer`."""

    facts: SessionFacts
    sender: str
    recipients: tuple[Recipient, ...]
    raw: bytes


class StartTls(msgspec.Struct, frozen=True):
    """Read nothing more, do the TLS handshake, then call `SmtpSession.secured`."""


class Close(msgspec.Struct, frozen=True):
    """Close once everything sent has left. `linger`: the client may still be sending, let it read first."""

    linger: bool


class Note(msgspec.Struct, frozen=True):
    """Log a transition. The fields' texts are as they came: escape them."""

    transition: Transition
    fields: dict[str, str | int]


Action: TypeAlias = Send | Admit | Accept | StartTls | Close | Note
