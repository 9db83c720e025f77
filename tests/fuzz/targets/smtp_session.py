"""Invariant: any bytes, cut anywhere, are answered in form; a mail has an envelope that was accepted before it.

No reply has a bare CR or LF in it, nothing is sent after the end, and all memory is given back.
"""

from __future__ import annotations

from node.smtp.limits import SmtpLimits
from tests.unit.smtp.driver import DATA, EHLO, MAIL, RCPT, Driver

LIMITS = SmtpLimits(message_bytes=400, overrun_bytes=100, commands=60, line_bytes=80, command_bytes=100)
SEEDS = [
    EHLO + b"\xff" + MAIL + RCPT + DATA + b"\xffSubject: x\r\n\r\n.x\r\n.\r\n\xffQUIT\r\n",
    EHLO + b"\xff" + MAIL + RCPT + DATA + b"\xffx\n.\r\n" + MAIL + b"\r\n.\r\n",
    b"HELO a\r\n\xffSTARTTLS\r\nRSET\r\nNOOP\r\nVRFY x\r\n",
    EHLO + b"\xffMAIL FROM:<> SIZE=99999 BODY=8BITMIME SMTPUTF8\r\n",
]


def one(data: bytes) -> None:
    """Pieces are separated by 0xFF, which is no byte of any command."""
    driver = Driver(LIMITS, tls=True)
    for piece in data.split(b"\xff"):
        if driver.closed or driver.handshake:
            break
        driver.feed(piece)
    for reply in driver.replies:
        assert reply[:3].isdigit()
        assert reply.isprintable()
    for mail in driver.mails:
        assert mail.recipients
        assert {admit.recipient for admit in driver.admits} >= {one.email for one in mail.recipients}
    driver.session.lost()
    assert driver.memory.held == 0
