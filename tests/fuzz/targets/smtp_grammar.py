"""Invariant: a path is refused, or read into a mailbox without control characters that reads back as itself."""

from __future__ import annotations

from node.smtp.grammar import BadCommand, command_text, parse_mail, parse_rcpt

SEEDS = [
    b"FROM:<a@b.example> SIZE=10 BODY=8BITMIME",
    b'TO:<"a\\"b"@[IPv6:::1]>',
    b"TO:<@relay.example,@x:a.b@c.example>",
    "FROM:<jürgen@münchen.example> SMTPUTF8".encode(),
    b"TO:<postmaster>",
]


def one(data: bytes) -> None:
    text = command_text(data)
    if text is None:
        return
    for parse in (_sender, _recipient):
        try:
            mailbox = parse(text)
        except BadCommand as bad:
            assert bad.reply.code >= 500
            continue
        assert mailbox.isprintable()
        assert mailbox == "" or _recipient(f"TO:<{mailbox}>") == mailbox


def _sender(text: str) -> str:
    return parse_mail(text, 256).sender


def _recipient(text: str) -> str:
    return parse_rcpt(text, 512, smtputf8=True)
