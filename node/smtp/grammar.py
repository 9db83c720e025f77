"""Arguments of MAIL and RCPT: paths and parameters, parsed strictly and in linear time.

RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2, with RFC 6531 section 3.3 for addresses beyond ASCII.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from events.errors import InvalidInput
from node.smtp import replies
from node.smtp.replies import Reply

# Sets are written as what is left out of Unicode: C0 and C1 control characters and the grammar's own signs.
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\x9f]'
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QUOTED_STRING = r'"(?:[^\x00-\x1f"\\\x7f-\x9f]|\\[ -~])*"'
# Letter, digit, beyond ASCII; and the underscore, which no host name but many a sender domain has.
_LETTER = r"[^\x00-/:-@\[-^`{-\x9f]"
_LETTER_OR_HYPHEN = r"[^\x00-,./:-@\[-^`{-\x9f]"
_LABEL = rf"{_LETTER}(?:{_LETTER_OR_HYPHEN}*{_LETTER})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*:"

_PATH = re.compile(
    rf"<(?:{_ROUTE})?(?P<local>{_DOT_STRING}|{_QUOTED_STRING})@(?P<domain>{_DOMAIN}|{_LITERAL})>"
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PLAIN_LOCAL = re.compile(_DOT_STRING)
_ESCAPED = re.compile(r"\\(.)")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")

POSTMASTER = "postmaster"
"""Recipient that needs no domain (RFC 5321 section 4.1.1.3)."""


class BadCommand(InvalidInput):
    """A command that can't be obeyed; `reply` is the answer to it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Mail(msgspec.Struct, frozen=True):
    """A parsed MAIL command: `sender` is "" for the null reverse-path, `size` 0 when not declared."""

    sender: str
    size: int
    smtputf8: bool


def command_text(line: bytes) -> str | None:
    """A command line without CRLF as text; None when it is not UTF-8 or has control characters."""
    if _CONTROL.search(line):
        return None
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def parse_mail(argument: str, path_bytes: int) -> Mail:
    """Parse what follows `MAIL `. Raises BadCommand."""
    path, parameters = _split(argument, "FROM:", replies.BAD_SENDER)
    values = _parameters(parameters, ("SIZE", "BODY", "SMTPUTF8"))
    if values.get("BODY", "7BIT") not in ("7BIT", "8BITMIME") or values.get("SMTPUTF8"):
        raise BadCommand(replies.BAD_PARAMETERS)
    size = values.get("SIZE", "0") or ""
    if not _SIZE.fullmatch(size):
        raise BadCommand(replies.BAD_PARAMETERS)
    smtputf8 = "SMTPUTF8" in values
    if path == "<>":
        return Mail("", int(size), smtputf8)
    sender = _mailbox(path, path_bytes, replies.BAD_SENDER)
    if not smtputf8 and not sender.isascii():
        raise BadCommand(replies.SENDER_NOT_ASCII)
    return Mail(sender, int(size), smtputf8)


def parse_rcpt(argument: str, path_bytes: int, *, smtputf8: bool) -> str:
    """Parse what follows `RCPT ` and return the mailbox. Raises BadCommand."""
    path, parameters = _split(argument, "TO:", replies.BAD_RECIPIENT)
    _parameters(parameters, ())
    if path.lower() == f"<{POSTMASTER}>":
        return POSTMASTER
    recipient = _mailbox(path, path_bytes, replies.BAD_RECIPIENT)
    if not smtputf8 and not recipient.isascii():
        raise BadCommand(replies.RECIPIENT_NOT_ASCII)
    return recipient


def is_client_name(name: str) -> bool:
    """Tell whether a greeting's argument is a domain or an address literal, in form."""
    # Clients behind home routers give names with odd hyphens; one token without surprises is enough.
    return name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= 255


def _split(argument: str, keyword: str, bad: Reply) -> tuple[str, str]:
    """Give the path with its brackets, and the parameters behind it."""
    size = len(keyword)
    if argument[:size].upper() != keyword:
        raise BadCommand(bad)
    # One space before the path is against the grammar and common.
    rest = argument[size:].removeprefix(" ")
    end = _end_of_path(rest)
    if end < 0 or rest[end : end + 1] not in ("", " "):
        raise BadCommand(bad)
    return rest[:end], rest[end:].strip(" ")


def _end_of_path(text: str) -> int:
    """Index behind the closing bracket, quoted strings respected; -1 when there is none."""
    quoted = skip = False
    if '"' not in text:
        return text.find(">") + 1 or -1
    for index, character in enumerate(text):
        if skip:
            skip = False
        elif quoted and character == "\\":
            skip = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return index + 1
    return -1


def _mailbox(path: str, path_bytes: int, bad: Reply) -> str:
    if len(path.encode()) > path_bytes:
        raise BadCommand(bad)
    match = _PATH.fullmatch(path)
    if match is None:
        raise BadCommand(bad)
    local, domain = match["local"], match["domain"]
    if local[0] == '"':
        local = _unquoted(local)
    if domain[0] == "[" and not _is_literal(domain[1:-1]):
        raise BadCommand(bad)
    return f"{local}@{domain}"


def _unquoted(local: str) -> str:
    """The same local part with the fewest quotes: `"a"@b` and `a@b` are one mailbox (section 4.1.2)."""
    text = _ESCAPED.sub(r"\1", local[1:-1])
    if _PLAIN_LOCAL.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_literal(text: str) -> bool:
    """IPv4 or IPv6 address literal; no other tag is registered (section 4.1.3)."""
    try:
        if text[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _parameters(text: str, known: tuple[str, ...]) -> dict[str, str | None]:
    """Parse `NAME=VALUE` words; names in upper case, so are the values."""
    found: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            raise BadCommand(replies.BAD_PARAMETERS)
        found[match[1].upper()] = match[2].upper() if match[2] else None
    if found.keys() - known:
        raise BadCommand(replies.UNKNOWN_PARAMETERS)
    return found
