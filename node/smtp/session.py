"""One SMTP session as a state machine without I/O: bytes in, actions out (RFC 5321, RFC 2920, RFC 3207).

The connection feeds `receive`, carries out the actions in order, and brings back what the ports and the
TLS handshake said. While such an answer is awaited, input is only kept. Phases:

    BANNER --greet--> COMMAND --RCPT--> ADMITTING --answer--> COMMAND
    COMMAND --DATA--> DATA --CRLF.CRLF--> ACCEPTING --answer--> COMMAND
    COMMAND --STARTTLS--> HANDSHAKE --secured--> COMMAND           any --> CLOSED
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from events.mail import Recipient
from node.smtp import replies
from node.smtp.actions import DETAILS, Accept, Action, Admit, Close, Note, Send, StartTls, Transition
from node.smtp.content import Content, Memory
from node.smtp.grammar import BadCommand, Mail, command_text, is_client_name, parse_mail, parse_rcpt
from node.smtp.limits import SmtpLimits
from node.smtp.pace import Phase, Waited, too_slow
from node.smtp.ports import SessionFacts
from node.smtp.replies import Reply


class Shared(msgspec.Struct):
    """What all sessions of a door have in common.

    `starttls`: whether a certificate is there. `detailed`: whether the notes of `DETAILS` are wanted.
    """

    hostname: str
    limits: SmtpLimits
    busy: Callable[[], bool]
    memory: Memory
    starttls: bool = False
    detailed: bool = True


class _Transaction(msgspec.Struct):
    """A mail that is begun: from MAIL to the reply to its content."""

    mail: Mail
    facts: SessionFacts
    recipients: list[Recipient]
    asked: str = ""
    size: int = 0


class SmtpSession:
    """A session with one client. Times are milliseconds of the door's clock."""

    def __init__(self, shared: Shared, identity: str, client: str, now: int) -> None:
        self.phase = Phase.BANNER
        self.identity = identity
        self.client = client
        self.ending = ""
        self.mails = 0
        self._shared = shared
        self._limits = shared.limits
        self._began = self._heard = self._now = now
        self._buffer = bytearray()
        self._out: list[Action] = []
        self._skipping = self._stopping = False
        self._helo = self._tls = ""
        self._esmtp = False
        self._transaction: _Transaction | None = None
        self._content: Content | None = None
        self._content_began = 0
        self._errors = self._junk = self._commands = 0

    @property
    def buffered(self) -> int:
        """Octets that wait for an earlier command to be answered."""
        return len(self._buffer)

    @property
    def waiting(self) -> bool:
        """Whether the node owes this session an answer of a port."""
        return self.phase in (Phase.ADMITTING, Phase.ACCEPTING)

    def greet(self, now: int) -> list[Action]:
        """Send the banner; the client may speak from here on."""
        if self.phase is not Phase.BANNER:
            return []
        self.phase = Phase.COMMAND
        self._heard = now
        return [Send(replies.banner(self._shared.hostname))]

    def receive(self, data: bytes, now: int) -> list[Action]:
        """Take bytes from the client."""
        self._now = now
        if self.phase is Phase.BANNER:
            self._hang_up(replies.EARLY_TALKER)
        elif self.phase is Phase.HANDSHAKE:
            # Plain text behind STARTTLS: the injection of CVE-2024-34083 and its kin.
            self._hang_up(None, "plain_text_after_starttls")
        elif self.phase is Phase.DATA and not self._buffer:
            self._take_content(data)
        elif self.phase is not Phase.CLOSED:
            self._buffer += data
        return self._advance()

    def answer(self, outcome: Recipient | str | Exception, now: int) -> list[Action]:
        """Take the outcome of the last `Admit` or `Accept`, then go on with what was kept."""
        self._heard = self._now = now
        if self.phase is Phase.ADMITTING:
            self.phase = Phase.COMMAND
            self._admitted(outcome)
        elif self.phase is Phase.ACCEPTING:
            self.phase = Phase.COMMAND
            self._accepted(outcome)
        else:
            self._reset()
            if isinstance(outcome, str):
                # The client left meanwhile. It will send the mail again, and this one counts all the same.
                self._note(Transition.ACCEPTED, mail=outcome, heard="no")
        if self._stopping and self.phase is Phase.COMMAND:
            self._hang_up(replies.SHUTTING_DOWN)
        return self._advance()

    def secured(self, tls: str, now: int) -> list[Action]:
        """Begin anew over TLS: nothing said in plain text is remembered (RFC 3207 section 4.2)."""
        self._heard = self._now = now
        self.phase = Phase.COMMAND
        self._tls, self._helo, self._esmtp = tls, "", False
        self._buffer.clear()
        self._transaction = None
        self._note(Transition.TLS, tls=tls)
        if self._stopping:
            self._hang_up(replies.SHUTTING_DOWN)
        return self._advance()

    def tick(self, now: int) -> list[Action]:
        """Look at the time; ends a session that is too slow."""
        received = self._content.received if self._content is not None else 0
        waited = Waited(now - self._began, now - self._heard, now - self._content_began, received)
        late = too_slow(self.phase, waited, self._limits)
        if late is not None:
            self._hang_up(late)
        return self._advance()

    def stop(self) -> list[Action]:
        """End the session as soon as no message is under way."""
        self._stopping = True
        if self.phase in (Phase.BANNER, Phase.COMMAND):
            self._hang_up(replies.SHUTTING_DOWN)
        return self._advance()

    def fail(self) -> list[Action]:
        """End the session because of a fault of ours."""
        self._hang_up(Reply("421 4.3.0", "temporary failure", "fault"))
        return self._advance()

    def lost(self) -> None:
        """Forget everything: the connection is gone. A message that is being accepted still takes room."""
        self.ending = self.ending or f"client left in phase {self.phase}"
        self._end()

    # Reading

    def _advance(self) -> list[Action]:
        while self._buffer:
            if self.phase is Phase.COMMAND:
                if not self._take_command():
                    break
            elif self.phase is Phase.DATA:
                data = bytes(self._buffer)
                self._buffer.clear()
                self._take_content(data)
            else:
                break
        out, self._out = self._out, []
        return out

    def _take_command(self) -> bool:
        """Take one line from the buffer; False when none is complete."""
        buffer = self._buffer
        end = buffer.find(b"\n") + 1
        if not end:
            if len(buffer) > self._limits.command_bytes:
                self._skip()
            return False
        line = bytes(buffer[:end])
        del buffer[:end]
        self._heard = self._now
        if self._skipping or end > self._limits.command_bytes:
            self._skipping = False
            self._refuse(replies.LINE_TOO_LONG)
        elif not line.endswith(b"\r\n"):
            self._refuse(replies.BARE_NEWLINE_COMMAND)
        else:
            self._obey(line[:-2])
        return True

    def _skip(self) -> None:
        """Throw away the start of a line that is too long; a line without end runs into `errors`."""
        self._buffer.clear()
        self._skipping = True
        self._count_error()

    def _obey(self, line: bytes) -> None:
        self._commands += 1
        if self._commands > self._limits.commands:
            self._hang_up(replies.TOO_MANY_COMMANDS)
            return
        text = command_text(line)
        if text is None:
            self._refuse(replies.BAD_CHARACTERS)
            return
        verb, _, argument = text.partition(" ")
        command = _COMMANDS.get(verb.upper(), _UNKNOWN)
        if self._buffer and (command.last or not self._esmtp):
            self._hang_up(replies.UNAUTHORISED_PIPELINING)
        elif argument and not command.argument and argument.strip(" "):
            self._refuse(replies.NO_ARGUMENT_ALLOWED)
        elif command.junk and self._is_too_much_junk():
            return
        else:
            command.obey(self, argument)

    def _is_too_much_junk(self) -> bool:
        self._junk += 1
        return self._junk > self._limits.junk_commands and self._count_error()

    # Commands

    def _do_ehlo(self, argument: str) -> None:
        shared = self._shared
        offer = shared.starttls and not self._tls
        answer = replies.ehlo(shared.hostname, self._limits.message_bytes, starttls=offer)
        self._hello(argument, answer, esmtp=True)

    def _do_helo(self, argument: str) -> None:
        self._hello(argument, replies.helo(self._shared.hostname), esmtp=False)

    def _hello(self, name: str, answer: bytes, *, esmtp: bool) -> None:
        name = name.strip(" ")
        if not is_client_name(name):
            self._refuse(replies.NAME_NEEDED)
            return
        self._transaction = None
        self._helo, self._esmtp = name, esmtp
        self._note(Transition.HELO, helo=name)
        self._out.append(Send(answer))

    def _do_mail(self, argument: str) -> None:
        if not self._helo:
            self._refuse(replies.GREET_FIRST)
        elif self._transaction is not None:
            self._refuse(replies.NESTED_MAIL)
        elif self.mails >= self._limits.mails:
            self._hang_up(replies.TOO_MANY_MAILS)
        elif self._shared.busy():
            self._refuse(replies.BUSY)
        else:
            self._begin(argument)

    def _begin(self, argument: str) -> None:
        try:
            mail = parse_mail(argument, self._limits.path_bytes)
        except BadCommand as bad:
            self._refuse(bad.reply)
            return
        if mail.size > self._limits.message_bytes:
            self._refuse(replies.TOO_BIG)
            return
        facts = SessionFacts(
            session=self.identity,
            client=self.client,
            helo=self._helo,
            esmtp=self._esmtp,
            tls=self._tls,
            smtputf8=mail.smtputf8,
        )
        self._transaction = _Transaction(mail, facts, [])
        self._note(Transition.MAIL, sender=mail.sender, size=mail.size)
        self._send(replies.SENDER_OK)

    def _do_rcpt(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None:
            self._refuse(replies.MAIL_FIRST if self._helo else replies.GREET_FIRST)
            return
        if len(transaction.recipients) >= self._limits.recipients:
            self._refuse(replies.TOO_MANY_RECIPIENTS)
            return
        mail = transaction.mail
        try:
            recipient = parse_rcpt(argument, self._limits.path_bytes, smtputf8=mail.smtputf8)
        except BadCommand as bad:
            self._refuse(bad.reply)
            return
        transaction.asked = recipient
        self.phase = Phase.ADMITTING
        self._out.append(Admit(transaction.facts, mail.sender, recipient, mail.size))

    def _admitted(self, outcome: Recipient | str | Exception) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        if isinstance(outcome, Recipient):
            if outcome not in transaction.recipients:
                transaction.recipients.append(outcome)
            self._note(Transition.RECIPIENT, recipient=transaction.asked)
            self._send(replies.RECIPIENT_OK)
        else:
            self._refuse(_reply_to(outcome), recipient=transaction.asked, sender=transaction.mail.sender)

    def _do_data(self, _: str) -> None:
        transaction = self._transaction
        if transaction is None:
            self._refuse(replies.MAIL_FIRST if self._helo else replies.GREET_FIRST)
        elif not transaction.recipients:
            self._refuse(replies.NO_RECIPIENTS if transaction.asked else replies.AFTER_RECIPIENTS)
        else:
            self._content = Content(self._limits, self._shared.memory)
            self._content_began = self._now
            self.phase = Phase.DATA
            self._note(Transition.DATA, recipients=len(transaction.recipients))
            self._send(replies.SEND_CONTENT)

    def _take_content(self, data: bytes) -> None:
        content = self._content
        if content is None:
            return
        self._heard = self._now
        rest = content.feed(data)
        if rest is None:
            if content.overrun:
                self._hang_up(content.fault)
            return
        self._buffer += rest
        self._finish(content)

    def _finish(self, content: Content) -> None:
        """The message has ended: ask for its acceptance, or say what was wrong with it."""
        transaction = self._transaction
        if transaction is None:
            return
        if content.fault is not None:
            self.phase = Phase.COMMAND
            self._reset()
            self._refuse(content.fault, sender=transaction.mail.sender, size=content.received)
            if self._stopping:
                self._hang_up(replies.SHUTTING_DOWN)
            return
        self.phase = Phase.ACCEPTING
        raw, recipients = content.take(), tuple(transaction.recipients)
        transaction.size = len(raw)
        self._out.append(Accept(transaction.facts, transaction.mail.sender, recipients, raw))

    def _accepted(self, outcome: Recipient | str | Exception) -> None:
        transaction = self._transaction
        self._reset()
        if transaction is None:
            return
        if isinstance(outcome, str):
            self.mails += 1
            self._errors = self._junk = 0
            self._note(Transition.ACCEPTED, mail=outcome, size=transaction.size)
            self._out.append(Send(replies.accepted(outcome)))
        else:
            self._refuse(_reply_to(outcome), sender=transaction.mail.sender, size=transaction.size)

    def _do_rset(self, _: str) -> None:
        self._reset()
        self._send(replies.OK)

    def _do_noop(self, _: str) -> None:
        self._send(replies.OK)

    def _do_vrfy(self, argument: str) -> None:
        if argument.strip(" "):
            self._send(replies.CANNOT_VERIFY)
        else:
            self._refuse(replies.NAME_NEEDED)

    def _do_help(self, _: str) -> None:
        self._send(replies.HELP)

    def _do_quit(self, _: str) -> None:
        self._buffer.clear()
        self._hang_up(replies.GOODBYE, "quit")

    def _do_starttls(self, _: str) -> None:
        if self._tls:
            self._refuse(replies.TLS_ACTIVE)
        elif not self._shared.starttls:
            self._refuse(replies.NOT_IMPLEMENTED)
        elif not self._helo:
            self._refuse(replies.GREET_FIRST)
        else:
            self.phase = Phase.HANDSHAKE
            self._send(replies.GO_AHEAD)
            self._out.append(StartTls())

    def _not_implemented(self, _: str) -> None:
        self._refuse(replies.NOT_IMPLEMENTED)

    def _unknown(self, _: str) -> None:
        self._refuse(replies.UNKNOWN_COMMAND)

    def _other_protocol(self, _: str) -> None:
        # A browser that was made to talk to this port sends its mail commands in a request body.
        self._hang_up(replies.OTHER_PROTOCOL)

    # Answering

    def _send(self, reply: Reply) -> None:
        self._out.append(Send(reply.wire))

    def _note(self, transition: Transition, **fields: str | int) -> None:
        if self._shared.detailed or transition not in DETAILS:
            self._out.append(Note(transition, fields))

    def _refuse(self, reply: Reply, **fields: str | int) -> None:
        """Answer no. Permanent refusals are counted: who only makes errors is sent away."""
        self._note(Transition.REFUSED, reason=reply.reason, reply=reply.status, **fields)
        self._send(reply)
        if reply.permanent:
            self._count_error()

    def _count_error(self) -> bool:
        """Count, and tell whether that was one too many.

        No delays before replies as elsewhere: a client that is made to wait holds a place here.
        """
        self._errors += 1
        if self._errors < self._limits.errors:
            return False
        self._hang_up(replies.TOO_MANY_ERRORS)
        return True

    def _hang_up(self, reply: Reply | None, ending: str = "") -> None:
        if self.phase is Phase.CLOSED:
            return
        if reply is not None:
            if not ending:
                self._note(Transition.REFUSED, reason=reply.reason, reply=reply.status)
            self._send(reply)
        self.ending = ending or (reply.reason if reply else "")
        self._end()
        self._out.append(Close(linger=reply not in (replies.GOODBYE, replies.SHUTTING_DOWN)))

    def _end(self) -> None:
        accepting, self.phase = self.phase is Phase.ACCEPTING, Phase.CLOSED
        self._buffer.clear()
        if not accepting:  # Then `answer` does it: until then the message takes room.
            self._reset()

    def _reset(self) -> None:
        self._transaction = None
        if self._content is not None:
            self._content.release()
            self._content = None


def _reply_to(outcome: Recipient | str | Exception) -> Reply:
    return replies.of_error(outcome) if isinstance(outcome, Exception) else replies.TEMPORARY_FAILURE


class _Command(msgspec.Struct, frozen=True):
    """`last`: nothing may follow in one go (RFC 2920 section 3.1). `junk`: leads to no mail."""

    obey: Callable[[SmtpSession, str], None]
    last: bool = False
    junk: bool = False
    argument: bool = True


_UNKNOWN = _Command(SmtpSession._unknown)
_NOT_IMPLEMENTED = _Command(SmtpSession._not_implemented)
_OTHER_PROTOCOL = _Command(SmtpSession._other_protocol)

# Behind QUIT, NOOP and VRFY something may follow all the same: nothing is changed by them.
_COMMANDS: dict[str, _Command] = {
    "EHLO": _Command(SmtpSession._do_ehlo, last=True, junk=True),
    "HELO": _Command(SmtpSession._do_helo, last=True, junk=True),
    "MAIL": _Command(SmtpSession._do_mail),
    "RCPT": _Command(SmtpSession._do_rcpt),
    "DATA": _Command(SmtpSession._do_data, last=True, argument=False),
    "RSET": _Command(SmtpSession._do_rset, junk=True, argument=False),
    "NOOP": _Command(SmtpSession._do_noop, junk=True),
    "VRFY": _Command(SmtpSession._do_vrfy, junk=True),
    "HELP": _Command(SmtpSession._do_help, junk=True),
    "QUIT": _Command(SmtpSession._do_quit, argument=False),
    "STARTTLS": _Command(SmtpSession._do_starttls, last=True, argument=False),
    "EXPN": _NOT_IMPLEMENTED,
    "TURN": _NOT_IMPLEMENTED,
    "AUTH": _NOT_IMPLEMENTED,
    "BDAT": _NOT_IMPLEMENTED,
    "GET": _OTHER_PROTOCOL,
    "POST": _OTHER_PROTOCOL,
    "PUT": _OTHER_PROTOCOL,
    "CONNECT": _OTHER_PROTOCOL,
}
