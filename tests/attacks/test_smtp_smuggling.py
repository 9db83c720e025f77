"""SMTP smuggling: nothing but CRLF . CRLF ends a message, however its bytes are cut (CVE-2023-51764 and its kin).

The answer: a message with a bare CR, LF or NUL is refused as a whole (550), or, where an operator wants it so,
kept as one message. What was hidden in it is never obeyed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from node.smtp.limits import SmtpLimits
from tests.attacks.wire import DATA, EHLO, MAIL, byte_by_byte, connected, cuts, rcpt
from tests.daemon import Daemon
from tests.unit.smtp.driver import RCPT, Driver

END = b"\r\n.\r\n"
HIDDEN = MAIL + RCPT + DATA + b"Subject: smuggled\r\n\r\nx\r\n.\r\n"
BEFORE = b"Subject: x\r\n\r\nhello"


def line_ends(longest: int) -> list[bytes]:
    """Everything that some server might take for a line end: all texts of CR, LF and NUL up to a length."""
    return [
        b"".join(one)
        for n in range(1, longest + 1)
        for one in itertools.product((b"\r", b"\n", b"\0"), repeat=n)
    ]


def false_ends(longest: int) -> Iterator[bytes]:
    """A dot between any two of them, but for those with a true end inside; also with the dot doubled."""
    for before, after in itertools.product(line_ends(longest), repeat=2):
        for dot in (b".", b".."):
            variant = before + dot + after
            if END not in BEFORE + variant + HIDDEN[:1]:
                yield variant


FAMOUS = (b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n\0.\r\n", b"\r\n.\r\0\n")
SHORT, LONG = list(false_ends(2)), list(false_ends(3))


def one_message(driver: Driver, sent: bytes) -> None:
    """Everything sent was one message: kept, or refused because of bytes that may not be in it."""
    (reply,) = driver.replies[-1:]
    answered = len(driver.replies) - len(Driver().begin().replies)
    assert answered == 1, driver.replies
    assert not driver.closed
    if reply.startswith("250"):
        (mail,) = driver.mails
        assert mail.sender == "a@client.example"
        assert mail.raw == sent.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    else:
        assert reply.startswith(("550 5.6.11", "550 5.6.0"))
        assert driver.mails == []


@pytest.mark.parametrize("strictness", ["refuse", "keep"])
def test_no_false_end_ends_a_message_wherever_it_is_cut(strictness: str) -> None:
    limits = SmtpLimits(bare_newlines=strictness, nuls=strictness)  # type: ignore[arg-type]
    for variant in SHORT:
        sent = BEFORE + variant + HIDDEN
        for pieces in cuts(sent, len(BEFORE) - 1, len(BEFORE) + len(variant) + 1):
            driver = Driver(limits).begin()
            driver.feed(*pieces)
            one_message(driver, sent)


def test_no_longer_false_end_ends_a_message_either() -> None:
    for variant in LONG:
        sent = BEFORE + variant + HIDDEN
        driver = Driver().begin()
        driver.feed(*byte_by_byte(sent, len(BEFORE), len(BEFORE) + len(variant)))
        one_message(driver, sent)


@pytest.mark.parametrize("variant", FAMOUS)
def test_a_mail_pipelined_behind_the_true_end_is_a_mail_of_its_own(variant: bytes) -> None:
    """The next mail in the same segment is obeyed, the one inside the message is not."""
    sent = BEFORE + variant + HIDDEN + b"MAIL FROM:<b@client.example>\r\n" + RCPT + DATA
    for pieces in cuts(sent, len(BEFORE), len(sent) - 1):
        driver = Driver().begin()
        driver.feed(*pieces)
        assert [reply[:3] for reply in driver.replies[-4:]] == ["550", "250", "250", "354"]
        driver.feed(b"second\r\n.\r\n")
        assert [(mail.sender, mail.raw) for mail in driver.mails] == [("b@client.example", b"second\r\n")]


def test_the_daemon_refuses_the_whole_message_and_obeys_nothing_in_it(daemon: Daemon) -> None:
    victim = daemon.account("smuggled@alpha.example")["email"]
    for variant in (*SHORT[::23], *FAMOUS):
        sent = BEFORE + variant + MAIL + rcpt(victim) + DATA + b"Subject: smuggled\r\n\r\nx\r\n.\r\n"
        for pieces in ([sent], [sent[: len(BEFORE) + 1], sent[len(BEFORE) + 1 :]], [sent + MAIL]):
            with connected(daemon.smtp_port) as wire:
                assert wire.say(EHLO, MAIL, rcpt(victim), DATA).startswith("354")
                wire.send(*pieces)
                assert wire.reply().startswith("550 5.6.")
                if pieces == [sent + MAIL]:
                    assert wire.reply().startswith("250 2.1.0")
                assert wire.say(b"QUIT\r\n").startswith("221")
                assert wire.rest()[-1] == ""
    daemon.send(b"From: bob@beta.example\r\nSubject: honest\r\n\r\nx\r\n", victim)
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    listed = daemon.ask("mailbox.list", name=victim)["messages"]
    assert [message["subject"] for message in listed] == ["honest"]
