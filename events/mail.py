"""A mail that the node has taken responsibility for: the event behind every `250` and `202`."""

from __future__ import annotations

import msgspec

from events.event import Event
from events.policy import Reason, Standing

STREAM = "mail-"


def stream(mail_id: str) -> str:
    """Name of the stream of one accepted mail."""
    return STREAM + mail_id


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """One accepted envelope recipient: the mailbox, and the email that named it.

    `standing` is what the owner's handshake book said about the envelope sender when the door admitted the
    recipient, None in records of a program that did not keep it. `refusal` is set where the policy would
    have refused the message, once its authors were known, if it had been for this recipient alone.
    """

    address: str
    email: str
    standing: Standing | None = None
    refusal: Reason | None = None


class Turned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipient of a federated message whom the door did not admit, while it admitted others.

    `code` (`5.1.1`) and `text` are what the sender's server is told.
    """

    address: str
    code: str
    text: str = ""


class MailAccepted(Event, frozen=True, kw_only=True):
    """A door has synced the raw message and is about to say yes.

    `blob` names the raw bytes, exactly as they came in (after dot-unstuffing), `size` counts them.
    `envelope_sender` is MAIL FROM ("" for the null reverse-path), `authors` the bare addresses of the
    From header (one, unless somebody plays tricks), `message_id` the Message-ID header. `client`, `helo`
    and `tls` describe the session, which the daemon's messages call `session`. `spam` and `authenticated`
    are what a filter or an authentication check said, if any did.

    By MTP, `blob` names the bytes that the peer signed, with the signature (`node.mtp.stored`); sender and
    author are its user's DID, `message_id` is the id on the wire, `helo` the peer's domain. `content` is a
    digest of the message by which a second one under the same id is told from a repetition. `introduces`
    marks a handshake message; `turned` are recipients who do not get it.
    """

    transport: str
    blob: str
    size: int
    recipients: tuple[Recipient, ...]
    envelope_sender: str = ""
    authors: tuple[str, ...] = ()
    message_id: str = ""
    received_at: int
    client: str = ""
    helo: str = ""
    tls: str = ""
    spam: bool = False
    authenticated: bool | None = None
    session: str = ""
    content: str = ""
    introduces: bool = False
    turned: tuple[Turned, ...] = ()
