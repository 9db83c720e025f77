"""Real and broken messages, each through the whole node: SMTP, blobs, log, views, and out to a PouchDB."""

from __future__ import annotations

import base64
import email
import email.message
import hashlib
import json
import re
import smtplib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.mail import STREAM, MailAccepted
from events.mailbox import MessageFiled
from node.stores import reading
from tests.daemon import Daemon, running
from tests.scenarios.device import pull

CORPUS = Path(__file__).parent.parent / "corpus" / "messages"
FILES = sorted(CORPUS.iterdir())
OWNER = "someone@alpha.example"
ACCEPTED = re.compile(r"2\.0\.0 accepted as ([0-9a-f]{32})")

REFUSED_BY_RULE: dict[str, tuple[int, str]] = {}
"""Files that the door refuses although a mail client has put their line ends right: code and status."""

SAID: dict[str, tuple[str, str]] = {
    "error_emails-invalid_subject_characters.eml": (
        "info@formacaofrenetik.info",
        "Formação FrenetikPolis: Mega Campanha Final Verão | Cursos de Setembro",
    ),
    "error_emails-trademark_character_in_subject.eml": ("j@yahoo-example.com", "GA.comô has a lead for you"),
    "from_gmail.eml": ("ActiveUtahHomes@gmail.com", "Newsletter March 1- March 8, 2024"),
    "gmail_newsletter_redfin.eml": (
        "listings@redfin.com",
        "Salt Lake City Tour Insights: 2684 S Melbourne St E and 1 more update",
    ),
    "mime_emails-two_from_in_message.eml": ("tester1@test.com", "Sending messages include last little bit"),
    "multi_charset-japanese.eml": ("raasdnil@gmail.com", "まみむめも"),
    "plain_emails-basic_email.eml": ("test@lindsaar.net", "Testing 123"),
    "plain_emails-raw_email_with_partially_quoted_subject.eml": (
        "jamis@37signals.com",
        'Re: Test: "漢字" mid "漢字" tail',
    ),
    "rfc6532-utf8_headers.eml": ("jdöe@mächine.example", "Säying Hello"),
}
"""Author and subject of some messages, as a person reads them."""


class Sent(msgspec.Struct):
    """One message of the corpus as it was sent, and the id under which the node has it."""

    name: str
    raw: bytes
    mail: str


class Node(msgspec.Struct):
    """A node that has taken the corpus."""

    daemon: Daemon
    account: dict[str, Any]
    sent: list[Sent]
    refused: dict[str, tuple[int, str]]


def ended(raw: bytes) -> bytes:
    """A message ends with CRLF, or SMTP could not carry it."""
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def as_a_client_sends(raw: bytes) -> bytes:
    """Put line ends right as every mail client does; a CR that stands alone is not a line end."""
    return ended(re.sub(rb"(?<!\r)\n", b"\r\n", raw))


def hand_in(client: smtplib.SMTP, raw: bytes) -> tuple[int, str]:
    """Send exactly these bytes; smtplib's own `data` would quote dots after bare line feeds too."""
    assert client.mail("bob@beta.example")[0] == 250
    assert client.rcpt(OWNER)[0] == 250
    assert client.docmd("DATA")[0] == 354
    stuffed = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]
    client.send(stuffed + b".\r\n")
    code, text = client.getreply()
    return code, text.decode()


def take_all(daemon: Daemon, messages: dict[str, bytes]) -> Node:
    """Send every message in one session."""
    node = Node(daemon, daemon.account(OWNER), [], {})
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.ehlo("client.example")
        for name, raw in messages.items():
            code, text = hand_in(client, raw)
            if code == 250:
                (mail,) = ACCEPTED.findall(text)
                node.sent.append(Sent(name, raw, mail))
            else:
                node.refused[name] = (code, text.partition(" ")[0])
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    return node


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with its defaults that has been sent the corpus by a proper client."""
    with running(tmp_path_factory.mktemp("strict")) as daemon:
        yield take_all(daemon, {file.name: as_a_client_sends(file.read_bytes()) for file in FILES})


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that keeps bare line ends and NULs, and has been sent the files as they are on disk."""
    settings = {"smtp.limits.bare_newlines": "keep", "smtp.limits.nuls": "keep"}
    with running(tmp_path_factory.mktemp("lenient"), **settings) as daemon:
        yield take_all(daemon, {file.name: ended(file.read_bytes()) for file in FILES})


@pytest.fixture(params=["strict", "lenient"])
def node(request: pytest.FixtureRequest) -> Node:
    """Each of both nodes in turn."""
    found: Node = request.getfixturevalue(request.param)
    return found


async def filed_of(node: Node) -> tuple[dict[str, MailAccepted], dict[str, MessageFiled]]:
    """What the log says was accepted and filed, by mail id."""
    async with reading(node.daemon.data, "test") as stores:
        log = stores.log
        accepted, filed = {}, {}
        for record in await log.read(0, log.head, {"MailAccepted", "MessageFiled"}):
            if isinstance(record.event, MailAccepted):
                accepted[record.stream.removeprefix(STREAM)] = record.event
            elif isinstance(record.event, MessageFiled):
                assert record.event.mail not in filed, "a mail was filed twice"
                filed[record.event.mail] = record.event
        return accepted, filed


def test_the_whole_corpus_is_there() -> None:
    assert len(FILES) == 107


def test_a_proper_client_is_refused_only_what_a_rule_forbids(strict: Node) -> None:
    assert strict.refused == REFUSED_BY_RULE
    assert len(strict.sent) == len(FILES) - len(REFUSED_BY_RULE)


def test_a_node_that_keeps_broken_line_ends_takes_every_file_as_it_is(lenient: Node) -> None:
    assert lenient.refused == {}
    assert [sent.name for sent in lenient.sent] == [file.name for file in FILES]


def test_a_strict_node_refuses_the_files_with_bare_line_ends(strict: Node) -> None:
    bare = [f for f in FILES if re.search(rb"(?<!\r)\n|\r(?!\n)", f.read_bytes())]
    assert bare
    with smtplib.SMTP("127.0.0.1", strict.daemon.smtp_port, timeout=30) as client:
        client.ehlo("client.example")
        code, text = hand_in(client, ended(bare[0].read_bytes()))
    assert (code, text.partition(" ")[0]) == (550, "5.6.11")


async def test_the_stored_bytes_are_those_that_were_sent(node: Node) -> None:
    accepted, _ = await filed_of(node)
    async with reading(node.daemon.data, "test") as stores:
        blobs = stores.open_blobs()
        for sent in node.sent:
            event = accepted[sent.mail]
            assert await blobs.read(event.blob) == sent.raw, sent.name
            assert event.size == len(sent.raw)
        await blobs.close()


async def test_every_message_is_filed_once_and_has_its_document(node: Node) -> None:
    accepted, filed = await filed_of(node)
    assert set(accepted) == set(filed) == {sent.mail for sent in node.sent}
    documents = node.daemon.documents(node.account)
    assert set(documents) == {event.id for event in filed.values()}
    for event in filed.values():
        document = documents[event.id]
        assert document["folder"] == event.folder
        assert document["created"] == event.filed_at
        assert document["_rev"].startswith("1-")


def mail_of(document: dict[str, Any]) -> dict[str, Any]:
    """The parsed mail inside a document (wire spec section 5.6)."""
    mail: dict[str, Any] = json.loads(base64.b64decode(document["didCommMessage"]["plainBodyBase64"]))
    return mail


def require_document(document: dict[str, Any]) -> None:
    """Check a document against wire spec section 6.4."""
    envelope = document["didCommMessage"]
    assert document["_id"] == document["id"]
    assert isinstance(document["from"], str)
    assert type(document["created"]) is int
    assert document["securityStatus"] == "clean"
    assert envelope["type"] == "application/mailio-smtp+json"
    assert envelope["intent"] == "message"
    assert envelope["from"] == document["from"]
    assert type(envelope["createdTime"]) is int
    assert all(isinstance(text, str) for text in envelope["to"])
    for flag in ("isAutomated", "isForwarded", "isReplied", "isRead"):
        assert document.get(flag, True) is True, "a flag that is false is absent"


def require_mail(mail: dict[str, Any]) -> None:
    """Check a parsed mail against wire spec section 5.6."""
    for address in (mail["from"], *mail["to"], *mail.get("cc", ()), *mail.get("replyTo", ())):
        assert set(address) == {"Name", "Address"}
        assert all(isinstance(text, str) for text in address.values())
    assert isinstance(mail["messageId"], str)
    assert isinstance(mail["subject"], str)
    assert mail["dmarcVerdict"] is None
    for number in ("sizeBytes", "sizeHtmlBodyBytes", "sizeInlineBytes", "sizeAttachmentsBytes", "timestamp"):
        assert type(mail[number]) is int
    for name, values in mail.get("headers", {}).items():
        assert isinstance(name, str)
        assert all(isinstance(value, str) for value in values)
    for part in mail.get("bodyInlinePart", ()):
        base64.b64decode(part["content"], validate=True)
        assert part["contentType"]
    html = mail.get("bodyHtml", "").lower()
    assert "<script" not in html
    assert "javascript:" not in html


async def test_every_document_has_the_shape_that_clients_know(node: Node) -> None:
    _, filed = await filed_of(node)
    documents = node.daemon.documents(node.account)
    for sent in node.sent:
        document = documents[filed[sent.mail].id]
        require_document(document)
        mail = mail_of(document)
        require_mail(mail)
        assert mail["from"]["Address"] == document["from"]
        assert mail["sizeBytes"] == len(sent.raw)


async def test_author_and_subject_are_those_that_a_person_reads(strict: Node) -> None:
    _, filed = await filed_of(strict)
    documents = strict.daemon.documents(strict.account)
    found = {}
    for sent in strict.sent:
        if sent.name in SAID:
            mail = mail_of(documents[filed[sent.mail].id])
            found[sent.name] = (mail["from"]["Address"], mail["subject"])
    assert found == SAID


def fetched(node: Node, path: str) -> bytes:
    """Download what a `contentUrl` names, as a client does."""
    request = urllib.request.Request(node.daemon.url + path)
    pair = f"{node.account['address']}:{node.account['databasePassword']}".encode()
    request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def md5(content: bytes) -> str:
    """CouchDB's digest of an attachment."""
    return "md5-" + base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


async def test_every_attachment_can_be_downloaded_and_has_the_right_digest(node: Node) -> None:
    _, filed = await filed_of(node)
    documents = node.daemon.documents(node.account)
    count = 0
    for event in filed.values():
        document = documents[event.id]
        stubs = document.get("_attachments", {})
        listed = mail_of(document).get("attachments", [])
        assert len(listed) == len(stubs) == len(event.attachments)
        for attachment, stub in zip(listed, stubs.values(), strict=True):
            assert attachment["content"] is None
            content = fetched(node, attachment["contentUrl"])
            assert md5(content) in {one["digest"] for one in stubs.values()}
            assert len(content) == attachment["sizeBytes"]
            assert stub["stub"] is True
            count += 1
    assert count > 20


def files_of(part: email.message.Message) -> Iterator[bytes]:
    """Attachments as the standard library finds and decodes them; messages within messages stay closed."""
    if part.get_content_maintype() == "multipart":
        for inner in part.get_payload():
            if isinstance(inner, email.message.Message):
                yield from files_of(inner)
    elif part.get_content_disposition() == "attachment" and part.get_content_maintype() != "message":
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        yield content


async def test_attachments_hold_what_another_parser_decodes(strict: Node) -> None:
    _, filed = await filed_of(strict)
    compared, differ = 0, []
    for sent in strict.sent:
        ours = {file.digest for file in filed[sent.mail].attachments}
        for content in files_of(email.message_from_bytes(sent.raw)):
            compared += 1
            if md5(content) not in ours:
                differ.append(sent.name)
    assert differ == []
    assert compared > 15


async def test_a_pouchdb_pulls_all_messages_with_all_their_files(node: Node) -> None:
    documents = node.daemon.documents(node.account)
    pulled = pull(node.daemon, node.account)
    assert pulled["failures"] == 0
    assert pulled["conflicts"] == []
    assert {name: one["rev"] for name, one in pulled["documents"].items()} == {
        name: document["_rev"] for name, document in documents.items()
    }
    for name, one in pulled["documents"].items():
        assert one["body"] == documents[name]["didCommMessage"]["plainBodyBase64"]
        stubs = documents[name].get("_attachments", {})
        assert one["files"] == {
            file: {
                "type": stub["content_type"],
                "said": stub["digest"],
                "found": stub["digest"],
                "length": stub["length"],
            }
            for file, stub in stubs.items()
        }


def test_nothing_failed_and_nothing_is_parked(node: Node) -> None:
    assert json.loads(node.daemon.command("status", "--json").stdout)["parked"] == 0
    assert json.loads(node.daemon.command("parked", "list", "--json").stdout) == []
    printed = node.daemon.printed()
    assert "Traceback" not in printed
    assert "error" not in re.sub(r"error_emails", "", printed)
