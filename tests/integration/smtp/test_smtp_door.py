"""The door on real sockets, under both event loops."""

from __future__ import annotations

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from events.errors import Misconfigured, StorageUnavailable
from events.log.clock import VirtualClock
from node.smtp.connection import client_key
from node.smtp.door import SmtpDoor
from node.smtp.limits import SmtpLimits
from tests.integration.smtp.conftest import OpenDoor
from tests.integration.smtp.support import MAIL, RCPT, MemoryNode, Talk, until


async def test_a_mail_is_stored_before_it_is_accepted(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    node.hold = asyncio.Event()
    talk = await (await Talk.to(door.port)).begin()
    talk.writer.write(b"Subject: x\r\n\r\nhello\r\n.\r\n")
    await node.accepting.wait()
    assert door.counters.accepted == 0
    node.hold.set()
    assert await talk.reply() == "250 2.0.0 accepted as m1"
    assert node.mails[0].raw == b"Subject: x\r\n\r\nhello\r\n"
    assert await talk.say("QUIT") == "221 2.0.0 goodbye"
    assert await talk.closed()
    assert door.counters.accepted == 1


async def test_a_large_message_in_many_segments_arrives_unchanged(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    talk = await (await Talk.to(door.port)).begin()
    raw = b"".join(b".%d " % i + b"x" * 60 + b"\r\n" for i in range(60_000))
    talk.writer.write((b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
    assert (await talk.reply()).startswith("250")
    assert node.mails[0].raw == raw
    talk.close()


async def test_a_pipelined_mail_is_answered_in_one_go(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    talk = await Talk.to(door.port)
    await talk.say("EHLO c.example")
    talk.writer.write(f"{MAIL}\r\n{RCPT}\r\nRCPT TO:<x@other.example>\r\nDATA\r\n".encode())
    assert [(await talk.reply())[:9] for _ in range(4)] == [
        "250 2.1.0",
        "250 2.1.5",
        "550 5.1.1",
        "354 end w",
    ]
    talk.writer.write(f"x\r\n.\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
    assert [(await talk.reply())[:3] for _ in range(4)] == ["250", "250", "250", "354"]
    talk.writer.write(b"y\r\n.\r\nQUIT\r\n")
    assert [(await talk.reply())[:3] for _ in range(2)] == ["250", "221"]
    assert [mail.raw for mail in node.mails] == [b"x\r\n", b"y\r\n"]


async def test_a_whole_session_in_one_segment_is_unauthorised_pipelining(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    talk = await Talk.to(door.port, greeted=False)
    talk.writer.write(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\nx\r\n.\r\nQUIT\r\n".encode())
    assert (await talk.reply()).startswith("220")
    assert (await talk.reply()).startswith("554 5.5.0")
    assert await talk.closed()
    assert not node.mails


async def test_an_early_talker_is_refused_when_the_banner_is_delayed(open_door: OpenDoor) -> None:
    door = await open_door(greeting_delay_ms=60_000)
    talk = await Talk.to(door.port, greeted=False)
    talk.writer.write(b"EHLO c\r\n")
    assert (await talk.reply()).startswith("554 5.5.0")
    assert await talk.closed()
    assert door.counters.refused["early_talker"] == 1


async def test_a_patient_client_gets_the_delayed_banner(open_door: OpenDoor) -> None:
    door = await open_door(greeting_delay_ms=5)
    talk = await Talk.to(door.port)
    assert (await talk.say("EHLO c")).startswith("250")
    talk.close()


async def test_an_unknown_exception_is_a_temporary_failure_and_one_log_line(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    node.error = RuntimeError("secret detail")
    talk = await (await Talk.to(door.port)).begin()
    with capture_logs() as logs:
        assert await talk.say("x\r\n.") == "451 4.3.0 temporary failure"
    errors = [log for log in logs if log["log_level"] == "error"]
    assert len(errors) == 1
    assert errors[0]["session"]
    assert errors[0]["exc_info"] is node.error
    node.error = None
    assert (await talk.say(MAIL, RCPT, "DATA", "x\r\n.")).startswith("250")
    talk.close()


async def test_a_fault_of_the_session_itself_is_reported_and_ends_only_that_session(
    open_door: OpenDoor,
) -> None:
    door = await open_door()
    door.shared.busy = lambda: 1 // 0 == 0
    broken, other = await Talk.to(door.port), await Talk.to(door.port)
    with capture_logs() as logs:
        assert (await broken.say("EHLO c", MAIL)).startswith("421 4.3.0")
    assert await broken.closed()
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["session failed"]
    assert door.counters.faults == 1
    assert (await other.say("EHLO c")).startswith("250")
    other.close()


async def test_a_private_reason_goes_to_the_log_and_not_to_the_client(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    node.error = StorageUnavailable("try again later", "disk full on /secret")
    talk = await (await Talk.to(door.port)).begin()
    with capture_logs() as logs:
        assert await talk.say("x\r\n.") == "451 4.3.0 try again later"
    assert "disk full" in next(log["why"] for log in logs if log["event"] == "port refused")
    talk.close()


async def test_one_line_a_step_with_remote_text_escaped(open_door: OpenDoor) -> None:
    with capture_logs() as logs:
        door = await open_door()
        talk = await Talk.to(door.port)
        await talk.say("EHLO c.example", MAIL, RCPT, "DATA", "x\r\n.")
        await talk.say("MAIL FROM:<\u202e@b.example> SMTPUTF8", "QUIT")
        await until(lambda: door.sessions == 0)
    steps = [log["event"] for log in logs]
    assert steps == [
        "connected",
        "helo",
        "mail",
        "recipient accepted",
        "data",
        "accepted",
        "mail",
        "closed",
    ]
    assert len({log["session"] for log in logs}) == 1
    assert logs[-2]["sender"] == r"\u202e@b.example"
    assert logs[-1]["why"] == "quit"


async def test_idle_and_slow_clients_are_sent_away_by_the_sweep(
    open_door: OpenDoor, clock: VirtualClock
) -> None:
    door = await open_door(idle_seconds=10)
    idle = await Talk.to(door.port)
    slow = await (await Talk.to(door.port)).begin()
    clock.advance(5_000)
    await slow.say("x\r\n.")
    await slow.begin()
    clock.advance(6_000)
    door.sweep()
    assert (await idle.reply()).startswith("421 4.4.2")
    assert await idle.closed()
    idle.close()
    for _ in range(12):
        slow.writer.write(b"x")
        clock.advance(1_000)
        door.sweep()
    assert (await slow.reply()).startswith("421 4.4.2")
    assert await slow.closed()
    clock.advance(11_000)
    door.sweep()
    await until(lambda: door.sessions == 0)


async def test_a_client_that_does_not_read_is_cut_off(open_door: OpenDoor, clock: VirtualClock) -> None:
    door = await open_door(idle_seconds=10, farewell_seconds=5, commands=10**7, junk_commands=10**7)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", door.port))
    await loop.sock_recv(client, 1000)
    await loop.sock_sendall(client, b"EHLO c\r\n")
    await loop.sock_recv(client, 1000)
    flood = asyncio.create_task(loop.sock_sendall(client, b"HELP\r\n" * 300_000))
    connection = next(iter(door._connections))
    await until(lambda: connection._choked)
    assert not connection._reading
    clock.advance(11_000)
    door.sweep()
    assert door.sessions == 1
    clock.advance(6_000)
    door.sweep()
    await until(lambda: door.sessions == 0)
    flood.cancel()
    client.close()


async def test_a_node_that_does_not_answer_is_a_temporary_failure(
    open_door: OpenDoor, node: MemoryNode, clock: VirtualClock
) -> None:
    door = await open_door(answer_seconds=60)
    node.hold = asyncio.Event()
    talk = await (await Talk.to(door.port)).begin()
    talk.writer.write(b"x\r\n.\r\n")
    await node.accepting.wait()
    clock.advance(61_000)
    door.sweep()
    assert (await talk.reply()).startswith("451 4.3.0")
    node.hold = None
    assert (await talk.say(MAIL, RCPT, "DATA", "x\r\n.")).startswith("250")
    talk.close()


async def test_a_mail_whose_client_left_before_the_answer_is_stored_all_the_same(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    node.hold = asyncio.Event()
    talk = await (await Talk.to(door.port)).begin()
    talk.writer.write(b"x\r\n.\r\n")
    await node.accepting.wait()
    talk.reset()
    await until(lambda: door.sessions == 0)
    node.hold.set()
    await until(lambda: len(node.mails) == 1)
    await until(lambda: door.counters.accepted == 1)


async def test_a_client_that_only_closed_its_sending_side_still_hears_the_answer(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    node.hold = asyncio.Event()
    talk = await (await Talk.to(door.port)).begin()
    talk.writer.write(b"x\r\n.\r\n")
    await node.accepting.wait()
    talk.writer.write_eof()
    node.hold.set()
    assert (await talk.reply()).startswith("250")
    assert await talk.closed()


async def test_a_message_cut_off_by_the_client_is_never_accepted(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    for end in (b"x\r\n.", b"x\r\n.\r", b"x\r\n"):
        talk = await (await Talk.to(door.port)).begin()
        talk.writer.write(end)
        talk.writer.write_eof()
        assert await talk.closed()
    assert not node.mails


async def test_connections_are_bounded_per_client_and_in_all(open_door: OpenDoor) -> None:
    door = await open_door(connections=3, connections_per_address=2)
    talks = [await Talk.to(door.port) for _ in range(2)]
    third = await Talk.to(door.port, greeted=False)
    assert (await third.reply()).startswith("421 4.7.0")
    assert await third.closed()
    await until(lambda: door.sessions == 2)
    talks[0].close()
    await until(lambda: door.sessions == 1)
    (await Talk.to(door.port)).close()
    talks[1].close()
    door = await open_door(connections=1, connections_per_address=5)
    first = await Talk.to(door.port)
    second = await Talk.to(door.port, greeted=False)
    assert (await second.reply()).startswith("421 4.3.2")
    first.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_one_ipv6_customer_is_one_client(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) is same


async def test_back_pressure_reaches_the_client_at_mail(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    node.is_busy = True
    talk = await Talk.to(door.port)
    assert (await talk.say("EHLO c", MAIL)).startswith("451 4.3.2")
    assert door.counters.refused["busy"] == 1
    talk.close()


async def test_drain_lets_a_running_message_end_and_sends_idle_clients_away(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    port = door.port
    idle = await Talk.to(port)
    sending = await (await Talk.to(port)).begin()
    draining = asyncio.create_task(door.drain(10))
    assert (await idle.reply()).startswith("421 4.3.2")
    assert await idle.closed()
    with pytest.raises(OSError):
        await Talk.to(port)
    assert (await sending.say("x\r\n.")).startswith("250")
    assert (await sending.reply()).startswith("421 4.3.2")
    await draining
    assert len(node.mails) == 1


async def test_drain_cuts_what_does_not_end_in_time(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    talk = await (await Talk.to(door.port)).begin()
    talk.writer.write(b"x\r\n")
    await door.drain(0.05)
    assert door.sessions == 0
    assert not node.mails
    talk.close()


async def test_a_port_in_use_is_one_clear_line(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    second = SmtpDoor(node, SmtpLimits(), None, "mx", VirtualClock())
    with pytest.raises(Misconfigured) as caught:
        await second.start("127.0.0.1", door.port)
    assert str(caught.value) == (
        f"smtp.listen: 127.0.0.1:{door.port}: already in use; stop the other program or choose another port"
    )
    with pytest.raises(Misconfigured, match=r"smtp\.listen"):
        await second.start("192.0.2.77", 0)


async def test_a_second_mail_in_rubbish_after_quit_is_ignored(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door()
    talk = await Talk.to(door.port)
    await talk.say("EHLO c")
    talk.writer.write(f"QUIT\r\n{MAIL}\r\n{RCPT}\r\n".encode())
    assert (await talk.reply()).startswith("221")
    assert await talk.closed()


@pytest.mark.parametrize("hostname", ["", "mx alpha", "bücher.example", "mx\r\n250 x"])
def test_a_host_name_that_can_not_be_announced_is_refused(node: MemoryNode, hostname: str) -> None:
    with pytest.raises(Misconfigured, match=r"smtp\.hostname"):
        SmtpDoor(node, SmtpLimits(), None, hostname, VirtualClock())
