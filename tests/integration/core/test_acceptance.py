"""Who is admitted, what is accepted, and where it ends up: the core without its doors."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from actors.messages import Execute, Inspect
from events.account import DisableAccount
from events.errors import (
    Busy,
    Forbidden,
    MailboxDisabled,
    MailboxFull,
    MailioError,
    MailLoop,
    MalformedMessage,
    NotFound,
    StorageUnavailable,
)
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id
from events.log.clock import VirtualClock
from events.log.log import Origin
from events.log.sqlite_log import SqliteLog
from events.mail import Recipient
from events.mailbox import MessageFiled
from events.policy import Folder, Reason
from node.acceptance import RUSH
from node.accounts import Registration
from node.core import Core
from node.crypto.keys import UserKeys
from node.settings import NodeSettings, Settings, SmtpSettings
from node.smtp.ports import SessionFacts

FACTS = SessionFacts(session="s", client="192.0.2.1", helo="mx.example", esmtp=True, tls="", smtputf8=False)
OWNER = "someone@alpha.example"
PEST = "pest@spam.example"


def mail(author: str = "friend@beta.example", more: str = "", size: int = 0) -> bytes:
    text = f"From: {author}\r\nTo: {OWNER}\r\nSubject: hello\r\n{more}\r\n"
    return text.encode() + b"x" * size + b"\r\n"


class Node:
    """A core with one account, and the words that tests need."""

    def __init__(self, core: Core, address: str) -> None:
        self.core = core
        self.address = address

    async def account(self, email: str) -> Recipient:
        keys = UserKeys.generate()
        opened = await self.core.accounts.open(
            Registration(
                email=email, signing_key=keys.public_key, agreement_key=keys.agreement_public_key,
                database_password="secret",
            ),
            "test",
        )  # fmt: skip
        return Recipient(opened.address, opened.email)

    async def admit(
        self, recipient: str = OWNER, sender: str = "friend@beta.example", size: int = 0
    ) -> Recipient:
        return await self.core.acceptance.admit(FACTS, sender, recipient, size)

    async def accept(self, raw: bytes, *recipients: Recipient, sender: str = "friend@beta.example") -> str:
        to = recipients or (Recipient(self.address, OWNER),)
        return await self.core.acceptance.accept(FACTS, sender, to, raw)

    async def say(self, sender: str, status: str, text: str = "") -> None:
        """Enter a handshake in the owner's book, under the id of `text` or of the sender."""
        terms = Terms(
            id=handshake_id(self.address, text or sender), status=status, created=1,
            by_email_hash=bool(text), sender_email_hash=text,
        )  # fmt: skip
        await self.core.actors.ask(
            "handshake", self.address, Execute(RecordHandshake(terms), Origin(actor="test"))
        )

    async def filed(self) -> list[MessageFiled]:
        await self.core.dispatcher.reached(self.core.log.head)
        records = await self.core.log.read(0, types={"MessageFiled"})
        return [record.event for record in records if isinstance(record.event, MessageFiled)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(node=NodeSettings(data=tmp_path / "data", quota_bytes=20_000))


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[Node]:
    core = Core(settings)
    await core.start()
    try:
        node = Node(core, "")
        node.address = (await node.account(OWNER)).address
        yield node
    finally:
        await core.close()


async def refused(node: Node, kind: type[MailioError], **facts: object) -> MailioError:
    with pytest.raises(kind) as caught:
        await node.admit(**facts)  # type: ignore[arg-type]
    return caught.value


async def test_a_known_recipient_is_admitted_in_any_case(node: Node) -> None:
    admitted = await node.admit("SomeOne@ALPHA.example")
    assert (admitted.address, admitted.email) == (node.address, OWNER)


@pytest.mark.parametrize(
    "recipient", ["nobody@alpha.example", "someone@other.example", "a b@x", "", "\ud800@x.y"]
)
async def test_an_unknown_recipient_is_refused(node: Node, recipient: str) -> None:
    assert (await refused(node, NotFound, recipient=recipient)).smtp == "550 5.1.1"


async def test_a_bare_postmaster_is_that_of_the_first_domain(node: Node) -> None:
    await refused(node, NotFound, recipient="postmaster")
    recipient = await node.account("postmaster@alpha.example")
    assert (await node.admit("postmaster")).address == recipient.address


async def test_a_disabled_mailbox_is_refused(node: Node) -> None:
    await node.core.accounts.execute(node.address, DisableAccount(), "test")
    assert (await refused(node, MailboxDisabled)).smtp == "550 5.2.1"


async def test_a_full_mailbox_is_a_deferral(node: Node) -> None:
    assert (await refused(node, MailboxFull, size=20_001)).smtp == "452 4.2.2"
    await node.accept(mail(size=14_000))
    await node.filed()
    await refused(node, MailboxFull, size=6_000)


async def test_a_message_that_turns_out_too_large_for_the_mailbox_is_deferred_after_data(node: Node) -> None:
    with pytest.raises(MailboxFull):
        await node.accept(mail(size=25_000))
    assert await node.filed() == []


async def test_a_burst_does_not_fill_a_mailbox_many_times_over(node: Node) -> None:
    results = await asyncio.gather(
        *(node.accept(mail(size=9_000)) for _ in range(10)), return_exceptions=True
    )
    accepted = [one for one in results if isinstance(one, str)]
    assert len(accepted) == 2
    assert all(isinstance(one, str | MailboxFull) for one in results)
    assert len(await node.filed()) == len(accepted)


async def test_what_was_refused_or_filed_is_owed_no_longer(node: Node) -> None:
    with pytest.raises(MailboxFull):
        await node.accept(mail(size=25_000))
    await node.accept(mail(size=100))
    await node.filed()
    state = await node.core.actors.ask("mailbox", node.address, Inspect())
    await node.admit(size=20_000 - state.used)
    await refused(node, MailboxFull, size=20_001 - state.used)


async def test_a_revoked_envelope_sender_is_refused(node: Node) -> None:
    await node.say(PEST, "revoked")
    assert (await refused(node, Forbidden, sender=PEST)).smtp == "550 5.7.1"
    assert (await node.admit(sender="")).address == node.address


@pytest.mark.parametrize("written", ["pest@spam.example", "Pest@Spam.Example"])
async def test_a_revoked_sender_is_found_in_any_case(node: Node, written: str) -> None:
    await node.say(PEST, "revoked")
    await refused(node, Forbidden, sender=written)


async def test_a_revocation_by_email_hash_is_found(node: Node) -> None:
    await node.say(PEST, "revoked", text=await node.core.hasher.hash(PEST))
    await refused(node, Forbidden, sender=PEST)
    await node.admit(sender="other@spam.example")


async def test_a_revoked_author_behind_another_envelope_sender_is_refused_after_data(node: Node) -> None:
    await node.say(PEST, "revoked")
    with pytest.raises(Forbidden):
        await node.accept(mail(PEST), sender="bounce@list.example")


async def test_a_second_author_does_not_hide_a_revoked_one(node: Node) -> None:
    await node.say(PEST, "revoked")
    await node.say("friend@beta.example", "accepted")
    with pytest.raises(Forbidden):
        await node.accept(mail(f"friend@beta.example, {PEST}"))
    with pytest.raises(Forbidden):
        await node.accept(mail("friend@beta.example", more=f"From: {PEST}\r\n"))


async def test_one_accepted_author_does_not_vouch_for_another(node: Node) -> None:
    await node.say("friend@beta.example", "accepted")
    await node.accept(mail("friend@beta.example, stranger@gamma.example"))
    (filed,) = await node.filed()
    assert filed.reason is Reason.FIRST_CONTACT


async def test_a_mail_to_two_is_spam_only_for_the_one_who_revoked(node: Node) -> None:
    other = await node.account("other@alpha.example")
    await node.say(PEST, "revoked")
    await node.accept(mail(PEST), Recipient(node.address, OWNER), other, sender="bounce@list.example")
    folders = {(filed.folder, filed.reason) for filed in await node.filed()}
    assert folders == {
        (Folder.SPAM, Reason.SENDER_REVOKED),
        (Folder.INBOX, Reason.FIRST_CONTACT),
    }


async def test_one_mailbox_named_twice_gets_one_message(node: Node) -> None:
    owner = Recipient(node.address, OWNER)
    await node.accept(mail(), owner, owner, Recipient(node.address, "alias@alpha.example"))
    assert len(await node.filed()) == 1


async def test_two_mails_with_the_same_message_id_are_both_filed(node: Node) -> None:
    same = "Message-ID: <same@beta.example>\r\n"
    await node.accept(mail("a@beta.example", more=same))
    await node.accept(mail("b@beta.example", more=same))
    filed = await node.filed()
    assert [one.message_id for one in filed] == ["<same@beta.example>"] * 2
    assert len({one.id for one in filed}) == 2


@pytest.mark.parametrize(
    ("more", "kind", "code"),
    [
        ("Received: by x\r\n" * 51, MailLoop, "554 5.4.6"),
        ("X-A: b\r\n" * 1001, MalformedMessage, "554 5.6.0"),
        ("X-A: " + "b" * 70_000 + "\r\n", MalformedMessage, "554 5.6.0"),
        ("X-A: " + "\r\n ".join(["c" * 900] * 120) + "\r\n", MalformedMessage, "554 5.6.0"),
    ],
)
async def test_a_form_beyond_the_limits_is_refused(
    node: Node, more: str, kind: type[MailioError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        await node.accept(mail(more=more))
    assert caught.value.smtp == code
    assert await node.filed() == []


def nested(depth: int) -> bytes:
    head = b"From: a@b.example\r\n"
    for level in range(depth):
        head += b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
    return head + b"\r\nend\r\n"


async def test_a_message_nested_too_deep_or_in_too_many_parts_is_refused(node: Node) -> None:
    with pytest.raises(MalformedMessage):
        await node.accept(nested(150))
    parts = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 1500
    with pytest.raises(MalformedMessage):
        await node.accept(b"From: a@b.example\r\n" + parts)


async def test_too_much_unfinished_work_makes_senders_wait(tmp_path: Path) -> None:
    settings = Settings(node=NodeSettings(data=tmp_path / "data"), smtp=SmtpSettings(backlog=0))
    core = Core(settings)
    await core.start()
    try:
        with pytest.raises(Busy):
            await core.acceptance.accept(FACTS, "a@b.example", (Recipient("0x", OWNER),), mail())
    finally:
        await core.close()


async def test_an_unknown_and_a_known_recipient_take_about_as_long(node: Node) -> None:
    async def seconds(recipient: str) -> float:
        taken = []
        for _ in range(200):
            began = time.perf_counter()
            with suppress(NotFound):
                await node.admit(recipient)
            taken.append(time.perf_counter() - began)
        return sorted(taken)[100]

    known, unknown = await seconds(OWNER), await seconds("nobody@alpha.example")
    assert known - unknown < 0.005


async def test_the_state_that_is_shown_is_that_of_the_log(node: Node) -> None:
    await node.accept(mail(size=100))
    (filed,) = await node.filed()
    state = await node.core.actors.ask("mailbox", node.address, Inspect())
    assert state.used == filed.size
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state)) == state


async def test_a_rush_is_many_messages_at_once_while_the_backlog_has_room(node: Node) -> None:
    acceptance = node.core.acceptance
    assert not acceptance.hurried
    acceptance.in_progress = RUSH
    assert acceptance.hurried


async def test_a_rush_is_remembered_when_its_messages_were_all_answered_at_once(node: Node) -> None:
    await asyncio.gather(*(node.accept(mail(size=100)) for _ in range(RUSH)))
    assert node.core.acceptance.in_progress == 0
    assert node.core.acceptance.hurried


async def test_a_mail_in_a_quiet_moment_is_no_rush(node: Node) -> None:
    await node.accept(mail(size=100))
    assert not node.core.acceptance.hurried


async def test_with_half_the_backlog_used_filing_gives_way_no_longer(tmp_path: Path) -> None:
    core = Core(Settings(node=NodeSettings(data=tmp_path / "data"), smtp=SmtpSettings(backlog=0)))
    await core.start()
    try:
        core.acceptance.in_progress = RUSH
        assert not core.acceptance.hurried
    finally:
        await core.close()


async def test_a_message_that_was_refused_is_no_longer_in_progress(node: Node) -> None:
    with pytest.raises(MalformedMessage):
        await node.accept(nested(150))
    assert node.core.acceptance.in_progress == 0


async def test_a_node_that_could_not_start_has_released_its_log(settings: Settings) -> None:
    settings.node.data.mkdir()
    (settings.node.data / "blobs").write_text("in the way of a folder")
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            Core(settings)
    SqliteLog.open(settings.node.data / "log.sqlite", VirtualClock(), "test").abandon()


async def test_a_node_that_lost_its_views_refuses_nobody_whom_it_knows(settings: Settings) -> None:
    core = Core(settings)
    await core.start()
    await Node(core, "").account(OWNER)
    await core.close()
    shutil.rmtree(settings.node.data / "views")
    again = Core(settings)
    await again.start()
    try:
        assert (await Node(again, "").admit()).email == OWNER
    finally:
        await again.close()
