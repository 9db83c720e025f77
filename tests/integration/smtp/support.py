"""A node that keeps mail in memory, a client that speaks SMTP by hand, and certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from events.errors import NotFound
from events.mail import Recipient
from node.smtp.ports import SessionFacts

MAIL = "MAIL FROM:<a@client.example>"
RCPT = "RCPT TO:<b@alpha.example>"


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail when it does not within ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on sockets and has no event
            await asyncio.sleep(0.001)


class Stored(msgspec.Struct, frozen=True):
    facts: SessionFacts
    sender: str
    recipients: tuple[str, ...]
    raw: bytes


class MemoryNode:
    """Takes all mail for alpha.example. `hold` makes `accept` wait until it is set."""

    def __init__(self) -> None:
        self.mails: list[Stored] = []
        self.is_busy = False
        self.hold: asyncio.Event | None = None
        self.accepting = asyncio.Event()
        self.error: Exception | None = None

    def busy(self) -> bool:
        return self.is_busy

    async def admit(
        self, facts: SessionFacts, envelope_sender: str, recipient: str, declared_size: int
    ) -> Recipient:
        if not recipient.endswith("@alpha.example") and recipient != "postmaster":
            raise NotFound("no such mailbox here")
        return Recipient("0x1", recipient)

    async def accept(
        self, facts: SessionFacts, envelope_sender: str, recipients: Sequence[Recipient], raw: bytes
    ) -> str:
        self.accepting.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.mails.append(Stored(facts, envelope_sender, tuple(r.email for r in recipients), raw))
        return f"m{len(self.mails)}"


class Talk:
    """A client that reads and writes lines itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int, *, greeted: bool = True) -> Talk:
        talk = cls(*await asyncio.open_connection("127.0.0.1", port))
        if greeted:
            assert (await talk.reply()).startswith("220 ")
        return talk

    async def reply(self) -> str:
        """The last line of the next reply; "" when the door has closed."""
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode()
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    async def say(self, *lines: str) -> str:
        """Send lines one by one, and give the reply to the last."""
        reply = ""
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            reply = await self.reply()
        return reply

    async def begin(self) -> Talk:
        assert (await self.say("EHLO c.example", MAIL, RCPT, "DATA")).startswith("354")
        return self

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave with a TCP reset instead of a good-bye."""
        client = self.writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / f"{name}.crt", folder / f"{name}.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain, private


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
