"""STARTTLS on real sockets: it works, its certificate can change, and nothing crosses its border."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from events.errors import Misconfigured
from node.smtp.tls import load_tls
from tests.integration.smtp.conftest import OpenDoor
from tests.integration.smtp.support import MAIL, RCPT, MemoryNode, Talk, make_certificate, trusting, until


async def secure(talk: Talk, certificate: Path) -> None:
    assert (await talk.say("EHLO c.example", "STARTTLS")).startswith("220 2.0.0")
    await talk.writer.start_tls(trusting(certificate), server_hostname="127.0.0.1")


async def test_a_mail_over_tls_knows_its_cipher(
    open_door: OpenDoor, node: MemoryNode, pem: tuple[Path, Path]
) -> None:
    door = await open_door(tls=True)
    talk = await Talk.to(door.port)
    await secure(talk, pem[0])
    assert (await talk.say(MAIL)).startswith("503"), "the greeting of before is forgotten"
    await talk.begin()
    assert (await talk.say("x\r\n.")).startswith("250")
    assert node.mails[0].facts.tls.startswith("TLSv1.3 TLS_")
    assert (await talk.say("STARTTLS")).startswith("503")
    assert (await talk.say("QUIT")).startswith("221")


async def test_a_session_over_tls_that_is_ended_by_the_door_hears_why(
    open_door: OpenDoor, pem: tuple[Path, Path]
) -> None:
    door = await open_door(tls=True, errors=2)
    talk = await Talk.to(door.port)
    await secure(talk, pem[0])
    assert (await talk.say("WIZ", "WIZ")).startswith("500")
    assert (await talk.reply()).startswith("421 4.7.0")
    assert await talk.closed()
    await until(lambda: door.sessions == 0)


async def test_a_command_sent_right_behind_the_handshake_is_answered(
    open_door: OpenDoor, pem: tuple[Path, Path]
) -> None:
    door = await open_door(tls=True)
    for _ in range(20):
        talk = await Talk.to(door.port)
        await secure(talk, pem[0])
        assert (await talk.say("EHLO c.example")).startswith("250")
        talk.close()


async def test_a_mail_of_many_records_over_tls_arrives_unchanged(
    open_door: OpenDoor, node: MemoryNode, pem: tuple[Path, Path]
) -> None:
    door = await open_door(tls=True)
    talk = await Talk.to(door.port)
    await secure(talk, pem[0])
    await talk.begin()
    raw = b"".join(b"%d " % i + b"x" * 60 + b"\r\n" for i in range(20_000))
    talk.writer.write(raw + b".\r\n")
    assert (await talk.reply()).startswith("250")
    assert node.mails[0].raw == raw
    talk.close()


async def test_commands_sent_with_starttls_are_refused(open_door: OpenDoor, node: MemoryNode) -> None:
    door = await open_door(tls=True)
    talk = await Talk.to(door.port)
    await talk.say("EHLO c.example")
    talk.writer.write(f"STARTTLS\r\nEHLO evil\r\n{MAIL}\r\n{RCPT}\r\n".encode())
    assert (await talk.reply()).startswith("554 5.5.0")
    assert await talk.closed()
    assert not node.mails


async def test_commands_sent_instead_of_a_handshake_are_not_obeyed(open_door: OpenDoor) -> None:
    door = await open_door(tls=True)
    talk = await Talk.to(door.port)
    await talk.say("EHLO c.example", "STARTTLS")
    talk.writer.write(f"EHLO evil\r\n{MAIL}\r\n".encode())
    with contextlib.suppress(ConnectionError):
        assert b"250" not in await asyncio.wait_for(talk.reader.read(), 10)
    await until(lambda: door.sessions == 0)
    assert door.counters.tls_failures == 1


async def test_a_silent_handshake_is_cut_off(open_door: OpenDoor) -> None:
    door = await open_door(tls=True, handshake_seconds=1)
    talk = await Talk.to(door.port)
    await talk.say("EHLO c.example", "STARTTLS")
    await until(lambda: door.sessions == 0)
    assert door.counters.tls_failures == 1
    talk.close()


async def test_a_new_certificate_serves_the_next_handshake(
    open_door: OpenDoor, pem: tuple[Path, Path], tmp_path: Path
) -> None:
    door = await open_door(tls=True)
    old = await Talk.to(door.port)
    await secure(old, pem[0])
    renewed = make_certificate(tmp_path, "mx.alpha.example")
    door.reload_tls(load_tls(*renewed))
    new = await Talk.to(door.port)
    await secure(new, renewed[0])
    assert (await new.say("EHLO c")).startswith("250")
    assert (await old.say("EHLO c")).startswith("250")
    door.reload_tls(None)
    plain = await Talk.to(door.port)
    assert (await plain.say("EHLO c", "STARTTLS")).startswith("502")
    for talk in (old, new, plain):
        talk.close()


async def test_old_protocol_versions_are_refused(open_door: OpenDoor, pem: tuple[Path, Path]) -> None:
    context = load_tls(*pem)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_wrong_certificate_files_are_named(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    with pytest.raises(Misconfigured, match=r"smtp\.certificate: .*missing\.crt"):
        load_tls(tmp_path / "missing.crt", pem[1])
    with pytest.raises(Misconfigured, match=r"smtp\.private_key: .*missing\.key"):
        load_tls(pem[0], tmp_path / "missing.key")
    other = make_certificate(tmp_path, "other")
    with pytest.raises(Misconfigured, match="no PEM pair"):
        load_tls(pem[0], other[1])
