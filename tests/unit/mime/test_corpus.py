"""Real messages: all are read, well-known ones say what they should, and the standard library agrees."""

from __future__ import annotations

import email
import email.header
import email.message
import email.utils
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.mime.content import decode_transfer
from node.mime.document import message_document
from node.mime.limits import Code, MimeLimits
from node.mime.mail import Mail
from node.mime.parser import parse
from node.mime.structure import inspect, scan

FILES = sorted((Path(__file__).parents[2] / "corpus" / "messages").glob("*.eml"))
RAW = {path.stem: path.read_bytes() for path in FILES}
ALL = pytest.mark.parametrize("name", RAW)


def mail_of(name: str) -> Mail:
    return parse(RAW[name]).mail


def test_the_corpus_is_complete() -> None:
    assert len(FILES) == 107


@ALL
def test_every_message_is_read_accepted_and_encoded(name: str) -> None:
    raw = RAW[name]
    parsed = parse(raw)
    assert inspect(raw).violation is None
    assert parsed.mail.size_bytes == len(raw)
    assert [a.size_bytes for a in parsed.mail.attachments] == [len(blob) for blob in parsed.blobs]
    assert parsed.mail.size_attachments_bytes == sum(map(len, parsed.blobs))
    document = msgspec.json.decode(message_document(parse(raw), id="<id@example>", received_at=7))
    assert document["didCommMessage"]["type"] == "application/mailio-smtp+json"
    assert "\0" not in parsed.mail.body_text


@pytest.mark.parametrize(
    ("name", "sender", "subject", "text", "files"),
    [
        (
            "plain_emails-basic_email",
            "test@lindsaar.net",
            "Testing 123",
            "Plain email.\n\nHope it works well",
            [],
        ),
        ("rfc6532-utf8_headers", "jdöe@mächine.example", "Säying Hello", "body", []),
        ("multi_charset-japanese_iso_2022", "raasdnil@gmail.com", "まみむめも", "すみません。", []),
        ("multi_charset-ks_c_5601-1987", "from@example.com", "test", "스티해", []),
        (
            "multi_charset-japanese_attachment",
            "raasdnil@gmail.com",
            "testing",
            "testing",
            [("てすと.txt", 33)],
        ),
        (
            "multi_charset-japanese_attachment_long_name",
            "mikel@test.lindsaar.net",
            "まみむめも" * 10,
            "",
            [("かきくけこ" * 5 + ".txt", 18)],
        ),
        (
            "attachment_emails-attachment_nonascii_filename",
            "foo@example.com",
            "testing",
            "This is",
            [("ciële.txt", 11)],
        ),
        (
            "attachment_emails-attachment_message_rfc822",
            "foo@example.com",
            "testing",
            "This is the first part.",
            [("ForwardedMessage.eml", 3781)],
        ),
        (
            "attachment_emails-attachment_only_email",
            "rfinnie@domain.dom",
            "this message JUST",
            "",
            [("blah.gz", 288)],
        ),
        (
            "mime_emails-raw_email7",
            "foo@example.com",
            "testing",
            "This is the first part.",
            [("test.rb", 25), ("test.pdf", 14), ("smime.p7s", 227)],
        ),
        (
            "mime_emails-sig_only_email",
            "test@test.lindsaar.net",
            "Re: Testing",
            "This is random",
            [("signature.asc", 197)],
        ),
        (
            "error_emails-invalid_subject_characters",
            "info@formacaofrenetik.info",
            "Formação Frenetik",
            "TEST",
            [],
        ),
        ("error_emails-multiple_content_types", "redacted@flashmail.net", "Redacted", "foo", []),
        (
            "mime_emails-email_with_similar_boundaries",
            "xxxxxx@xxxxxxxx.xxx",
            "Xxxxxx",
            "Test",
            [("LOGO.png", 3)],
        ),
        (
            "plain_emails-raw_email_with_at_display_name",
            "test@lindsaar.net",
            "Testing 123",
            "Plain email.",
            [],
        ),
        (
            "plain_emails-raw_email_multiple_from",
            "tim@powerupdev.com",
            "/home/svn/public",
            "<p><b>recordkick",
            [],
        ),
        ("error_emails-bad_encoded_subject", "", "TEST", "TEST", []),
        ("rfc2822-example10", "pete@silly.test", "", "Testing.", []),
        ("from_gmail", "ActiveUtahHomes@gmail.com", "Newsletter March 1- March 8, 2024", "", None),
    ],
)
def test_well_known_messages_say_what_they_should(
    name: str, sender: str, subject: str, text: str, files: list[tuple[str, int]] | None
) -> None:
    mail = mail_of(name)
    assert mail.from_.address == sender
    assert mail.subject.startswith(subject)
    assert mail.body_text.lstrip().startswith(text)
    if files is not None:
        assert [(file.filename, file.size_bytes) for file in mail.attachments] == files


def test_a_group_and_comments_are_read_as_addresses() -> None:
    mail = mail_of("rfc2822-example10")
    assert mail.from_.name == "Pete"
    assert [(address.name, address.address) for address in mail.to] == [
        ("Chris Jones", "c@public.example"),
        ("", "joe@example.org"),
        ("John", "jdoe@one.test"),
    ]


def test_inline_images_are_given_to_the_html_that_shows_them() -> None:
    mail = mail_of("attachment_emails-attachment_message_rfc822_inline_image")
    (part,) = mail.body_inline_part
    assert part.content_type.startswith("image/")
    assert f"cid:{part.content_id}" in mail.body_html


def test_the_flags_of_replies_and_automatic_mail() -> None:
    assert parse(RAW["plain_emails-raw_email_reply"]).is_replied
    assert not parse(RAW["plain_emails-basic_email"]).is_replied
    assert parse(RAW["multipart_report_emails-report_422"]).is_automated
    assert not parse(RAW["plain_emails-basic_email"]).is_automated


# --- the standard library as the other opinion ----------------------------------------------------


def _well_formed(name: str) -> bool:
    return not any(
        defect.code in {Code.HEADER_MALFORMED, Code.HEADER_8BIT} for defect in mail_of(name).defects
    )


def _without_defects(name: str) -> bool:
    return not mail_of(name).defects and name != "mime_emails-raw_email_with_binary_encoded"


# Where we differ on purpose: spaces between addresses, and UTF-8 headers (RFC 6532), which compat32 can't read.
FROM_DIFFERS = {
    "plain_emails-raw_email_multiple_from",
    "plain_emails-mix_caps_content_type",
    "rfc6532-utf8_headers",
}


@pytest.mark.parametrize("name", [name for name in RAW if _well_formed(name)])
def test_author_and_subject_are_those_the_standard_library_finds(name: str) -> None:
    theirs = email.message_from_bytes(RAW[name])
    mail = mail_of(name)
    subject = str(theirs.get("subject", ""))
    if subject.isascii():
        pieces = email.header.decode_header(" ".join(subject.split()))
        try:
            expected = str(email.header.make_header(pieces))
        except LookupError:
            expected = mail.subject
        assert " ".join(mail.subject.split()) == " ".join(expected.split())
    sender = theirs.get("from")
    if sender and name not in FROM_DIFFERS:
        assert mail.from_.address == email.utils.parseaddr(str(sender))[1].replace(" ", "")


def _leaves(message: email.message.Message) -> list[bytes]:
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        return [leaf for part in message.get_payload() for leaf in _leaves(part)]  # type: ignore[arg-type]
    if message.is_multipart():
        return [b"<message>"]
    payload = message.get_payload(decode=True)
    return [payload if isinstance(payload, bytes) else b""]


@pytest.mark.parametrize("name", [name for name in RAW if _without_defects(name)])
def test_the_parts_are_those_the_standard_library_finds(name: str) -> None:
    theirs = _leaves(email.message_from_bytes(RAW[name]))
    raw = RAW[name]
    ours = [
        b"<message>" if part.media.value == "message/rfc822" else decode_transfer(raw, part, [])
        for part in scan(raw, MimeLimits()).parts
        if not part.is_container
    ]
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        if b"<message>" not in (mine, other):
            assert mine.rstrip() == other.rstrip()


# --- nothing raises -----------------------------------------------------------------------------

PIECES = [
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b'Content-Type: multipart/alternative; boundary="c"\n',
    b"Content-Type: message/rfc822\n",
    b"Content-Type: text/html; charset=utf-7\n",
    b"Content-Type: text/plain; charset*0*=x'y'%ff%; name*1=a; name*0*=utf-8''%\n",
    b"Content-Type: image/png\nContent-ID: <a>\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Disposition: attachment; filename*=idna''%80; filename=\"\\",
    b"Subject: =?utf-8?q?=0d=0aX?= =?utf-16?b?2A==?= =?idna?q?x?=\n",
    b'From: ((("<a@b>,;:@\n',
    b"Date: Mon, 99 Foo 99999 99:99:99 +99999999999\n",
    b"--b\n",
    b"--b--\r\n",
    b"--c\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"=\n",
    b"+2AA-",
    b"<div><b><!--<style>",
    b"\x1b$B\xff\x80",
]


def read_everything(raw: bytes) -> None:
    inspect(raw)
    parsed = parse(raw)
    assert message_document(parsed, id="x", received_at=1)
    assert len(parsed.mail.attachments) == len(parsed.blobs)
    for text in (parsed.mail.subject, parsed.mail.from_.address, parsed.mail.message_id):
        assert text.replace("\u00ad", "").isprintable() or not any(ord(char) < 32 for char in text)


@given(st.binary(max_size=2000))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_never_raise(raw: bytes) -> None:
    read_everything(raw)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=40).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_broken_mime_never_raises(raw: bytes) -> None:
    read_everything(raw)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_messages_never_raise(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([raw for raw in RAW.values() if len(raw) < 9000])))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.integers(0, 40))
        raw[at : at + cut] = data.draw(st.sampled_from(PIECES) | st.binary(max_size=5))
    read_everything(bytes(raw))
