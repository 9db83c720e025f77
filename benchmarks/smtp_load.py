"""SMTP load: sessions side by side, each waiting for every reply (no pipelining).

A bare protocol, so that the client costs less than the server. Run it in a process of its own:
`python -m benchmarks.smtp_load HOST PORT SESSIONS MAILS BYTES RECIPIENT SENDER` prints the result as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from functools import partial

import msgspec


class LoadResult(msgspec.Struct, frozen=True):
    """`count` accepted mails in `seconds`; `latencies` in seconds, from MAIL to the 250 of the content."""

    count: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Accepted mails per second."""
        return self.count / self.seconds

    def percentile(self, percent: float) -> float:
        """Latency in seconds that `percent` of the mails stay below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class UnexpectedReply(Exception):
    """The server said something else than yes."""


class _Client(asyncio.Protocol):
    """One session that sends the same mail `mails` times."""

    def __init__(self, steps: tuple[tuple[bytes, bytes], ...], recipients: Iterator[str], mails: int) -> None:
        self._steps = steps
        self._recipients = recipients
        self._left = mails
        self._step = -2
        self._began = 0.0
        self._reply = b""
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reply += data
        if not self._reply.endswith(b"\n"):
            return
        last = self._reply.rstrip(b"\r\n").rpartition(b"\n")[2]
        if last[3:4] == b"-":
            return
        self._reply = b""
        try:
            self._next(last)
        except UnexpectedReply as error:
            if not self.done.done():
                self.done.set_exception(error)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(UnexpectedReply(f"connection lost: {exc}"))

    def _next(self, reply: bytes) -> None:
        step, send = self._step, self._transport.write  # type: ignore[attr-defined]
        expected = b"2" if step < 0 else self._steps[step][1]
        if not reply.startswith(expected):
            raise UnexpectedReply(reply.decode("ascii", "replace"))
        step += 1
        if step == -1:
            send(b"EHLO load.example\r\n")
        elif step < len(self._steps):
            if step == 0:
                self._began = time.perf_counter()
            line = self._steps[step][0]
            send(line or f"RCPT TO:<{next(self._recipients)}>\r\n".encode())
        else:
            step = self._finish_mail(send)
        self._step = step

    def _finish_mail(self, send) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
        now = time.perf_counter()
        self.latencies.append(now - self._began)
        self._left -= 1
        if self._left:
            self._began = now
            send(self._steps[0][0])
            return 0
        self.done.set_result(None)
        send(b"QUIT\r\n")
        self._transport.close()
        return 0


async def load(  # noqa: PLR0917 - the order in which mail travels
    host: str,
    port: int,
    sessions: int,
    mails_per_session: int,
    body: bytes,
    recipients: Iterator[str],
    sender: str,
) -> LoadResult:
    """Send `body` (CRLF lines) `sessions` times `mails_per_session` times. Raises UnexpectedReply."""
    loop = asyncio.get_running_loop()
    content = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
    steps = (
        (f"MAIL FROM:<{sender}>\r\n".encode(), b"2"),
        (b"", b"2"),  # the recipient
        (b"DATA\r\n", b"3"),
        (content + b".\r\n", b"2"),
    )
    clients = [_Client(steps, recipients, mails_per_session) for _ in range(sessions)]
    began = time.perf_counter()
    await asyncio.gather(
        *(loop.create_connection(partial(_itself, client), host, port) for client in clients)
    )
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    latencies = [latency for client in clients for latency in client.latencies]
    return LoadResult(len(latencies), seconds, latencies)


def _itself(client: _Client) -> _Client:
    return client


def message(size: int) -> bytes:
    """A message of `size` bytes with lines of 78."""
    head = b"From: a@load.example\r\nTo: b@alpha.example\r\nMessage-ID: <1@load.example>\r\n\r\n"
    lines = (b"x" * 76 + b"\r\n") * (size // 78 + 1)
    return head + lines[: max(0, size - len(head) - 2)] + b"\r\n"


def recipients_of(text: str, mails: int) -> Iterator[str]:
    """Read who gets the mails: an email, or `zipf:<mailboxes>:<seed>` for those of a history."""
    if not text.startswith("zipf:"):
        return itertools.repeat(text)
    from benchmarks.history import Zipf, email

    _, mailboxes, seed = text.split(":")
    return map(email, Zipf(int(mailboxes), int(seed)).draw(mails))


def main() -> None:
    """Run one load from the command line."""
    import uvloop

    host, port, sessions, mails, size, recipient, sender = sys.argv[1:]
    recipients = recipients_of(recipient, int(sessions) * int(mails))
    result = uvloop.run(
        load(host, int(port), int(sessions), int(mails), message(int(size)), recipients, sender)
    )
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
