"""Messages made to hurt, through the real door: bombs are refused with 554, injected text stays text.

What a stranger decodes out of an encoded word has no control characters, line ends or directional overrides in
a document, in a line of the daemon's log, or on an operator's terminal.
"""

from __future__ import annotations

import base64
import json
import time
import unicodedata
from urllib.request import Request, urlopen

import pytest

from node.mime.mail import Mail
from node.mime.parser import parse
from tests.attacks.wire import DATA, EHLO, MAIL, connected, rcpt
from tests.daemon import Daemon
from tests.scenarios.test_isolation import by_token
from tests.unit.mime.test_bombs import deep, long_header, many_headers, many_parts, prefix_storm

HEAD = b"From: evil@evil.example\r\n"


def crlf(raw: bytes) -> bytes:
    return raw.replace(b"\n", b"\r\n")


BOMBS = {
    "100,000 headers": crlf(many_headers(100_000)),
    "10,000 parts": crlf(many_parts(10_000)),
    "1,000 levels": crlf(deep(1_000)),
    "a header of 1 MB": HEAD + b"Subject:" + b" =?utf-8?q?aaaaaaaa?=\r\n" * 50_000 + b"\r\nx",
    "a storm of almost-boundaries": crlf(prefix_storm(900_000)),
}


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "a storm of almost-boundaries"])
def test_a_bomb_is_refused_in_the_session(daemon: Daemon, victim: str, name: str) -> None:
    began = time.monotonic()
    assert hand_in(daemon, victim, BOMBS[name]).startswith("554 5.6.0")
    assert time.monotonic() - began < 10


def test_a_message_within_the_limits_is_taken_however_odd_it_is(daemon: Daemon, victim: str) -> None:
    assert hand_in(daemon, victim, BOMBS["a storm of almost-boundaries"])[:3] == "250"
    assert hand_in(daemon, victim, crlf(long_header(5_000)))[:3] in {"250", "554"}
    daemon.wait_for(daemon.settled, "accepted mail is not filed")


def hand_in(daemon: Daemon, to: str, raw: bytes) -> str:
    with connected(daemon.smtp_port) as wire:
        wire.say(EHLO, MAIL, rcpt(to), DATA)
        wire.send(raw + b"\r\n.\r\n")
        return wire.reply()


EVIL = {
    "line end": "x\r\nBcc: other@alpha.example\r\n\r\nbody",
    "lone line feed": "x\nX-Evil: 1",
    "nul": "x\0y",
    "terminal escape": "\x1b[2J\x1b]0;owned\x07red",
    "csi in one byte": "\x9b31mred",
    "backspaces": "safe\b\b\b\bevil",
    "line separator": "x\u2028y\u2029z",
    "right-to-left override": "invoice\u202egpj.exe",
    "isolates": "\u2066evil\u2069 \u2067x\u2069",
}


def word(text: str, encoding: str) -> str:
    raw = text.encode()
    if encoding == "b":
        return f"=?utf-8?b?{base64.b64encode(raw).decode()}?="
    return f"=?utf-8?q?{''.join(f'={byte:02X}' for byte in raw)}?="


def message(text: str, encoding: str, to: str = "victim@alpha.example") -> bytes:
    """A message with the text in every place where an encoded word is read."""
    evil = word(text, encoding)
    return (
        f"From: {evil} <evil@evil.example>\r\nTo: {evil} <{to}>\r\nSubject: {evil}\r\nReply-To: {evil} <r@e.example>\r\n"
        f"Message-ID: <{evil}@evil.example>\r\nX-Other: {evil}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n"
        f'--b\r\nContent-Type: application/pdf; name="{evil}"\r\n'
        f'Content-Disposition: attachment; filename="{evil}"\r\n\r\nx\r\n--b--\r\n'
    ).encode()


def is_harmless(text: str) -> bool:
    """No control character, separator, surrogate, or character that turns the direction of what follows."""
    return not any(
        unicodedata.category(one) in {"Cc", "Zl", "Zp", "Cs"}
        or unicodedata.bidirectional(one) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        for one in text
    )


def texts(mail: Mail) -> list[str]:
    """Every text of a parsed mail that came out of a header."""
    named = [mail.from_, *mail.to, *mail.cc, *mail.bcc, *mail.reply_to]
    found = [mail.subject, mail.message_id, *(a.name for a in named), *(a.address for a in named)]
    found += [attachment.filename for attachment in mail.attachments]
    return found + [value for values in mail.headers.values() for value in values]


@pytest.mark.parametrize("encoding", ["b", "q"])
@pytest.mark.parametrize("name", EVIL)
def test_nothing_decoded_out_of_an_encoded_word_rules_a_document(name: str, encoding: str) -> None:
    mail = parse(message(EVIL[name], encoding)).mail
    found = texts(mail)
    assert len(found) > 10
    assert [text for text in found if not is_harmless(text)] == []
    assert [address.address for address in mail.to] == ["victim@alpha.example"]
    assert not mail.bcc
    assert "X-Evil" not in mail.headers


def test_nothing_decoded_out_of_an_encoded_word_rules_a_log_or_a_terminal(daemon: Daemon) -> None:
    account = daemon.account("terminal@alpha.example")
    for name, text in EVIL.items():
        reply = hand_in(daemon, account["email"], message(text, "b", account["email"]))
        assert reply.startswith("250"), name
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    listed = daemon.command("mailbox", account["email"]).stdout
    assert listed.count("evil@evil.example") == len(EVIL)
    for line in (listed + daemon.printed()).split("\n"):
        assert is_harmless(line), line
    documents = daemon.documents(account)
    for document in documents.values():
        assert is_harmless(json.dumps(document, ensure_ascii=False).replace("\\n", ""))
    request = Request(f"{daemon.url}/api/v1/message", headers={"Authorization": by_token(daemon, account)})
    with urlopen(request, timeout=30) as answer:
        entries = json.loads(answer.read())
    assert len(entries) == len(EVIL)
    assert all(is_harmless(entry["subject"] + entry["from"]) for entry in entries)


def test_what_a_client_says_in_a_session_is_one_harmless_line_of_the_log(daemon: Daemon) -> None:
    with connected(daemon.smtp_port) as wire:
        wire.say(
            "EHLO ev\u202eil.example\r\n".encode(), "MAIL FROM:<a\u2028b@evil.example> SMTPUTF8\r\n".encode()
        )
        wire.say(
            EHLO, "MAIL FROM:<\u202eevil@evil.example> SMTPUTF8\r\n".encode(), rcpt("nobody@alpha.example")
        )
    for line in daemon.printed().split("\n"):
        assert is_harmless(line), line
