"""Every limit of the door: what is just within goes through, what is beyond gets its code."""

from __future__ import annotations

import msgspec
import pytest

from events.errors import NotFound
from node.smtp.limits import SmtpLimits
from tests.unit.smtp.driver import DATA, EHLO, MAIL, RCPT, Driver


def mail(driver: Driver) -> str:
    """Send one small mail; the reply to its content, or what came instead."""
    driver.feed(MAIL, RCPT)
    return driver.last(DATA, b"x\r\n.\r\n")


def test_a_declared_size_beyond_the_limit_is_refused_at_mail() -> None:
    driver = Driver(SmtpLimits(message_bytes=1000))
    assert driver.last(EHLO, b"MAIL FROM:<> SIZE=1001\r\n").startswith("552 5.3.4")
    assert driver.last(b"MAIL FROM:<> SIZE=1000\r\n").startswith("250")


def test_an_undeclared_size_beyond_the_limit_is_refused_at_the_end_and_held_no_longer() -> None:
    driver = Driver(SmtpLimits(message_bytes=1000, overrun_bytes=100_000)).begin()
    for _ in range(1000):
        assert driver.feed(b"x" * 50 + b"\r\n") == []
        assert driver.memory.held <= 1052
    assert driver.last(b".\r\n").startswith("552 5.3.4")
    assert driver.last(MAIL).startswith("250")


def test_a_lie_about_the_size_gains_nothing() -> None:
    driver = Driver(SmtpLimits(message_bytes=1000))
    driver.feed(EHLO, b"MAIL FROM:<> SIZE=1\r\n", RCPT, DATA)
    assert driver.last(b"x" * 998 + b"\r\n" + b"x\r\n.\r\n").startswith("552 5.3.4")


def test_a_flood_behind_the_limit_is_cut_off() -> None:
    driver = Driver(SmtpLimits(message_bytes=1000, overrun_bytes=1000)).begin()
    driver.feed(b"x" * 78 + b"\r\n")
    for _ in range(24):
        driver.feed(b"x" * 78 + b"\r\n")
    assert not driver.closed
    assert driver.last(b"x" * 78 + b"\r\n").startswith("552 5.3.4")
    assert driver.closed


def test_messages_of_all_sessions_share_the_memory() -> None:
    limits = SmtpLimits(memory_bytes=100)
    first, second = Driver(limits).begin(), Driver(limits)
    second.shared.memory = first.memory
    second.begin()
    first.feed(b"x" * 80)
    second.feed(b"y" * 30)
    assert first.memory.held == 80
    assert second.last(b"\r\n.\r\n").startswith("452 4.3.1")
    assert first.last(b"\r\n.\r\n").startswith("250")
    assert mail(second).startswith("250")


def test_too_many_recipients_are_told_to_come_in_another_mail() -> None:
    driver = Driver(SmtpLimits(recipients=3))
    driver.feed(EHLO, MAIL)
    replies = [driver.last(f"RCPT TO:<r{i}@alpha.example>\r\n".encode()) for i in range(5)]
    assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 3 + ["452 4.5.3"] * 2
    assert driver.last(DATA, b".\r\n").startswith("250")
    assert len(driver.mails[0].recipients) == 3


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_a_command_line_may_be_just_as_long_as_the_limit(cut: int | None) -> None:
    for length, code in ((100, "250"), (101, "500 5.5.2"), (350, "500 5.5.2")):
        driver = Driver(SmtpLimits(command_bytes=100))
        line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
        step = cut or len(line)
        replies = driver.feed(*(line[i : i + step] for i in range(0, len(line), step)))
        assert len(replies) == 1
        assert replies[0].startswith(code)
        assert driver.last(b"NOOP\r\n").startswith("250")


def test_a_command_line_without_end_is_cut_off_and_never_held() -> None:
    driver = Driver(SmtpLimits(command_bytes=100, errors=5))
    for _ in range(100):
        if driver.closed:
            break
        driver.feed(b"x" * 60)
        assert driver.session.buffered <= 160
    assert driver.closed
    assert driver.replies[-1].startswith("421 4.7.0")


def test_a_path_that_is_too_long_is_refused() -> None:
    driver = Driver(SmtpLimits(path_bytes=30))
    driver.feed(EHLO)
    assert driver.last(b"MAIL FROM:<" + b"a" * 19 + b"@b.example>\r\n").startswith("501 5.1.7")
    assert driver.last(b"MAIL FROM:<" + b"a" * 18 + b"@b.example>\r\n").startswith("250")
    assert driver.last(b"RCPT TO:<" + b"a" * 19 + b"@b.example>\r\n").startswith("501 5.1.3")


def test_a_text_line_that_is_too_long_is_refused() -> None:
    driver = Driver(SmtpLimits(line_bytes=1000)).begin()
    assert driver.last(b"x" * 999 + b"\r\n.\r\n").startswith("554 5.6.0")
    assert driver.last(MAIL, RCPT, DATA, b"x" * 998 + b"\r\n.\r\n").startswith("250")


def test_a_client_that_only_makes_errors_is_sent_away() -> None:
    driver = Driver(SmtpLimits(errors=20))
    replies = driver.feed(*[b"WIZ\r\n"] * 20)
    assert [reply[:3] for reply in replies] == ["500"] * 20 + ["421"]
    assert driver.closed


def test_guessing_recipients_is_counted_and_an_accepted_mail_forgives() -> None:
    driver = Driver(SmtpLimits(errors=5))
    driver.feed(EHLO)
    good = driver.admit
    for _ in range(3):
        driver.admit = lambda _: NotFound("no such mailbox here")
        driver.feed(MAIL, *[RCPT] * 4, b"RSET\r\n")
        assert not driver.closed
        driver.admit = good
        assert mail(driver).startswith("250")
    driver.admit = lambda _: NotFound("no such mailbox here")
    assert driver.last(MAIL, *[RCPT] * 5).startswith("421 4.7.0")


def test_junk_commands_beyond_the_limit_count_as_errors() -> None:
    driver = Driver(SmtpLimits(junk_commands=10, errors=3))
    replies = driver.feed(*[b"NOOP\r\n", b"RSET\r\n"] * 10)
    assert driver.closed
    assert [reply[:3] for reply in replies] == ["250"] * 12 + ["421"]


def test_commands_of_one_session_are_bounded() -> None:
    driver = Driver(SmtpLimits(commands=50))
    driver.feed(EHLO, MAIL)
    replies = driver.feed(*[RCPT] * 60)
    assert len(replies) == 49
    assert replies[-1].startswith("421 4.7.0")


def test_mails_of_one_session_are_bounded() -> None:
    driver = Driver(SmtpLimits(mails=2))
    driver.feed(EHLO)
    assert mail(driver).startswith("250")
    assert mail(driver).startswith("250")
    assert driver.last(MAIL).startswith("421 4.7.0")
    assert driver.closed


def test_an_idle_client_is_sent_away() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10))
    assert driver.tick(10) == []
    driver.feed(b"NOOP\r\n")
    assert driver.tick(10) == []
    assert driver.tick(1)[0].startswith("421 4.4.2")
    assert driver.closed


def test_a_command_byte_by_byte_is_no_sign_of_life() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10))
    for _ in range(10):
        driver.feed(b"x")
        assert driver.tick(1) == []
    assert driver.tick(1)[0].startswith("421 4.4.2")


def test_a_session_that_is_kept_alive_for_nothing_ends() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10, session_seconds=60))
    for _ in range(12):
        driver.feed(b"NOOP\r\n")
        assert driver.tick(5) == []
    assert driver.tick(1)[0].startswith("421 4.4.2 session")


def test_a_transfer_that_stalls_is_cut_off() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10)).begin()
    driver.feed(b"x" * 1_000_000)
    assert driver.tick(10) == []
    assert driver.tick(1)[0].startswith("421 4.4.2")
    assert driver.memory.held == 0


@pytest.mark.parametrize(("rate", "survives"), [(490, False), (500, True)])
def test_a_slow_transfer_is_cut_off_and_a_just_fast_enough_one_is_not(rate: int, survives: bool) -> None:
    driver = Driver(SmtpLimits(idle_seconds=10, data_bytes_per_second=500)).begin()
    for _ in range(1000):
        driver.feed(b"x" * (rate - 2) + b"\r\n")
        driver.tick(1)
        if driver.closed:
            break
    assert driver.closed is not survives
    assert survives or driver.replies[-1].startswith("421 4.4.2 transfer")


def test_the_longest_transfer_is_bounded() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10, data_seconds=60)).begin()
    for _ in range(60):
        driver.feed((b"x" * 98 + b"\r\n") * 10)
        assert driver.tick(1) == []
    driver.feed(b"x\r\n")
    assert driver.tick(1)[0].startswith("421 4.4.2")


def test_a_session_that_waits_for_the_node_is_not_idle() -> None:
    driver = Driver(SmtpLimits(idle_seconds=10)).begin()
    driver.accept = lambda _: None
    driver.feed(b"x\r\n.\r\n")
    assert driver.tick(1000) == []
    driver.answer("m1")
    assert driver.replies[-1].startswith("250 2.0.0 accepted as m1")
    assert driver.tick(10) == []


@pytest.mark.parametrize("name", [f.name for f in msgspec.structs.fields(SmtpLimits) if f.type is int])
def test_a_limit_that_lets_nothing_through_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert({name: -1}, SmtpLimits)
