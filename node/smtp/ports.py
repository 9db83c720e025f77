"""What the SMTP door asks of the node, and what it tells about a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.mail import Recipient


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the client. All texts come from outside: never print them unescaped.

    `client` is the IP address, `helo` the name it gave itself, `esmtp` whether it said EHLO, `tls` the
    protocol version and cipher ("" in plain text), `smtputf8` whether this mail asked for RFC 6531.
    """

    session: str
    client: str
    helo: str
    esmtp: bool
    tls: str
    smtputf8: bool


class MailPorts(Protocol):
    """The node behind the door. Raised `MailioError`s become the reply: code `smtp`, text `public`.

    A permanent code of an error whose fault is the operator's or the node's is answered as 451 4.3.0:
    nobody's mail bounces for our trouble. Any other exception is logged and answered 451 4.3.0.
    """

    def busy(self) -> bool:
        """Tell whether new mail has to wait (451 4.3.2 at MAIL FROM)."""

    async def admit(
        self, facts: SessionFacts, envelope_sender: str, recipient: str, declared_size: int
    ) -> Recipient:
        """Say which mailbox takes this recipient; raise when none does.

        `envelope_sender` is "" for the null reverse-path. `recipient` is `local@domain`, or
        "postmaster" alone (RFC 5321 section 4.1.1.3). `declared_size` is 0 when nothing was declared.
        """

    async def accept(
        self, facts: SessionFacts, envelope_sender: str, recipients: Sequence[Recipient], raw: bytes
    ) -> str:
        """Store the message durably; return its mail id. Only then the client hears 250."""
