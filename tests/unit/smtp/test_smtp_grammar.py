"""Paths and parameters of MAIL and RCPT."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.smtp.grammar import BadCommand, command_text, parse_mail, parse_rcpt

GOOD = {
    "<a@b.example>": "a@b.example",
    "<A.B+c@B.Example>": "A.B+c@B.Example",
    "<a@localhost>": "a@localhost",
    "<!#$%&'*+-/=?^_`{|}~@b.example>": "!#$%&'*+-/=?^_`{|}~@b.example",
    '<"a b"@c.example>': '"a b"@c.example',
    '<"ab"@c.example>': "ab@c.example",
    '<"a\\b"@c.example>': "ab@c.example",
    '<"a\\"b\\\\"@c.example>': '"a\\"b\\\\"@c.example',
    '<"a>b@x"@c.example>': '"a>b@x"@c.example',
    '<""@c.example>': '""@c.example',
    "<@relay.example:a@b.example>": "a@b.example",
    "<@one.example,@two.example:a@b.example>": "a@b.example",
    "<a@[192.0.2.1]>": "a@[192.0.2.1]",
    "<a@[IPv6:2001:db8::1]>": "a@[IPv6:2001:db8::1]",
    "<a@_x.b-c.example>": "a@_x.b-c.example",
    "<用户@例子.example>": "用户@例子.example",
    "<a@xn--bcher-kva.example>": "a@xn--bcher-kva.example",
}

BAD = [
    "",
    "a@b.example",
    "<a@b.example",
    "a@b.example>",
    "<a>",
    "<@b.example>",
    "<a@>",
    "<a@b..example>",
    "<a@.b>",
    "<a@b.>",
    "<.a@b.example>",
    "<a.@b.example>",
    "<a..b@c.example>",
    "<a b@c.example>",
    "<a@b c.example>",
    "<a@-b.example>",
    "<a@b-.example>",
    "<a@b@c.example>",
    '<"a@b.example>',
    '<a"b"@c.example>',
    "<a@[300.0.0.1]>",
    "<a@[IPv6:xyz]>",
    "<a@[tag:content]>",
    "<a@[]>",
    "<a@b.example>x",
    "<<a@b.example>>",
    "<a@b.example><c@d.example>",
    "  <a@b.example>",
    "<a\u0085@b.example>",
    "<@:a@b.example>",
    f"<{'a' * 300}@b.example>",
]


@pytest.mark.parametrize("path", GOOD)
def test_a_good_path_is_parsed_to_its_shortest_form(path: str) -> None:
    assert parse_rcpt(f"TO:{path}", 256, smtputf8=True) == GOOD[path]
    assert parse_mail(f"FROM:{path} SMTPUTF8", 256).sender == GOOD[path]


@pytest.mark.parametrize("path", BAD)
def test_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(BadCommand) as caught:
        parse_rcpt(f"TO:{path}", 256, smtputf8=True)
    assert caught.value.reply.status == "501 5.1.3"
    with pytest.raises(BadCommand) as caught:
        parse_mail(f"FROM:{path} SMTPUTF8", 256)
    assert caught.value.reply.status == "501 5.1.7"


def test_postmaster_needs_no_domain_and_null_is_only_a_sender() -> None:
    assert parse_rcpt("TO:<postMASTER>", 256, smtputf8=False) == "postmaster"
    with pytest.raises(BadCommand):
        parse_rcpt("TO:xpostmaster>", 256, smtputf8=False)
    assert parse_mail("FROM:<>", 256).sender == ""


def test_size_is_read() -> None:
    assert parse_mail("FROM:<> size=31457280", 256).size == 31_457_280


@pytest.mark.parametrize(
    "text",
    [
        "<" + "a." * 1000,
        "<" + "a" * 2000 + "@",
        "<@" + "a-" * 1000,
        '<"' + '\\"' * 1000,
        "<a@" + "a." * 1000 + ">",
        "<" + "@a," * 600 + ">",
    ],
)
def test_a_hostile_path_costs_no_time(text: str) -> None:
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(BadCommand):
            parse_rcpt(f"TO:{text}", 1 << 20, smtputf8=True)
    assert time.process_time() - began < 1.0


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for argument in (f"FROM:<{text}>", f"FROM:{text}", text):
        try:
            sender = parse_mail(argument, 256).sender
        except BadCommand:
            continue
        assert "\r" not in sender
        assert "\n" not in sender
        assert sender == "" or parse_rcpt(f"TO:<{sender}>", 512, smtputf8=True) == sender


@given(st.binary(max_size=40))
def test_command_text_has_no_control_characters(line: bytes) -> None:
    text = command_text(line)
    assert text is None or (text.encode() == line and all(ord(c) >= 32 and ord(c) != 127 for c in text))
