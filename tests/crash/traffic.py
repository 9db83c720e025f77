"""Load for a node that is about to die: every mail and document has a name, and who was promised what is noted."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from typing import Any

import msgspec

ANSWER_SECONDS = 40.0
PAUSE_SECONDS = 0.05
SERVER = "mio.alpha.example"
"""Name of the node under test, as in the DIDs of its users."""


class Book(msgspec.Struct):
    """What was tried and what was acknowledged: (mailbox or database, name).

    `receipts` has the same by what the answer said: the mail id, or the id of the document.
    """

    tried: set[tuple[str, str]] = msgspec.field(default_factory=set)
    acknowledged: set[tuple[str, str]] = msgspec.field(default_factory=set)
    receipts: dict[str, set[tuple[str, str]]] = msgspec.field(default_factory=dict)

    def promised(self, receipt: str, names: set[tuple[str, str]]) -> None:
        """Note an acknowledgement."""
        self.acknowledged |= names
        self.receipts[receipt] = names

    def take(self, others: Iterable[Book]) -> None:
        """Add what others noted."""
        for other in others:
            self.tried |= other.tried
            self.acknowledged |= other.acknowledged
            self.receipts |= other.receipts


class Client(threading.Thread):
    """One client that goes on until the node goes away, or `enough` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.name = name
        self.book = Book()
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            self.work()
        except (OSError, HTTPException, EOFError):
            return

    def work(self) -> None:
        """Do things until one fails."""
        raise NotImplementedError


class Sender(Client):
    """An SMTP session that pipelines: envelope and DATA in one segment, to one or several mailboxes.

    With `again`, it goes on after a temporary refusal of a mail.
    """

    def __init__(
        self, port: int, name: str, mailboxes: tuple[str, ...], size: int = 200, *, again: bool = False
    ) -> None:
        super().__init__(name)
        self._again = again
        self._port = port
        self._mailboxes = mailboxes
        self._lines = b"x" * 70 + b"\r\n"
        self._lines *= max(1, size // 72)

    def work(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS) as connection:
            self._replies = connection.makefile("rb")
            self._expect(220)
            connection.sendall(b"EHLO load.example\r\n")
            self._expect(250)
            count = 0
            while not self.enough.is_set():
                count += 1
                self._send(connection, f"{self.name}-{count}", self._recipients(count))
            connection.sendall(b"QUIT\r\n")

    def _recipients(self, count: int) -> tuple[str, ...]:
        """All mailboxes, then each alone, and so on."""
        wanted = count % (len(self._mailboxes) + 1)
        return self._mailboxes if not wanted else (self._mailboxes[wanted - 1],)

    def _send(self, connection: socket.socket, name: str, to: tuple[str, ...]) -> None:
        sender = f"{self.name}@beta.example"
        envelope = "".join((f"MAIL FROM:<{sender}>\r\n", *(f"RCPT TO:<{one}>\r\n" for one in to), "DATA\r\n"))
        connection.sendall(envelope.encode())
        for code in (250, *(250 for _ in to), 354):
            self._expect(code)
        head = f"From: {sender}\r\nTo: {', '.join(to)}\r\nSubject: {name}\r\n\r\n{name}\r\n"
        self.book.tried |= {(one, name) for one in to}
        connection.sendall(head.encode() + self._lines + b".\r\n")
        answer = self._expect(250, *(451, 452) if self._again else ())
        if answer.startswith("250"):
            self.book.promised(answer.split()[-1], {(one, name) for one in to})

    def _expect(self, *codes: int) -> str:
        """Read one reply; return its last line. Raises EOFError when it is another: the client gives up."""
        while True:
            line = self._replies.readline().decode()
            if not line.startswith(tuple(map(str, codes))):
                raise EOFError(f"{codes} expected, got {line!r}")
            if line[3:4] != "-":
                return line


class Writer(Client):
    """A device that writes one document after the other through the sync door."""

    def __init__(self, port: int, name: str, account: dict[str, str]) -> None:
        super().__init__(name)
        self._port = port
        self._account = account

    def work(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        count = 0
        while not self.enough.is_set():
            count += 1
            self._put(connection, f"{self.name}-{count}")
        connection.close()

    def _put(self, connection: HTTPConnection, name: str) -> None:
        database = self._account["database"]
        pair = f"{self._account['address']}:{self._account['databasePassword']}".encode()
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair).decode(),
            "Content-Type": "application/json",
        }
        self.book.tried.add((database, name))
        connection.request("PUT", f"/{database}/{name}", json.dumps({"text": name}), headers)
        response = connection.getresponse()
        body: Any = response.read()
        if response.status != 201:
            raise EOFError(f"{response.status}: {body!r}")
        self.book.promised(name, {(database, name)})


class Correspondent(Client):
    """A client that sends Mailio messages to the others on its node, which go the whole way but for the network.

    It pauses after each, because one message is ten events.
    """

    def __init__(self, port: int, name: str, sender: str, accounts: dict[str, dict[str, str]]) -> None:
        super().__init__(name)
        self._port = port
        self._token = accounts[sender]["token"]
        self._to = {one: account["address"] for one, account in accounts.items() if one != sender}

    def work(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        count = 0
        while not self.enough.wait(PAUSE_SECONDS):
            count += 1
            self._send(connection, f"{self.name}-{count}")
        connection.close()

    def _send(self, connection: HTTPConnection, name: str) -> None:
        names = {(one, name) for one in self._to}
        headers = {"Authorization": self._token, "Content-Type": "application/json"}
        self.book.tried |= names
        connection.request("POST", "/api/v1/senddid", json.dumps(self._request(name)), headers)
        response = connection.getresponse()
        body: Any = response.read()
        if response.status != 202:
            raise EOFError(f"{response.status}: {body!r}")
        self.book.promised(json.loads(body)["didCommId"], names)

    def _request(self, name: str) -> dict[str, Any]:
        kids = [f"did:web:{SERVER}#{address}" for address in self._to.values()]
        named = [{"encrypted_key": "a2V5", "header": {"kid": kid}} for kid in kids]
        sealed = {"aad": "YWFk", "ciphertext": "Yw", "iv": "aXY", "tag": "dGFn", "protected": "e30"}
        message = {
            "type": "application/didcomm-encrypted+json",
            "createdTime": 1,
            "intent": "message",
            "to": kids,
            "body": sealed | {"recipients": named},
            "plainBodyBase64": base64.b64encode(json.dumps({"subject": name}).encode()).decode(),
        }
        return {"didCommMessage": message}


class Traffic:
    """Several clients at once."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = list(clients)
        for client in self._clients:
            client.start()

    @property
    def acknowledged(self) -> int:
        """Promises made until now."""
        return sum(len(client.book.acknowledged) for client in self._clients)

    def end(self) -> Book:
        """Let the clients finish; return what they noted."""
        for client in self._clients:
            client.enough.set()
        book = Book()
        for client in self._clients:
            client.join(ANSWER_SECONDS)
            assert not client.is_alive(), f"{client.name} still waits for an answer"
        book.take(client.book for client in self._clients)
        return book
