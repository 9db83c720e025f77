"""A client and a node for the state machine: feeds segments, answers questions, collects what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from events.mail import Recipient
from node.smtp.actions import Accept, Action, Admit, Close, Note, Send, StartTls, Transition
from node.smtp.content import Memory
from node.smtp.limits import SmtpLimits
from node.smtp.session import Shared, SmtpSession

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@client.example>\r\n"
RCPT = b"RCPT TO:<b@alpha.example>\r\n"
DATA = b"DATA\r\n"


def whole(segment: bytes) -> Iterable[bytes]:
    return [segment]


def byte_by_byte(segment: bytes) -> Iterable[bytes]:
    return [segment[i : i + 1] for i in range(len(segment))]


Feeding = Callable[[bytes], Iterable[bytes]]


class Driver:
    """One session. `replies` are lines sent by the door, `mails` what it gave to `accept`.

    `admit` and `accept` give the outcome of the ports; None leaves the question open in `asked`.
    """

    def __init__(self, limits: SmtpLimits | None = None, *, tls: bool = False, busy: bool = False) -> None:
        self.now = 1_000_000
        self.is_busy = busy
        limits = limits or SmtpLimits()
        self.memory = Memory(limits.memory_bytes)
        self.shared = Shared("mx.alpha.example", limits, lambda: self.is_busy, self.memory, tls)
        self.session = SmtpSession(self.shared, "s1", "192.0.2.1", self.now)
        self.replies: list[str] = []
        self.mails: list[Accept] = []
        self.admits: list[Admit] = []
        self.notes: list[Note] = []
        self.closed = self.handshake = False
        self.asked: Admit | Accept | None = None
        self.admit: Callable[[Admit], Recipient | Exception | None] = lambda a: Recipient("0x1", a.recipient)
        self.accept: Callable[[Accept], str | Exception | None] = lambda _: f"m{len(self.mails)}"
        self.perform(self.session.greet(self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.closed, f"{action} after Close"
            if isinstance(action, Send):
                assert action.data.endswith(b"\r\n")
                self.replies += action.data.decode("ascii").splitlines()
            elif isinstance(action, Note):
                self.notes.append(action)
            elif isinstance(action, Close):
                self.closed = True
            elif isinstance(action, StartTls):
                self.handshake = True
            else:
                self.ask(action)

    def ask(self, action: Admit | Accept) -> None:
        outcome: object
        if isinstance(action, Admit):
            self.admits.append(action)
            outcome = self.admit(action)
        else:
            self.mails.append(action)
            outcome = self.accept(action)
        if outcome is None:
            self.asked = action
        else:
            self.answer(outcome)

    def answer(self, outcome: object) -> None:
        self.asked = None
        self.perform(self.session.answer(outcome, self.now))  # type: ignore[arg-type]

    def feed(self, *segments: bytes, how: Feeding = whole) -> list[str]:
        """Send segments; return the replies that came."""
        before = len(self.replies)
        for segment in segments:
            for piece in how(segment):
                self.perform(self.session.receive(piece, self.now))
        return self.replies[before:]

    def last(self, *segments: bytes, how: Feeding = whole) -> str:
        self.feed(*segments, how=how)
        return self.replies[-1]

    def begin(self) -> Driver:
        """Get as far as 354."""
        assert self.last(EHLO, MAIL, RCPT, DATA).startswith("354")
        return self

    def tick(self, seconds: float) -> list[str]:
        before = len(self.replies)
        self.now += int(seconds * 1000)
        self.perform(self.session.tick(self.now))
        return self.replies[before:]

    @property
    def raws(self) -> list[bytes]:
        return [mail.raw for mail in self.mails]

    def transitions(self) -> list[Transition]:
        return [note.transition for note in self.notes]
