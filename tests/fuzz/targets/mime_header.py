"""Invariant: a header value is read into texts without control characters; an address found has no line end."""

from __future__ import annotations

from node.mime.headers import decode_words, field_text, split_block
from node.mime.parameters import parse_addresses, parse_structured
from tests.attacks.test_mime import is_harmless

SEEDS = [
    b"=?utf-8?q?=0D=0AX:_1?= =?iso-2022-jp?b?GyRCJDMbKEI=?= <a@b.example>",
    b'text/plain; charset="utf-8"; name*0*=utf-8\'\'%0d%0a; name*1=x; name="=?utf-8?b?AA==?="',
    b'(comment (nested)) a <a@b.example>, group: b@c.example, d;, "q\\"uoted" <e@f>',
    b"x\r\n\tfolded\n y: z",
    "bücher <ü@ö.example>".encode(),
]


def one(data: bytes) -> None:
    text = field_text(data)
    decoded = decode_words(text)
    assert is_harmless(text)
    assert is_harmless(decoded)
    for name, address in parse_addresses(text, 50):
        assert is_harmless(name + address)
    structured = parse_structured(data)
    assert is_harmless(structured.value)
    block = split_block(data)
    assert 0 <= block.body <= len(data)
    assert all(field.raw in data for field in block.fields)
