"""Real clients deliver to the door: smtplib, swaks, Postfix's smtp-source."""

from __future__ import annotations

import asyncio
import shutil
import smtplib
from pathlib import Path

import pytest

from tests.integration.smtp.conftest import OpenDoor
from tests.integration.smtp.support import MemoryNode, trusting

SMTP_SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin:/usr/local/sbin")
SWAKS = shutil.which("swaks")


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_smtplib_delivers_with_dots_8bit_and_utf8_addresses(
    open_door: OpenDoor, node: MemoryNode
) -> None:
    door = await open_door()
    raw = "Subject: ä\r\n\r\n.\r\n..x\r\nende\r\n".encode()

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", door.port) as client:
            return client.sendmail(
                "jürgen@client.example",
                ["b@alpha.example", "ä@alpha.example", "x@other.example"],
                raw,
                mail_options=["SMTPUTF8", "BODY=8BITMIME"],
            )

    refused = await asyncio.to_thread(send)
    assert refused == {"x@other.example": (550, b"5.1.1 no such mailbox here")}
    (mail,) = node.mails
    assert mail.raw == raw
    assert mail.sender == "jürgen@client.example"
    assert mail.recipients == ("b@alpha.example", "ä@alpha.example")
    assert mail.facts.smtputf8


async def test_smtplib_delivers_a_bounce_over_tls(
    open_door: OpenDoor, node: MemoryNode, pem: tuple[Path, Path]
) -> None:
    door = await open_door(tls=True)

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", door.port) as client:
            client.starttls(context=trusting(pem[0]))
            client.sendmail("", ["b@alpha.example"], b"Subject: bounce\r\n\r\nx\r\n")

    await asyncio.to_thread(send)
    assert node.mails[0].sender == ""
    assert node.mails[0].facts.tls.startswith("TLSv1.")


@pytest.mark.parametrize(
    "extra", [[], ["--tls"], ["--pipeline"], ["--tls", "--pipeline"], ["--protocol", "SMTP"]]
)
async def test_swaks_delivers(open_door: OpenDoor, node: MemoryNode, extra: list[str]) -> None:
    assert SWAKS, "the Debian package swaks is needed: make test-setup"
    door = await open_door(tls=True)
    output = await run(
        SWAKS, "--server", f"127.0.0.1:{door.port}", "--from", "a@client.example",
        "--to", "b@alpha.example,c@alpha.example", "--body", "hello\n.\nfrom swaks", *extra,
    )  # fmt: skip
    assert "accepted as m1" in output
    assert b"\r\n.\r\nfrom swaks" in node.mails[0].raw
    assert node.mails[0].recipients == ("b@alpha.example", "c@alpha.example")
    assert bool(node.mails[0].facts.tls) is ("--tls" in extra)


@pytest.mark.parametrize("extra", [[], ["-d"], ["-r", "3"]])
async def test_postfix_smtp_source_delivers(open_door: OpenDoor, node: MemoryNode, extra: list[str]) -> None:
    assert SMTP_SOURCE, "the Debian package postfix is needed: make test-setup"
    door = await open_door()
    await run(
        SMTP_SOURCE, "-s", "10", "-m", "100", "-l", "20000", "-f", "a@client.example",
        "-t", "b@alpha.example", *extra, f"127.0.0.1:{door.port}",
    )  # fmt: skip
    assert len(node.mails) == 100
    assert door.counters.accepted == 100
    assert all(len(mail.raw) > 19_000 for mail in node.mails)
