"""Replies of the door: code, enhanced status code (RFC 3463) and text, by their names.

ENHANCEDSTATUSCODES (RFC 2034) stand on every reply but the banner, the answers to HELO and EHLO, and 354.
"""

from __future__ import annotations

from events.errors import Fault, MailioError

TEXT_LENGTH = 400
"""Characters of reply text: with codes and CRLF below the 512 octets of RFC 5321 section 4.5.3.1.5."""


def printable(text: str, length: int = TEXT_LENGTH) -> str:
    """Give remote text a form that can stand in a log line or a reply: ASCII, no control characters."""
    if not (text.isascii() and text.isprintable()):
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= length else text[: length - 3] + "..."


class Reply:
    """One reply line. `reason` is its stable name in logs and counters; `wire` what is sent."""

    __slots__ = ("code", "reason", "status", "text", "wire")

    def __init__(self, status: str, text: str, reason: str = "") -> None:
        self.status = status
        self.code = int(status[:3])
        self.text = printable(text)
        self.reason = reason
        self.wire = f"{status} {self.text}\r\n".encode("ascii")

    @property
    def permanent(self) -> bool:
        """Whether the same command will fail again."""
        return self.code >= 500


OK = Reply("250 2.0.0", "OK")
SENDER_OK = Reply("250 2.1.0", "sender OK")
RECIPIENT_OK = Reply("250 2.1.5", "recipient OK")
SEND_CONTENT = Reply("354", "end with CRLF . CRLF")
GO_AHEAD = Reply("220 2.0.0", "ready to start TLS")
GOODBYE = Reply("221 2.0.0", "goodbye")
HELP = Reply("214 2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY QUIT STARTTLS; see RFC 5321")
CANNOT_VERIFY = Reply("252 2.5.2", "not verified here; send mail and see")

UNKNOWN_COMMAND = Reply("500 5.5.1", "command not recognised", "unknown_command")
NOT_IMPLEMENTED = Reply("502 5.5.1", "command not implemented", "not_implemented")
LINE_TOO_LONG = Reply("500 5.5.2", "command line too long", "command_too_long")
BARE_NEWLINE_COMMAND = Reply("500 5.5.2", "commands end with CRLF", "command_newline")
BAD_CHARACTERS = Reply("500 5.5.2", "command holds characters that are not allowed", "command_characters")
NO_ARGUMENT_ALLOWED = Reply("501 5.5.4", "this command takes no argument", "syntax")
NAME_NEEDED = Reply("501 5.5.4", "give a domain name or address literal", "syntax")
NESTED_MAIL = Reply("503 5.5.1", "a mail is begun already", "sequence")
GREET_FIRST = Reply("503 5.5.1", "send EHLO first", "sequence")
MAIL_FIRST = Reply("503 5.5.1", "send MAIL first", "sequence")
TLS_ACTIVE = Reply("503 5.5.1", "TLS is active already", "sequence")
NO_RECIPIENTS = Reply("554 5.5.1", "no valid recipients", "no_recipients")
AFTER_RECIPIENTS = Reply("503 5.5.1", "send RCPT first", "sequence")
OTHER_PROTOCOL = Reply("554 5.5.1", "this is SMTP", "other_protocol")
UNAUTHORISED_PIPELINING = Reply("554 5.5.0", "SMTP protocol synchronisation error", "unauthorised_pipelining")
EARLY_TALKER = Reply("554 5.5.0", "wait for the banner", "early_talker")

BAD_SENDER = Reply("501 5.1.7", "bad sender address syntax", "sender_syntax")
BAD_RECIPIENT = Reply("501 5.1.3", "bad recipient address syntax", "recipient_syntax")
SENDER_NOT_ASCII = Reply("553 5.6.7", "non-ASCII sender needs SMTPUTF8", "smtputf8_needed")
RECIPIENT_NOT_ASCII = Reply("553 5.6.7", "non-ASCII recipient needs SMTPUTF8", "smtputf8_needed")
BAD_PARAMETERS = Reply("501 5.5.4", "bad parameters", "parameters")
UNKNOWN_PARAMETERS = Reply("555 5.5.4", "parameters not recognised or not implemented", "parameters")

TOO_BIG = Reply("552 5.3.4", "message is too big", "message_too_big")
TOO_MANY_RECIPIENTS = Reply("452 4.5.3", "too many recipients", "too_many_recipients")
TEXT_LINE_TOO_LONG = Reply("554 5.6.0", "message has a line that is too long", "line_too_long")
# 5.6.11 is not in the IANA registry; it is what senders know from Exchange for exactly this.
BARE_NEWLINE = Reply("550 5.6.11", "message has a bare CR or LF", "bare_newline")
NUL_IN_MESSAGE = Reply("550 5.6.0", "message has a NUL", "nul")
NO_MEMORY = Reply("452 4.3.1", "no room for this message now", "no_memory")

BUSY = Reply("451 4.3.2", "too much unfinished work, come again", "busy")
TEMPORARY_FAILURE = Reply("451 4.3.0", "temporary failure", "temporary_failure")
SHUTTING_DOWN = Reply("421 4.3.2", "shutting down", "shutting_down")
TOO_MANY_CONNECTIONS = Reply("421 4.3.2", "too many connections", "connections")
TOO_MANY_FROM_ADDRESS = Reply(
    "421 4.7.0", "too many connections from your address", "connections_per_address"
)
TOO_MANY_ERRORS = Reply("421 4.7.0", "too many errors", "too_many_errors")
TOO_MANY_COMMANDS = Reply("421 4.7.0", "too many commands", "too_many_commands")
TOO_MANY_MAILS = Reply("421 4.7.0", "too many mails in one session", "too_many_mails")
TIMEOUT = Reply("421 4.4.2", "timeout", "timeout")
TOO_SLOW = Reply("421 4.4.2", "transfer is too slow", "too_slow")
SESSION_TOO_LONG = Reply("421 4.4.2", "session is too long", "session_too_long")


def banner(hostname: str) -> bytes:
    """Greeting of a new connection (RFC 5321 section 4.3.1)."""
    return f"220 {hostname} ESMTP\r\n".encode("ascii")


def helo(hostname: str) -> bytes:
    """Answer to HELO."""
    return f"250 {hostname}\r\n".encode("ascii")


def ehlo(hostname: str, message_bytes: int, *, starttls: bool) -> bytes:
    """Answer to EHLO with the extensions of this door.

    DSN (RFC 3461) is not among them: it would promise notifications, and this node never sends mail
    to a stranger by itself. Its parameters are answered 555.
    """
    lines = [hostname, "PIPELINING", f"SIZE {message_bytes}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
    if starttls:
        lines.append("STARTTLS")
    lines.append("HELP")
    text = "".join(f"250-{line}\r\n" for line in lines[:-1])
    return f"{text}250 {lines[-1]}\r\n".encode("ascii")


def accepted(mail_id: str) -> bytes:
    """The answer with which the node takes responsibility."""
    return f"250 2.0.0 accepted as {mail_id}\r\n".encode("ascii")


def of_error(error: Exception) -> Reply:
    """Reply for what a port raised; says nothing about what is not meant for the other side."""
    if not isinstance(error, MailioError):
        return TEMPORARY_FAILURE
    ours = error.fault in (Fault.OPERATOR, Fault.NODE)
    if ours and error.smtp.startswith("5"):
        return TEMPORARY_FAILURE
    return Reply(error.smtp, error.public, _reason(type(error).__name__))


def _reason(class_name: str) -> str:
    """`MailboxFull` becomes `mailbox_full`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in class_name).lstrip("_")
