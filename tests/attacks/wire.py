"""A client without manners: bytes to a socket of the node, in the pieces that it likes."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence

SECONDS = 15.0
"""How long the node may think before a test gives up: no attack may take that long."""

EHLO = b"EHLO evil.example\r\n"
MAIL = b"MAIL FROM:<evil@evil.example>\r\n"
DATA = b"DATA\r\n"


def rcpt(email: str) -> bytes:
    return f"RCPT TO:<{email}>\r\n".encode()


class Wire:
    """One connection; `replies` collects the last lines of the replies that were read."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")
        self.replies: list[str] = []

    def send(self, *pieces: bytes) -> None:
        """Send each piece by itself; one the node no longer listens to is lost."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.socket.sendall(piece)

    def reply(self) -> str:
        """The last line of the next reply; "" once the node has closed or reset."""
        line = b""
        with contextlib.suppress(ConnectionError):
            while (line := self._file.readline())[3:4] == b"-":
                pass
        self.replies.append(line.decode().rstrip("\r\n"))
        return self.replies[-1]

    def say(self, *lines: bytes) -> str:
        """Send lines, each after the reply to the one before; return the last reply."""
        for line in lines:
            self.send(line)
            self.reply()
        return self.replies[-1]

    def rest(self) -> list[str]:
        """Everything that still comes until the node closes."""
        while self.reply():
            pass
        return self.replies

    def bytes_left(self) -> bytes:
        """All bytes until the node closes."""
        found = b""
        with contextlib.suppress(ConnectionError):
            found = self._file.read()
        return found

    def secure(self) -> None:
        """Carry out a TLS handshake without looking at the certificate."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextlib.contextmanager
def connected(port: int, *, greeted: bool = True) -> Iterator[Wire]:
    """A connection for the length of the block."""
    wire = Wire(port)
    try:
        if greeted:
            assert wire.reply().startswith("220 ")
        yield wire
    finally:
        wire.close()


def byte_by_byte(data: bytes, first: int, last: int) -> Sequence[bytes]:
    """The bytes in pieces: those from `first` to `last` each by itself."""
    return data[:first], *(data[i : i + 1] for i in range(first, last)), data[last:]


def cuts(data: bytes, first: int, last: int) -> Iterator[Sequence[bytes]]:
    """The bytes in two pieces, cut at every place from `first` to `last`, then byte by byte there."""
    for cut in range(first, last + 1):
        yield data[:cut], data[cut:]
    yield byte_by_byte(data, first, last)
