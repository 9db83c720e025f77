"""The session's state machine: what is answered to what, however the bytes are cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import (
    Busy,
    CorruptRecord,
    Forbidden,
    MailboxDisabled,
    MailboxFull,
    NotFound,
    StorageUnavailable,
)
from events.mail import Recipient
from node.smtp.actions import Transition
from node.smtp.limits import SmtpLimits
from node.smtp.pace import Phase
from tests.unit.smtp.driver import (
    DATA,
    EHLO,
    MAIL,
    RCPT,
    Driver,
    Feeding,
    byte_by_byte,
    whole,
)

FEEDINGS = pytest.mark.parametrize("how", [whole, byte_by_byte])
ENHANCED = re.compile(r"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3} ")

_MAIL_REPLIES = ["250 2.1.0", "250 2.1.5", "354"]

# (segments, each sent after the replies to the one before; the replies, by their beginning)
SCRIPTS: dict[str, tuple[list[bytes], list[str]]] = {
    "a mail": (
        [EHLO, MAIL, RCPT, DATA, b"Subject: x\r\n\r\nhello\r\n.\r\n", b"QUIT\r\n"],
        ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0 accepted as m1", "221 2.0.0"],
    ),
    "a mail in two segments": (
        [EHLO, MAIL + RCPT + DATA, b"x\r\n.\r\nQUIT\r\n"],
        ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0 accepted as m1", "221 2.0.0"],
    ),
    "two mails, the second pipelined behind the first": (
        [EHLO, MAIL + RCPT + DATA, b"x\r\n.\r\n" + MAIL + RCPT + DATA, b"y\r\n.\r\n"],
        [*_MAIL_REPLIES, "250 2.0.0 accepted as m1", *_MAIL_REPLIES, "250 2.0.0 accepted as m2"],
    ),
    "lower case": (
        [b"ehlo x\r\n", b"mail from:<a@b.example>\r\n", b"rcpt to:<c@d.example>\r\n", b"data\r\n", b".\r\n"],
        ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"],
    ),
    "null sender": ([EHLO, b"MAIL FROM:<>\r\n", RCPT], ["250 2.1.0", "250 2.1.5"]),
    "a space before the path": ([EHLO, b"MAIL FROM: <a@b.example>\r\n"], ["250 2.1.0"]),
    "postmaster without domain": ([EHLO, MAIL, b"RCPT TO:<PostMaster>\r\n"], ["250 2.1.0", "250 2.1.5"]),
    "parameters": ([EHLO, b"MAIL FROM:<> SIZE=100 BODY=8BITMIME SMTPUTF8\r\n"], ["250 2.1.0"]),
    "7bit": ([EHLO, b"MAIL FROM:<> body=7bit\r\n"], ["250 2.1.0"]),
    "MAIL before EHLO": ([MAIL], ["503 5.5.1"]),
    "RCPT before EHLO": ([RCPT], ["503 5.5.1"]),
    "DATA before EHLO": ([DATA], ["503 5.5.1"]),
    "RCPT before MAIL": ([EHLO, RCPT], ["503 5.5.1"]),
    "DATA before MAIL": ([EHLO, DATA], ["503 5.5.1"]),
    "DATA before RCPT": ([EHLO, MAIL, DATA], ["250 2.1.0", "503 5.5.1"]),
    "MAIL in a mail": ([EHLO, MAIL, MAIL], ["250 2.1.0", "503 5.5.1"]),
    "RSET ends a mail": ([EHLO, MAIL, b"RSET\r\n", RCPT], ["250 2.1.0", "250 2.0.0", "503 5.5.1"]),
    "EHLO ends a mail": ([EHLO, MAIL, b"HELO x\r\n", RCPT], ["250 2.1.0", "503 5.5.1"]),
    "EHLO without name": ([b"EHLO\r\n"], ["501 5.5.4"]),
    "EHLO with two names": ([b"EHLO a b\r\n"], ["501 5.5.4"]),
    "DATA with argument": ([EHLO, b"DATA now\r\n"], ["501 5.5.4"]),
    "RSET with argument": ([EHLO, b"RSET now\r\n"], ["501 5.5.4"]),
    "QUIT with argument": ([b"QUIT now\r\n", b"NOOP\r\n"], ["501 5.5.4", "250 2.0.0"]),
    "NOOP with argument": ([b"NOOP whatever\r\n"], ["250 2.0.0"]),
    "spaces behind a command": ([b"NOOP  \r\n", b"RSET \r\n"], ["250 2.0.0", "250 2.0.0"]),
    "VRFY": ([EHLO, b"VRFY someone\r\n"], ["252 2.5.2"]),
    "VRFY without argument": ([EHLO, b"VRFY\r\n"], ["501 5.5.4"]),
    "EXPN": ([EHLO, b"EXPN list\r\n"], ["502 5.5.1"]),
    "HELP": ([b"HELP\r\n"], ["214 2.0.0"]),
    "AUTH": ([EHLO, b"AUTH PLAIN AAAA\r\n"], ["502 5.5.1"]),
    "BDAT": ([EHLO, b"BDAT 1 LAST\r\n"], ["502 5.5.1"]),
    "STARTTLS where there is no certificate": ([EHLO, b"STARTTLS\r\n"], ["502 5.5.1"]),
    "an unknown command": ([b"WIZ\r\n", b"\r\n", b" \r\n"], ["500 5.5.1"] * 3),
    "a bare LF behind a command": ([b"NOOP\n", b"NOOP\r\n"], ["500 5.5.2", "250 2.0.0"]),
    "a bare CR in a command": ([b"NOOP\rNOOP\r\n"], ["500 5.5.2"]),
    "NUL in a command": ([b"NOOP \x00\r\n"], ["500 5.5.2"]),
    "not UTF-8": ([b"NOOP \xff\r\n"], ["500 5.5.2"]),
    "unknown parameter of MAIL": ([EHLO, b"MAIL FROM:<> FUTURE=1\r\n"], ["555 5.5.4"]),
    "DSN parameters of MAIL": ([EHLO, b"MAIL FROM:<> RET=HDRS ENVID=1\r\n"], ["555 5.5.4"]),
    "DSN parameters of RCPT": ([EHLO, MAIL, RCPT[:-2] + b" NOTIFY=NEVER\r\n"], ["250 2.1.0", "555 5.5.4"]),
    "AUTH parameter": ([EHLO, b"MAIL FROM:<> AUTH=<>\r\n"], ["555 5.5.4"]),
    "SIZE twice": ([EHLO, b"MAIL FROM:<> SIZE=1 SIZE=2\r\n"], ["501 5.5.4"]),
    "SIZE is no number": ([EHLO, b"MAIL FROM:<> SIZE=-1\r\n"], ["501 5.5.4"]),
    "SIZE without value": ([EHLO, b"MAIL FROM:<> SIZE\r\n"], ["501 5.5.4"]),
    "BODY is unknown": ([EHLO, b"MAIL FROM:<> BODY=BINARYMIME\r\n"], ["501 5.5.4"]),
    "SMTPUTF8 with value": ([EHLO, b"MAIL FROM:<> SMTPUTF8=1\r\n"], ["501 5.5.4"]),
    "bad sender": ([EHLO, b"MAIL FROM:a@b.example\r\n"], ["501 5.1.7"]),
    "bad recipient": ([EHLO, MAIL, b"RCPT TO:<a b@c.example>\r\n"], ["250 2.1.0", "501 5.1.3"]),
    "null recipient": ([EHLO, MAIL, b"RCPT TO:<>\r\n"], ["250 2.1.0", "501 5.1.3"]),
    "UTF-8 sender without SMTPUTF8": ([EHLO, "MAIL FROM:<ä@b.example>\r\n".encode()], ["553 5.6.7"]),
    "UTF-8 recipient without SMTPUTF8": (
        [EHLO, MAIL, "RCPT TO:<a@bücher.example>\r\n".encode()],
        ["250 2.1.0", "553 5.6.7"],
    ),
    "UTF-8 addresses": (
        [EHLO, "MAIL FROM:<ä@b.example> SMTPUTF8\r\n".encode(), "RCPT TO:<用户@例子.example>\r\n".encode()],
        ["250 2.1.0", "250 2.1.5"],
    ),
}


@FEEDINGS
@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_answered_as_written(name: str, how: Feeding) -> None:
    segments, expected = SCRIPTS[name]
    driver = Driver()
    driver.feed(*segments, how=how)
    replies = [line for line in driver.replies[1:] if "mx.alpha.example" not in line and line not in _EHLO]
    assert len(replies) == len(expected), replies
    for reply, start in zip(replies, expected, strict=True):
        assert reply.startswith(start)


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_answered_behind_quit(name: str) -> None:
    driver = Driver()
    driver.feed(*SCRIPTS[name][0])
    if not driver.closed:
        driver.feed(b"QUIT\r\n")
    assert driver.closed
    assert driver.feed(MAIL + RCPT + DATA + b"\x00\xff.\r\n" * 100) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_reply_but_greetings_and_354_has_an_enhanced_code_of_its_class(name: str) -> None:
    driver = Driver()
    driver.feed(*SCRIPTS[name][0])
    for line in driver.replies[1:]:
        if "mx.alpha.example" not in line and line not in _EHLO and not line.startswith("354"):
            assert ENHANCED.match(line), line


_EHLO = {
    "250-PIPELINING",
    "250-SIZE 31457280",
    "250-8BITMIME",
    "250-SMTPUTF8",
    "250-ENHANCEDSTATUSCODES",
    "250-STARTTLS",
    "250 HELP",
}


def test_ehlo_offers_starttls_only_with_a_certificate_and_in_plain_text() -> None:
    assert set(Driver().feed(EHLO)[1:]) == _EHLO - {"250-STARTTLS"}
    driver = Driver(tls=True)
    assert set(driver.feed(EHLO)[1:]) == _EHLO
    driver.feed(b"STARTTLS\r\n")
    driver.perform(driver.session.secured("TLSv1.3 X", driver.now))
    assert set(driver.feed(EHLO)[1:]) == _EHLO - {"250-STARTTLS"}


def test_the_accepted_mail_is_what_was_sent_with_what_is_known_of_the_client() -> None:
    driver = Driver()
    driver.feed(EHLO, b"MAIL FROM:<a@b.example> SIZE=12\r\n", RCPT, b"RCPT TO:<x@d.example>\r\n", DATA)
    driver.feed(b"A: b\r\n\r\n..\r\n...x\r\n.\r\n")
    (mail,) = driver.mails
    assert mail.raw == b"A: b\r\n\r\n.\r\n..x\r\n"
    assert mail.sender == "a@b.example"
    assert mail.recipients == (Recipient("0x1", "b@alpha.example"), Recipient("0x1", "x@d.example"))
    facts = mail.facts
    assert (facts.client, facts.helo, facts.esmtp, facts.tls) == ("192.0.2.1", "client.example", True, "")
    assert [admit.size for admit in driver.admits] == [12, 12]


def test_a_recipient_named_twice_gets_one_mail() -> None:
    driver = Driver().begin()
    driver.feed(b".\r\n", MAIL, RCPT, RCPT, DATA, b".\r\n")
    assert [len(mail.recipients) for mail in driver.mails] == [1, 1]


def test_the_empty_message_is_accepted() -> None:
    assert Driver().begin().last(b".\r\n").startswith("250")


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (NotFound("no such mailbox here"), "550 5.1.1 no such mailbox here"),
        (MailboxFull("mailbox is full"), "452 4.2.2 mailbox is full"),
        (MailboxDisabled("mailbox is disabled"), "550 5.2.1 mailbox is disabled"),
        (Forbidden("sender is not welcome", "book says revoked"), "550 5.7.1 sender is not welcome"),
        (StorageUnavailable("try again", "disk full"), "451 4.3.0 try again"),
        (Busy("come again"), "451 4.3.2 come again"),
        (CorruptRecord("broken", "secret path"), "451 4.3.0 temporary failure"),
        (ValueError("secret"), "451 4.3.0 temporary failure"),
    ],
)
def test_an_error_of_a_port_becomes_the_reply_for_recipient_and_message_alike(
    error: Exception, reply: str
) -> None:
    driver = Driver()
    driver.admit = lambda _: error
    assert driver.last(EHLO, MAIL, RCPT) == reply
    driver = Driver().begin()
    driver.accept = lambda _: error
    assert driver.last(b"x\r\n.\r\n") == reply
    assert driver.last(MAIL).startswith("250")


def test_a_public_text_can_not_forge_a_reply() -> None:
    driver = Driver()
    driver.admit = lambda _: NotFound("no\r\n250 yes \x1b[31m")
    assert driver.last(EHLO, MAIL, RCPT) == r"550 5.1.1 no\r\n250 yes \x1b[31m"


def test_one_refused_recipient_does_not_harm_the_others() -> None:
    driver = Driver()
    driver.admit = lambda a: NotFound("no") if a.recipient[0] == "x" else Recipient("0x1", a.recipient)
    replies = driver.feed(EHLO, MAIL + b"RCPT TO:<x@alpha.example>\r\n" + RCPT + DATA)[-4:]
    assert [reply[:3] for reply in replies] == ["250", "550", "250", "354"]
    driver.feed(b"x\r\n.\r\n")
    assert driver.mails[0].recipients == (Recipient("0x1", "b@alpha.example"),)


def test_data_after_only_refused_recipients_is_refused() -> None:
    driver = Driver()
    driver.admit = lambda _: NotFound("no")
    assert driver.last(EHLO, MAIL + RCPT + DATA).startswith("554 5.5.1")


def test_input_waits_while_a_question_is_open() -> None:
    driver = Driver()
    driver.admit = lambda _: None
    replies = driver.feed(EHLO, MAIL + RCPT + b"NOOP\r\n")
    assert replies[-1].startswith("250 2.1.0")
    assert driver.session.waiting
    assert driver.session.buffered == 6
    driver.answer(Recipient("0x1", "b@alpha.example"))
    assert [reply[:9] for reply in driver.replies[-2:]] == ["250 2.1.5", "250 2.0.0"]


def test_a_busy_node_says_so_at_mail_and_not_later() -> None:
    driver = Driver(busy=True)
    assert driver.last(EHLO, MAIL).startswith("451 4.3.2")
    driver.is_busy = False
    driver.begin()
    driver.is_busy = True
    assert driver.last(b".\r\n").startswith("250")


@pytest.mark.parametrize(
    "segment",
    [
        EHLO + MAIL,
        EHLO + MAIL + RCPT + DATA + b"x\r\n.\r\nQUIT\r\n",
        b"HELO x\r\n" + MAIL,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n" + EHLO + MAIL,
    ],
)
def test_a_client_that_speaks_before_its_turn_is_cut_off(segment: bytes) -> None:
    driver = Driver()
    assert driver.last(segment).startswith("554 5.5.")
    assert driver.closed


def test_content_before_354_is_refused() -> None:
    driver = Driver()
    assert driver.last(EHLO, MAIL, RCPT, DATA + b"x\r\n.\r\n").startswith("554 5.5.0")
    assert driver.closed
    assert not driver.mails


def test_a_client_that_said_helo_may_not_pipeline() -> None:
    driver = Driver()
    assert driver.last(b"HELO x\r\n", MAIL + RCPT).startswith("554 5.5.0")
    driver = Driver()
    assert driver.last(b"HELO x\r\n", MAIL, RCPT, DATA, b"x\r\n.\r\nQUIT\r\n").startswith("221")


def test_bytes_before_the_banner_end_the_session() -> None:
    driver = Driver()
    driver.session.phase = Phase.BANNER
    assert driver.last(EHLO).startswith("554 5.5.0")
    assert driver.closed


@pytest.mark.parametrize("behind", [EHLO, MAIL, b"x", b"\r\n", b"\x16\x03\x01"])
def test_plain_text_in_the_segment_of_starttls_is_refused(behind: bytes) -> None:
    driver = Driver(tls=True)
    assert driver.last(EHLO, b"STARTTLS\r\n" + behind).startswith("554 5.5.0")
    assert driver.closed
    assert not driver.handshake


def test_plain_text_between_starttls_and_handshake_is_never_obeyed() -> None:
    driver = Driver(tls=True)
    driver.feed(EHLO, b"STARTTLS\r\n")
    assert driver.feed(MAIL + RCPT) == []
    assert driver.closed


def test_nothing_from_before_tls_is_remembered() -> None:
    driver = Driver(tls=True)
    assert driver.last(EHLO, MAIL, RCPT, b"STARTTLS\r\n").startswith("220 2.0.0")
    driver.perform(driver.session.secured("TLSv1.3 X", driver.now))
    assert driver.last(RCPT).startswith("503")
    assert driver.last(MAIL).startswith("503")
    assert driver.last(EHLO, b"STARTTLS\r\n").startswith("503")
    assert driver.last(MAIL, RCPT, DATA, b".\r\n").startswith("250")
    assert driver.mails[0].facts.tls == "TLSv1.3 X"


def test_stopping_lets_a_message_end_and_sends_everyone_else_away() -> None:
    idle = Driver()
    idle.perform(idle.session.stop())
    assert idle.replies[-1].startswith("421 4.3.2")
    assert idle.closed
    sending = Driver().begin()
    sending.perform(sending.session.stop())
    assert not sending.closed
    assert [line[:9] for line in sending.feed(b"x\r\n.\r\n")] == ["250 2.0.0", "421 4.3.2"]
    assert sending.closed


def test_stopping_lets_a_refused_message_end_too() -> None:
    driver = Driver().begin()
    driver.perform(driver.session.stop())
    assert [line[:9] for line in driver.feed(b"x\ny\r\n.\r\n")] == ["550 5.6.1", "421 4.3.2"]


def test_each_step_is_noted_once() -> None:
    driver = Driver().begin()
    driver.feed(b"x\r\n.\r\n")
    assert driver.transitions() == [
        Transition.HELO,
        Transition.MAIL,
        Transition.RECIPIENT,
        Transition.DATA,
        Transition.ACCEPTED,
    ]
    driver.feed(b"WIZ\r\n")
    assert driver.notes[-1].fields == {"reason": "unknown_command", "reply": "500 5.5.1"}


_PIECES = [
    EHLO,
    b"HELO x\r\n",
    MAIL,
    RCPT,
    DATA,
    b".\r\n",
    b"\r\n.\r\n",
    b"RSET\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
]
_SEGMENTS = st.lists(
    st.one_of(
        st.sampled_from(_PIECES),
        st.lists(st.sampled_from([*_PIECES, b"x", b"\r", b"\n", b".", b"\x00", b"\xff"]), max_size=6).map(
            b"".join
        ),
        st.binary(max_size=30),
    ),
    max_size=25,
)


@given(segments=_SEGMENTS, tls=st.booleans(), errors=st.integers(1, 20))
def test_any_bytes_are_answered_in_form_and_never_with_a_fault(
    segments: list[bytes], tls: bool, errors: int
) -> None:
    driver = Driver(SmtpLimits(errors=errors, command_bytes=40, message_bytes=60, line_bytes=30), tls=tls)
    for segment in segments:
        driver.feed(segment)
        if driver.handshake and driver.session.phase is Phase.HANDSHAKE:
            driver.perform(driver.session.secured("TLS", driver.now))
        if driver.closed:
            break
    assert all(re.match(r"[2-5]\d\d[ -]", line) for line in driver.replies)
    assert len(driver.mails) == sum("accepted as" in line for line in driver.replies)
    driver.session.lost()
    assert driver.memory.held == 0


def test_a_message_whose_client_left_counts_as_held_until_it_is_stored() -> None:
    """Else whoever hangs up behind the last dot could have the node hold as many as it likes."""
    driver = Driver()
    driver.accept = lambda _: None
    driver.begin().feed(b"x\r\n.\r\n")
    held = driver.memory.held
    assert held > 0
    driver.session.lost()
    assert driver.memory.held == held
    driver.answer("m1")
    assert driver.memory.held == 0
    assert Transition.ACCEPTED in driver.transitions()
