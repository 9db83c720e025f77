"""The order of an SMTP session under attack: injection before TLS, pipelining, slow and endless clients.

The answers: 554 5.5.0 and the end of the session for whoever speaks out of turn; nothing said in plain text is
known after STARTTLS; a client that costs more than it brings is cut off (421), the others notice nothing.
"""

from __future__ import annotations

import pytest

from events.log.clock import VirtualClock
from node.smtp.limits import SmtpLimits
from tests.attacks.wire import DATA, EHLO, MAIL, connected, rcpt
from tests.daemon import Daemon
from tests.integration.smtp.conftest import OpenDoor, clock, node, open_door, pem
from tests.integration.smtp.support import MemoryNode, Talk, until

__all__ = ["clock", "node", "open_door", "pem"]

INJECTED = MAIL + b"RCPT TO:<victim@alpha.example>\r\n"


@pytest.mark.parametrize(
    "injected", [b"R", b"\r\n", b"NOOP\r\n", INJECTED, b"\x16\x03\x01" + INJECTED], ids=repr
)
def test_plain_text_in_the_segment_of_starttls_ends_the_session(daemon: Daemon, injected: bytes) -> None:
    with connected(daemon.smtp_port) as wire:
        wire.say(EHLO)
        wire.send(b"STARTTLS\r\n" + injected)
        assert wire.reply().startswith("554 5.5.0")
        assert wire.rest()[-1] == ""


@pytest.mark.parametrize("injected", [b"NOOP\r\n", INJECTED], ids=repr)
def test_plain_text_instead_of_a_handshake_is_answered_by_nothing(daemon: Daemon, injected: bytes) -> None:
    with connected(daemon.smtp_port) as wire:
        assert wire.say(EHLO, b"STARTTLS\r\n").startswith("220 2.0.0")
        wire.send(injected)
        left = wire.bytes_left()
        assert b"250" not in left
        assert b"503" not in left


def test_nothing_said_in_plain_text_is_known_over_tls(daemon: Daemon, victim: str) -> None:
    with connected(daemon.smtp_port) as wire:
        wire.say(EHLO, MAIL, rcpt(victim), b"STARTTLS\r\n")
        assert wire.replies[-1].startswith("220 2.0.0")
        wire.secure()
        assert wire.say(DATA).startswith("503 5.5.1")
        assert wire.say(MAIL).startswith("503 5.5.1"), "even the greeting is forgotten"
        assert wire.say(EHLO, MAIL).startswith("250")
        assert wire.say(b"STARTTLS\r\n").startswith("503")


@pytest.mark.parametrize(
    ("before", "segment"),
    [
        ([], EHLO + MAIL),
        ([], b"HELO evil.example\r\n" + MAIL),
        ([EHLO], DATA + b"Subject: x\r\n\r\n.\r\n"),
        ([EHLO], MAIL + EHLO + MAIL),
        ([EHLO, MAIL], b"RCPT TO:<victim@alpha.example>\r\n" + DATA + b"From: e@e.example\r\n\r\n.\r\n"),
        ([b"HELO evil.example\r\n"], MAIL + b"RCPT TO:<victim@alpha.example>\r\n"),
    ],
    ids=range(6),
)
def test_who_speaks_out_of_turn_is_sent_away_and_gets_nothing_in(
    daemon: Daemon, victim: str, before: list[bytes], segment: bytes
) -> None:
    with connected(daemon.smtp_port) as wire:
        if before:
            wire.say(*before)
        wire.send(segment)
        replies = wire.rest()
        assert replies[-2].startswith("554 5.5.0")
        assert not any(reply.startswith("354") for reply in replies)


def test_a_browser_is_told_that_this_is_smtp(daemon: Daemon) -> None:
    """Cross-protocol: a page posts mail commands to this port in the body of a request."""
    with connected(daemon.smtp_port) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n" + EHLO + INJECTED + DATA)
        replies = wire.rest()
        assert replies[1].startswith("554")
        assert replies[2:] == [""]


def test_an_endless_command_line_ends_the_session_and_is_not_held(daemon: Daemon) -> None:
    with connected(daemon.smtp_port) as wire:
        for _ in range(200):
            wire.send(b"x" * 65_536)
        replies = wire.rest()
        assert replies[1].startswith(("421 4.7.0", "500 5.5.2"))
        assert replies[-1] == ""


@pytest.mark.parametrize(
    "line", [b"x" * 2_100, b"\0", b"EHLO \xff\xfe", b"MAIL FROM:<a\0@b.example>", b"RCPT\tTO:<x>"]
)
def test_a_command_that_is_none_is_refused_and_the_session_goes_on(daemon: Daemon, line: bytes) -> None:
    with connected(daemon.smtp_port) as wire:
        assert wire.say(line + b"\r\n")[:3] in {"500", "501", "503"}
        assert wire.say(EHLO).startswith("250")


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\0\r\n", b"\r\r\n"])
def test_a_command_ends_with_crlf_and_nothing_else(daemon: Daemon, ending: bytes) -> None:
    with connected(daemon.smtp_port) as wire:
        wire.send(b"EHLO evil.example" + ending + b"NOOP\r\n")
        assert wire.reply().startswith("500 5.5.2")


@pytest.mark.parametrize(
    "content", [b"\0", b"a\0b\r\n", b"x" * 3_000 + b"\r\n", b"lone\nline\r\n"], ids=range(4)
)
def test_content_that_is_no_mail_is_refused_at_its_end(daemon: Daemon, victim: str, content: bytes) -> None:
    with connected(daemon.smtp_port) as wire:
        wire.say(EHLO, MAIL, rcpt(victim), DATA)
        wire.send(b"Subject: x\r\n\r\n" + content + b"\r\n.\r\n")
        assert wire.reply()[:9] in {"550 5.6.0", "550 5.6.1", "554 5.6.0"}
        assert wire.say(MAIL).startswith("250")


# Time is the door's own here: a slow client takes no real time.


async def test_an_army_of_slow_clients_is_gone_after_the_idle_time(
    open_door: OpenDoor, node: MemoryNode, clock: VirtualClock
) -> None:
    """Each sends a byte of a command every ten seconds; who has mail gets it through all the while."""
    door = await open_door(connections=40, connections_per_address=40, idle_seconds=60)
    army = [await Talk.to(door.port) for _ in range(30)]
    for _ in range(5):
        clock.advance(10_000)
        for slow in army:
            slow.writer.write(b"N")
        honest = await Talk.to(door.port)
        await honest.begin()
        honest.writer.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await honest.reply()).startswith("250")
        honest.close()
        door.sweep()
    clock.advance(20_000)
    door.sweep()
    for slow in army:
        assert (await slow.reply()).startswith("421 4.4.2")
        slow.close()
    await until(lambda: door.sessions == 0)


async def test_a_message_at_a_byte_a_second_is_cut_off(open_door: OpenDoor, clock: VirtualClock) -> None:
    limits = SmtpLimits()
    door = await open_door()
    talk = await Talk.to(door.port)
    await talk.begin()
    for _ in range(limits.idle_seconds + 10):
        clock.advance(1_000)
        talk.writer.write(b"x")
        door.sweep()
    assert (await talk.reply()).startswith("421 4.4.2")
    talk.close()


async def test_open_and_wait_takes_no_place_of_others(open_door: OpenDoor) -> None:
    """One address fills its share of the door and is told so; the door's last places are not its own."""
    door = await open_door(connections=20, connections_per_address=10)
    waiting = [await Talk.to(door.port) for _ in range(10)]
    late = await Talk.to(door.port, greeted=False)
    assert (await late.reply()).startswith("421 4.7.0")
    assert door.sessions == 10
    for talk in waiting:
        talk.close()
