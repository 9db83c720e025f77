"""How single features and defects of messages are read."""

from __future__ import annotations

import re
import time
import tracemalloc
from base64 import b64decode, b64encode
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.mime.content import is_denied, safe_filename
from node.mime.document import message_document
from node.mime.headers import Block, Field, decode_words, split_block
from node.mime.html import sanitise, to_text
from node.mime.limits import Code
from node.mime.parameters import _ONE_ADDRESS, parse_addresses, parse_structured
from node.mime.parser import parse
from node.mime.structure import inspect

HEAD = b"From: Ann <ann@a.example>\r\nTo: Bob <bob@b.example>, carl@c.example\r\nDate: Thu, 1 Jan 1970 00:00:01 +0000\r\n"


def codes(raw: bytes) -> set[Code]:
    return {defect.code for defect in parse(raw).mail.defects}


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["=0D=0A", "=0A", "=0D", "=00", "=C2=85", "=E2=80=A8"])
@pytest.mark.parametrize("field", ["Subject: {}", "From: {} <a@b.example>", 'From: "{}" <a@b.example>'])
def test_a_line_end_out_of_an_encoded_word_never_reaches_a_header(field: str, line_end: str) -> None:
    word = f"=?utf-8?q?x{line_end}Bcc:_evil@e.example?="
    raw = f"{field.format(word)}\r\nSubject: y\r\n\r\nbody".encode()
    mail = parse(raw).mail
    for text in (mail.subject, mail.from_.name, mail.from_.address, inspect(raw).subject):
        assert not any(char in text for char in "\r\n\0\x85\u2028")
    assert mail.bcc == []


def test_a_line_end_never_reaches_a_file_name() -> None:
    name = b64encode(b"a\r\nb/../../c\0.exe").decode()
    raw = f'Content-Type: x/y\nContent-Disposition: attachment; filename="=?utf-8?b?{name}?="\n\nx'.encode()
    mail = parse(raw).mail
    assert mail.attachments[0].filename == "c .exe"
    assert mail.attachments[0].is_denied
    assert {Code.FILENAME_CHANGED, Code.EXTENSION_DENIED} <= codes(raw)


def line_by_line(raw: bytes) -> Block:
    """Cut a header block as RFC 5322 section 2.2 tells it, one line after the other."""
    fields: list[Field] = []
    position = 0
    for line in re.findall(rb"[^\n]*\n|[^\n]+", raw):
        name, colon, value = line.partition(b":")
        if line[:1] in {b" ", b"\t"} and fields and position:
            fields[-1] = Field(fields[-1].name, fields[-1].raw + line)
        elif line in {b"\r\n", b"\n"}:
            return without_line_ends(fields, position + len(line))
        elif colon and re.fullmatch(rb"[!-9;-~]+[ \t]*", name) and not name.startswith(b"--"):
            fields.append(Field(name.rstrip(b" \t").decode(), value))
        elif position or not line.startswith(b"From "):
            return without_line_ends(fields, position, line[:80])
        position += len(line)
    return without_line_ends(fields, len(raw))


def without_line_ends(fields: list[Field], body: int, broken: bytes = b"") -> Block:
    cut = [Field(name, raw.removesuffix(b"\n").removesuffix(b"\r")) for name, raw in fields]
    return Block(cut, body, broken)


PIECES = [
    b"a", b"X-Y", b":", b"b: c", b" ", b"\t", b"\n", b"\r\n", b"\r", b"--", b"From ", b"\xff", b"\0", b"-"
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
def test_a_block_that_is_cut_in_matches_is_what_its_lines_say(raw: bytes) -> None:
    assert split_block(raw) == line_by_line(raw)


def test_an_endless_fold_is_one_field_in_little_time_and_memory() -> None:
    tracemalloc.start()
    try:
        began = time.process_time()
        block = split_block(b"A: " + b"\n " * 2_000_000 + b"\nB: c\n\nbody")
        assert time.process_time() - began < 5
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert [field.name for field in block.fields] == ["A", "B"]


WORDS = [
    "Ann",
    "B.",
    " ",
    "=?utf-8?q?x?=",
    "<",
    ">",
    "a@b.example",
    "é",
    "\u202e",
    ",",
    '"',
    "(c)",
    "\\",
    ":",
]


@given(st.lists(st.sampled_from(WORDS), max_size=5).map("".join))
def test_one_plain_address_reads_like_one_of_a_list(text: str) -> None:
    if found := _ONE_ADDRESS.fullmatch(text):
        assert parse_addresses(text) == parse_addresses(text + ","), found


def test_an_encoded_address_is_not_syntax() -> None:
    mail = parse(b"From: =?utf-8?q?evil=40e.example=3E=2C?= <ann@a.example>\n\n").mail
    assert mail.from_.address == "ann@a.example"
    assert mail.from_.name == "evil@e.example>,"


def test_a_bare_carriage_return_begins_no_header() -> None:
    mail = parse(b"Subject: a\rBcc: evil@e.example\r\n\r\nbody").mail
    assert mail.subject == "a Bcc: evil@e.example"
    assert mail.bcc == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?=  x  =?utf-8?q?b?=", "a  x  b"),
        ("=?utf-8?b?w4M=?=", "Ã"),
        ("=?utf-8?b?4g==?= =?utf-8?b?gqw=?=", "€"),
        ("=?utf-8*en?q?a_b=3Dc?=", "a b=c"),
        ("=?iso-2022-jp?b?GyRCJF4kXyRgJGEkYhsoQg==?=", "まみむめも"),
        ("=?nonsense?q?=E9?=", "é"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?b?====?=", ""),
        ("a =? b", "a =? b"),
    ],
)
def test_encoded_words_are_decoded(text: str, expected: str) -> None:
    assert decode_words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b", [("", "a@b")]),
        ("Ann <a@b>, Bob <c@d>", [("Ann", "a@b"), ("Bob", "c@d")]),
        ('"Doe, \\"J\\"" <a@b>', [('Doe, "J"', "a@b")]),
        ("Doe, John <a@b>", [("Doe, John", "a@b")]),
        ("a@b (Ann)", [("Ann", "a@b")]),
        ("Friends: a@b, c@d; e@f", [("", "a@b"), ("", "c@d"), ("", "e@f")]),
        ("undisclosed-recipients:;", []),
        ("<@relay,@other:a@b>", [("", "a@b")]),
        ('"a b"@c', [("", '"a b"@c')]),
        ("a@b c@d", [("", "a@b"), ("", "c@d")]),
        ("Ann a@b", [("Ann", "a@b")]),
        ("<>", []),
        ("root", [("", "root")]),
        ("((((", []),
        ("", []),
    ],
)
def test_address_lists_are_read(text: str, expected: list[tuple[str, str]]) -> None:
    assert parse_addresses(text) == expected


@pytest.mark.parametrize(
    ("raw", "name", "value"),
    [
        (b"text/plain; charset=utf-8", "charset", "utf-8"),
        (b'text/plain; name="a;b\\"c"', "name", 'a;b"c'),
        (b"text/plain; name*=utf-8'en'%e2%82%ac.txt", "name", "€.txt"),
        (b"text/plain; name*1=b.txt; name*0=a", "name", "ab.txt"),
        (b"text/plain; name*0*=utf-8''%e2; name*1*=%82%ac; name*2=.txt", "name", "€.txt"),
        (b"text/plain; name=plain; name*=utf-8''extended", "name", "extended"),
        (b"text/plain; name=first; name=second", "name", "first"),
        ("text/plain; name=ciële".encode(), "name", "ciële"),
        (b"text/plain; name*99999999999999999999=x; name=y", "name", "y"),
    ],
)
def test_parameters_are_read(raw: bytes, name: str, value: str) -> None:
    assert parse_structured(raw).value == "text/plain"
    assert parse_structured(raw).parameters[name] == value


def test_headers_are_kept_in_order_under_canonical_names() -> None:
    mail = parse(b"MIME-version: 1.0\nreceived: by a\nReceived: by\n b\nSubject: =?utf-8?q?x?=\n\n").mail
    assert mail.headers == {
        "Mime-Version": ["1.0"],
        "Received": ["by a", "by b"],
        "Subject": ["=?utf-8?q?x?="],
    }


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"no header\n", Code.HEADER_MALFORMED),
        (b"Subject: \xe9\n\n", Code.HEADER_8BIT),
        (b"Subject: a\nSubject: b\n\n", Code.HEADER_REPEATED),
        (b"Subject: =?utf-8?b?a?=\n\n", Code.ENCODED_WORD),
        (b"\n", Code.FROM_MISSING),
        (b"Date: yesterday\n\n", Code.DATE_INVALID),
        (b"Content-Type: text/plain; charset=klingon\n\n\xe9", Code.CHARSET_UNKNOWN),
        (b"Content-Type: text/plain; charset=punycode\n\nx", Code.CHARSET_UNKNOWN),
        (b"Content-Type: text/plain; charset=utf-8\n\n\xe9", Code.CHARSET_MISMATCH),
        (b"Content-Transfer-Encoding: x-rot13\n\nx", Code.TRANSFER_ENCODING_UNKNOWN),
        (b"Content-Transfer-Encoding: base64\n\nYWJj!", Code.TRANSFER_ENCODING_MALFORMED),
        (b"Content-Type: text\n\nx", Code.CONTENT_TYPE_INVALID),
        (b"Content-Type: multipart/mixed\n\nx", Code.BOUNDARY_MISSING),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx", Code.BOUNDARY_NOT_FOUND),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx", Code.BOUNDARY_NOT_CLOSED),
    ],
)
def test_defects_are_named_and_the_text_is_not_lost(raw: bytes, code: Code) -> None:
    assert code in codes(raw)
    body = raw.partition(b"\n\n")[2]
    if body.endswith(b"x"):
        assert parse(raw).mail.body_text.strip() == "x"


# --- bodies -------------------------------------------------------------------------------------


def multipart(kind: str, *parts: str) -> str:
    boundary = f"b{abs(hash((kind, parts)))}"
    inside = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{inside}--{boundary}--\n"


PLAIN, HTML = "Content-Type: text/plain\n\nplain", "Content-Type: text/html\n\n<p>html</p>"


def test_of_an_alternative_both_forms_are_given() -> None:
    mail = parse(multipart("alternative", PLAIN, HTML).encode()).mail
    assert (mail.body_text, mail.body_html) == ("plain", "<p>html</p>")


def test_html_alone_gives_a_text() -> None:
    mail = parse(b"Content-Type: text/html\n\n<h1>Hi</h1><p>a <b>b</b><br>c&amp;d</p><style>x</style>").mail
    assert mail.body_text == "Hi\na b\nc&d"


def test_a_footer_beside_html_is_shown_in_both_forms() -> None:
    mail = parse(multipart("mixed", multipart("alternative", PLAIN, HTML), "\nfoot <er>").encode()).mail
    assert mail.body_text == "plain\nfoot <er>"
    assert mail.body_html == "<p>html</p>\n<pre>foot &lt;er&gt;</pre>"


def test_without_html_there_is_none() -> None:
    mail = parse(multipart("mixed", PLAIN, "\nmore").encode()).mail
    assert (mail.body_text, mail.body_html) == ("plain\nmore", "")


def test_large_inline_images_become_attachments() -> None:
    head = "Content-Type: image/png\nContent-ID: <{}>\nContent-Transfer-Encoding: base64\n\n"
    small, large = b64encode(b"s" * 1000).decode(), b64encode(b"l" * 200_000).decode()
    mail = parse(multipart("related", HTML, head.format("s") + small, head.format("l") + large).encode()).mail
    assert [part.content_id for part in mail.body_inline_part] == ["s"]
    assert [(file.content_id, file.size_bytes) for file in mail.attachments] == [("l", 200_000)]
    assert (mail.size_inline_bytes, mail.size_attachments_bytes) == (1000, 200_000)


def test_too_much_text_is_cut_and_kept_as_a_file() -> None:
    text = b"line\n" * 1_000_000
    parsed = parse(b"Subject: x\n\n" + text)
    assert len(parsed.mail.body_text) == 3 << 20
    assert parsed.blobs == [text]
    assert Code.TEXT_TRUNCATED in {defect.code for defect in parsed.mail.defects}


def test_a_message_in_a_message_is_a_file_and_its_boundaries_stay_in_it() -> None:
    inner = multipart("mixed", PLAIN, HTML)
    parsed = parse(multipart("mixed", PLAIN, f"Content-Type: message/rfc822\n\n{inner}").encode())
    assert parsed.mail.body_text == "plain"
    assert [file.filename for file in parsed.mail.attachments] == ["attachment-1.eml"]
    assert parsed.blobs == [inner.rstrip("\n").encode() + b"\n"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.txt", "x.txt"),
        ("/", "attachment-3.pdf"),
        ("..", "attachment-3.pdf"),
        ("a\x00b\x1b[31m.txt", "a b [31m.txt"),
        ("gpj.\u202eexe", "gpj.exe"),
        ("x" * 500 + ".txt", "x" * 196 + ".txt"),
        ("é" * 500 + ".txt", "é" * 98 + ".txt"),
        ("CON<>:.txt", "CON___.txt"),
        (".bashrc", "bashrc"),
        ("name.exe. ", "name.exe"),
    ],
)
def test_file_names_are_harmless(name: str, expected: str) -> None:
    assert safe_filename(name, "application/pdf", 3) == expected


@pytest.mark.parametrize(
    ("name", "denied"), [("a.exe", True), ("a.EXE", True), ("a.tar.Js", True), ("a.pdf", False)]
)
def test_denied_extensions_are_compared_in_lower_case(name: str, denied: bool) -> None:
    assert is_denied(name) is denied


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        '<a href="java&#10;script:alert(1)">x</a>',
        '<a href="data:text/html,<script>alert(1)</script>">x</a>',
        '<img src="data:image/svg+xml,<svg onload=alert(1)>">',
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        '<div style="position:fixed;background:expression(alert(1))">x</div>',
        "<iframe src=https://e.example>",
        "<form action=https://e.example><input name=password></form>",
        "<meta http-equiv=refresh content=0><base href=https://e.example>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    ],
)
def test_html_that_acts_is_removed(html: str) -> None:
    clean = sanitise(html).lower()
    tags = set(re.findall(r"<([a-z]+)", clean))
    assert not tags & {
        "script",
        "svg",
        "math",
        "style",
        "iframe",
        "form",
        "input",
        "meta",
        "base",
        "noscript",
    }
    attributes = " ".join(re.findall(r"<([^>]*)>", clean))
    for bad in ("onerror", "onload", "javascript:", "data:", "position", "password"):
        assert bad not in attributes or "title=" in attributes


def test_html_of_letters_is_kept() -> None:
    html = '<p style="color:red">a <a href="https://x.example/">b</a> <img src="cid:1" alt="c"></p>'
    clean = sanitise(html)
    assert 'style="color:red"' in clean
    assert 'href="https://x.example/"' in clean
    assert 'src="cid:1"' in clean
    assert 'src="data:image/png;base64,AA=="' in sanitise('<img src="data:image/png;base64,AA==">')
    assert "position" not in sanitise('<p style="position:fixed;color:red">x</p>')
    assert to_text("") == ""


# --- flags and documents ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("Auto-Submitted: auto-replied", "is_automated"),
        ("Auto-Submitted: no", ""),
        ("Precedence: Bulk", "is_automated"),
        ("List-Id: <l.example>", "is_automated"),
        ("X-Forwarded-For: a@b c@d", "is_forwarded"),
        ("In-Reply-To: <a@b>", "is_replied"),
        ("References: <a@b> <c@d>", "is_replied"),
        ("References: <a@b>", ""),
        ("Subject: RE: x", "is_replied"),
        ("Subject: regarding", ""),
    ],
)
def test_the_flags_say_what_the_headers_say(field: str, flag: str) -> None:
    parsed = parse(f"{field}\n\n".encode())
    for name in ("is_automated", "is_forwarded", "is_replied"):
        assert getattr(parsed, name) is (name == flag)


def test_the_document_has_the_members_of_the_wire_specification() -> None:
    raw = HEAD + b"Message-ID:\r\n <m@a.example>\r\nSubject: Hi\r\nContent-Type: application/pdf\r\n\r\npdf"
    parsed = parse(raw)
    document = msgspec.json.decode(
        message_document(parsed, id="<m@a.example>", received_at=1_760_000_000_000)
    )
    mail = msgspec.json.decode(b64decode(document["didCommMessage"].pop("plainBodyBase64")))
    assert document == {
        "id": "<m@a.example>",
        "from": "ann@a.example",
        "securityStatus": "clean",
        "didCommMessage": {
            "type": "application/mailio-smtp+json",
            "from": "ann@a.example",
            "to": ["bob@b.example", "carl@c.example"],
            "intent": "message",
            "createdTime": 1_760_000_000_000,
        },
    }
    headers = mail.pop("headers")
    assert headers["Subject"] == ["Hi"]
    assert mail == {
        "from": {"Name": "Ann", "Address": "ann@a.example"},
        "to": [{"Name": "Bob", "Address": "bob@b.example"}, {"Name": "", "Address": "carl@c.example"}],
        "messageId": "<m@a.example>",
        "subject": "Hi",
        "attachments": [
            {
                "contentType": "application/pdf",
                "contentDisposition": "attachment",
                "filename": "attachment-1.pdf",
                "content": None,
                "contentUrl": f"blob:{sha256(b'pdf').hexdigest()}",
                "sizeBytes": 3,
            }
        ],
        "sizeBytes": len(raw),
        "sizeHtmlBodyBytes": 0,
        "sizeInlineBytes": 0,
        "sizeAttachmentsBytes": 3,
        "timestamp": 1000,
        "dmarcVerdict": None,
    }
    assert parsed.blobs == [b"pdf"]


def test_documents_are_canonical_and_the_same_every_time() -> None:
    raw = HEAD + b"\r\n" + "grüße".encode()
    body = message_document(parse(raw), id="x", received_at=1)
    assert body == message_document(parse(raw), id="x", received_at=1)
    assert list(msgspec.json.decode(body)) == sorted(msgspec.json.decode(body))
    assert b'": ' not in body
    assert b'"isReplied"' not in body


def test_without_a_date_the_time_of_receipt_is_given() -> None:
    document = msgspec.json.decode(message_document(parse(b"Subject: x\n\n"), id="x", received_at=77))
    assert msgspec.json.decode(b64decode(document["didCommMessage"]["plainBodyBase64"]))["timestamp"] == 77


def test_the_form_says_who_and_what_before_the_mail_is_accepted() -> None:
    seen = inspect(
        HEAD + b"From: Eve <eve@e.example>\r\nSubject: =?utf-8?q?H=C3=AF?=\r\nMessage-Id: <1@a>\r\n\r\n"
    )
    assert seen.from_addresses == ("ann@a.example", "eve@e.example")
    assert (seen.subject, seen.message_id, seen.parts, seen.depth) == ("Hï", "<1@a>", 1, 0)
