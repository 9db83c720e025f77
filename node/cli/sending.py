"""Handing one message to an SMTP door, for `send-test`."""

from __future__ import annotations

import re
import smtplib
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from events.errors import Forbidden, InvalidInput, MailioError, Misconfigured
from node.settings import host_and_port

ANSWER_SECONDS = 60
"""How long the door may take for one reply."""


class Refused(MailioError):
    """The door said no for now."""

    temporary = True


def small_message(sender: str, recipient: str, subject: str) -> bytes:
    """Write a message of a few lines. Raises InvalidInput for what can't stand in a header."""
    message = EmailMessage(policy.SMTP if (sender + recipient).isascii() else policy.SMTPUTF8)
    try:
        message["From"] = sender
        message["To"] = recipient
        message["Subject"] = subject
    except ValueError as error:
        raise InvalidInput(f"sender, recipient or subject can't stand in a header: {error}") from None
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="send-test.example")
    message.set_content("This message was sent by `mailio-node send-test`.\n")
    return message.as_bytes()


def content_of(file: Path) -> bytes:
    """Read a message from a file. Raises InvalidInput."""
    try:
        return with_crlf(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file}: can't be read: {error.strerror}") from None


def with_crlf(raw: bytes) -> bytes:
    """Let every line of a file end as RFC 5321 section 2.3.8 wants it."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", raw)


def hand_in(listen: str, sender: str, recipient: str, raw: bytes) -> str:
    """Send the message; return the door's last reply. Raises Forbidden, Refused, Misconfigured."""
    host, port = host_and_port("smtp.listen", listen)
    try:
        with smtplib.SMTP(host, port, timeout=ANSWER_SECONDS, local_hostname="send-test.example") as client:
            client.ehlo()
            _require(client.mail(sender, () if (sender + recipient).isascii() else ("SMTPUTF8",)))
            _require(client.rcpt(recipient))
            return _require(client.data(raw))
    except smtplib.SMTPResponseException as error:
        told = error.smtp_error
        return _require((error.smtp_code, told if isinstance(told, bytes) else told.encode()))
    except OSError as error:
        text = f"no SMTP door answers at {listen}: {error}; start the node with `mailio-node run`"
        raise Misconfigured(text) from None


def _require(reply: tuple[int, bytes]) -> str:
    code, text = reply
    told = f"{code} {text.decode(errors='replace')}"
    if code >= 500:
        raise Forbidden(f"the node refused: {told}")
    if code >= 400:
        raise Refused(f"the node can't take it now: {told}")
    return told
