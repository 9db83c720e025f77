"""Invariant: any bytes become a mail within the limits, the same each time, whose header texts are harmless.

Harmless: no control character, line end, lone surrogate or directional override. Nothing is raised.
"""

from __future__ import annotations

from node.mime.limits import MimeLimits
from node.mime.parser import parse
from node.mime.structure import inspect
from tests.attacks.test_mime import is_harmless, message, texts
from tests.unit.mime.test_bombs import deep, many_addresses, many_parts, prefix_storm

LIMITS = MimeLimits(parts=20, nesting=5, headers=30)
SEEDS = [
    message("\u202ex\r\nBcc: a@b.example", "b"),
    message("\x1b[2J", "q"),
    deep(4),
    many_parts(3),
    prefix_storm(3),
    many_addresses(2),
    b"Content-Type: text/html; charset=utf-7\n\n<b onclick=x>+ADw-script+AD4-</b>",
    b"Content-Transfer-Encoding: quoted-printable\n\n=E4=\n=0",
]


def one(data: bytes) -> None:
    structure = inspect(data, LIMITS)
    assert all(is_harmless(author) for author in structure.from_addresses)
    parsed, again = parse(data, LIMITS), parse(data, LIMITS)
    assert parsed == again
    assert len(parsed.blobs) == len(parsed.mail.attachments)
    assert [text for text in texts(parsed.mail) if not is_harmless(text)] == []
    assert "<script" not in parsed.mail.body_html.lower()
