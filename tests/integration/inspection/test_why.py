"""The story of a message, told beside a core that runs: every step that the log, the view and clients left."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from actors.messages import Execute
from events import mail as mails
from events.account import email_stream
from events.errors import NotFound
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id, userdb_name
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.reading import LogReader
from events.mail import MailAccepted, Recipient
from events.mailbox import DocumentDraft, MessageFiled, ShowInterest, WriteDocuments
from events.node import STREAM as NODE_STREAM
from events.node import restored
from events.policy import Reason, Standing
from events.types import known_types
from node.cli.records import line_of
from node.core import Core
from node.crypto.base64_text import to_base64
from node.crypto.envelope import Envelopes
from node.crypto.keys import UserKeys
from node.inspection.differences import difference
from node.inspection.people import Owner
from node.inspection.searching import newest
from node.inspection.states import Past, state_of
from node.inspection.stories import Branch, Step, Story
from node.inspection.why import Archive, explain
from node.settings import NodeSettings, Settings
from node.smtp.ports import SessionFacts
from node.verification import verify_log
from tests.factories import account_opened, email_claimed

FACTS = SessionFacts(
    session="5e55", client="192.0.2.1", helo="mx.beta.example", esmtp=True, tls="TLSv1.3", smtputf8=False
)
OWNER, OTHER = "someone@alpha.example", "other@alpha.example"
FRIEND = "friend@beta.example"


def raw(author: str = FRIEND, message_id: str = "one@beta.example") -> bytes:
    return f"From: {author}\r\nSubject: hello\r\nMessage-ID: <{message_id}>\r\n\r\nhello\r\n".encode()


class Node:
    """A core with two accounts, a log to be looked into, and the words that tests need."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.addresses: dict[str, str] = {}
        self.reader = LogReader.open(core.settings.node.data / "log.sqlite")
        self.codec = Codec(known_types(), sealer=Envelopes(core.vault))

    async def account(self, email: str) -> None:
        """Open an account by its events alone: hashing its password and email would be most of the test."""
        address = self.addresses[email] = UserKeys.generate().address
        opened = account_opened(address=address, email=email, email_hash=to_base64(address.encode()[:32]))
        await self.core.log.append(
            Write(f"account-{address}", (opened,)),
            Write(email_stream(email), (email_claimed(email, address),)),
            origin=Origin(actor="test"),
        )
        await self.core.views.reached("directory", self.core.log.head)

    async def say(self, status: str, sender: str = FRIEND, owner: str = OWNER, text: str = "") -> None:
        """Enter a handshake in a book, under the id of `text` or of the sender."""
        address = self.addresses[owner]
        terms = Terms(
            id=handshake_id(address, text or sender), status=status, created=1, by_email_hash=bool(text)
        )
        await self.core.actors.ask(
            "handshake", address, Execute(RecordHandshake(terms), Origin(actor="test"))
        )

    async def take(self, content: bytes, *emails: str, sender: str = FRIEND) -> str:
        """Admit recipients and accept a mail as the door does; return its id."""
        recipients = [
            await self.core.acceptance.admit(FACTS, sender, email, 0) for email in emails or (OWNER,)
        ]
        mail_id = await self.core.acceptance.accept(FACTS, sender, recipients, content)
        await self.settled()
        return mail_id

    async def settled(self) -> None:
        await self.core.dispatcher.reached(self.core.log.head)
        await self.core.views.reached("userdb", self.core.log.head)

    async def write(
        self, document: str, revision: str, parent: str, owner: str = OWNER, **members: Any
    ) -> None:
        """Write a revision as one of the owner's devices does."""
        draft = DocumentDraft(
            id=document, revisions=(revision, parent) if parent else (revision,), kind="message", **members
        )
        address = self.addresses[owner]
        command = WriteDocuments((draft,), at=1, device="192.0.2.9 Phone/1")
        origin = Origin(actor=f"client/{address}")
        await self.core.actors.ask("mailbox", address, Execute(command, origin))
        await self.settled()

    async def why(self, wanted: str, owner: str = "") -> list[Story]:
        archive = Archive(self.reader, self.codec, self.core.views.stores["userdb"])
        return await explain(archive, wanted, owner)

    async def branch(self, wanted: str, owner: str = OWNER) -> Branch:
        ((branch,),) = [story.branches for story in await self.why(wanted, owner)]
        return branch


@pytest.fixture
async def both(node: Node) -> Node:
    """A node with the other account, too."""
    await node.account(OTHER)
    return node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    core = Core(Settings(node=NodeSettings(data=tmp_path / "data")))
    await core.start()
    node = Node(core)
    try:
        await node.account(OWNER)
        yield node
    finally:
        node.reader.close()
        await core.close()


def whats(steps: list[Step]) -> list[str]:
    return [step.what for step in steps]


def only(branch: Branch, what: str) -> Step:
    (step,) = [step for step in branch.steps if step.what == what]
    return step


async def test_a_mail_to_two_has_a_branch_for_each_with_its_own_verdict_and_folder(both: Node) -> None:
    await both.say("accepted")
    mail_id = await both.take(raw(), OWNER, OTHER)
    (story,) = await both.why(mail_id)
    session, accepted = story.steps
    assert (story.mail, story.message_id) == (mail_id, "<one@beta.example>")
    for part in ("5e55", "192.0.2.1", "mx.beta.example", "TLSv1.3", FRIEND):
        assert part in session.text
    assert session.facts["recipients"] == [OWNER, OTHER]
    assert accepted.position == only(story.branches[0], "filed").facts["entryPosition"] + 1
    mine, theirs = story.branches
    assert (mine.email, theirs.email) == (OWNER, OTHER)
    assert only(mine, "verdict").facts == {"standing": "accepted", "refusal": None}
    assert only(theirs, "verdict").facts == {"standing": "unknown", "refusal": None}
    filed = only(mine, "filed")
    assert (filed.facts["reason"], filed.facts["standing"]) == ("handshake_accepted_unverified", "accepted")
    assert filed.facts["entryPosition"] == 5
    assert "the owner has let this sender in" in filed.text
    assert only(theirs, "filed").facts["reason"] == "first_contact"


async def test_a_message_is_found_by_any_of_its_names(node: Node) -> None:
    await node.take(raw(message_id="other@beta.example"))
    mail_id = await node.take(raw())
    document = (await node.branch(mail_id)).document
    for name in (mail_id, mails.stream(mail_id), "<one@beta.example>", "one@beta.example", document):
        for owner in ("", OWNER, node.addresses[OWNER]):
            (story,) = await node.why(name, owner)
            assert (story.mail, [branch.document for branch in story.branches]) == (mail_id, [document])


async def test_what_devices_did_later_is_told_in_order(node: Node) -> None:
    mail_id = await node.take(raw())
    document = (await node.branch(mail_id)).document
    revision = only(await node.branch(mail_id), "shown").facts["rev"]
    await node.write(document, "2-a", revision, folder="inbox", read=True)
    await node.core.actors.ask(
        "mailbox", node.addresses[OWNER], Execute(ShowInterest(FRIEND, document), Origin(actor="client/x"))
    )
    await node.write(document, "3-a", "2-a", folder="archive", read=True)
    await node.write("another", "1-a", "", folder="archive")
    await node.write(document, "4-a", "3-a", deleted=True)
    branch = await node.branch(document)
    assert whats(branch.steps) == ["verdict", "filed", "changed", "interest", "changed", "changed", "shown"]
    assert [step.text for step in branch.steps if step.what == "changed"] == [
        "marked as read by 192.0.2.9 Phone/1",
        "moved from inbox to archive by 192.0.2.9 Phone/1",
        "deleted by 192.0.2.9 Phone/1",
    ]
    shown = only(branch, "shown")
    assert (shown.facts["deleted"], shown.facts["rev"], shown.facts["lag"]) == (True, "4-a", 0)


async def test_a_document_that_came_by_no_mail_has_a_story_of_its_own(node: Node) -> None:
    await node.write("draft-1", "1-a", "", folder="draft")
    await node.write("draft-1", "2-a", "1-a", folder="draft")
    (story,) = await node.why("draft-1")
    assert (story.mail, story.steps) == ("", [])
    (branch,) = story.branches
    assert whats(branch.steps) == ["written", "changed", "shown"]
    assert "into draft" in branch.steps[0].text


async def test_a_filing_that_came_with_an_import_is_told_without_its_mail(node: Node) -> None:
    mail_id = await node.take(raw())
    (record,) = await node.core.log.read(0, types={"MessageFiled"})
    assert isinstance(record.event, MessageFiled)
    imported = msgspec.structs.replace(
        record.event, id="imported", mail="elsewhere", message_id="<far@x.example>"
    )
    await node.core.log.append(Write(record.stream, (imported,)), origin=Origin(actor="import"))
    await node.settled()
    (story,) = await node.why("far@x.example")
    assert story.steps == []
    assert whats(story.branches[0].steps) == ["filed", "shown"]
    (story,) = await node.why(mail_id)
    assert story.branches[0].document == record.event.id


async def test_the_counts_behind_a_rule_are_those_of_then(node: Node) -> None:
    first = await node.take(raw())
    await node.take(raw(message_id="two@beta.example"))
    third = await node.take(raw(message_id="three@beta.example"))
    assert only(await node.branch(first), "filed").facts["received"] == 0
    filed = only(await node.branch(third), "filed")
    assert (filed.facts["received"], filed.facts["reason"]) == (2, "seldom_read")


async def test_an_entry_by_email_hash_is_known_by_what_was_kept_at_the_filing(node: Node) -> None:
    await node.say("accepted", text=await node.core.hasher.hash(FRIEND))
    filed = only(await node.branch(await node.take(raw())), "filed")
    assert (filed.facts["standing"], filed.facts["entryPosition"]) == ("accepted", None)


async def test_who_alone_would_have_refused_is_told_so(both: Node) -> None:
    await both.say("revoked", "pest@spam.example")
    mail_id = await both.take(raw("pest@spam.example"), OWNER, OTHER, sender="bounce@list.example")
    (story,) = await both.why(mail_id)
    mine, theirs = story.branches
    assert only(mine, "verdict").facts["refusal"] == "sender_revoked"
    assert only(theirs, "verdict").facts["refusal"] is None
    assert only(mine, "filed").facts["folder"] == "spam"


async def test_replicators_are_behind_at_or_past_a_message(node: Node) -> None:
    before = await node.take(raw())
    mail_id = await node.take(raw(message_id="two@beta.example"))
    old, new = [only(await node.branch(each), "filed").position for each in (before, mail_id)]
    store, database = node.core.views.stores["userdb"], userdb_name(node.addresses[OWNER])
    for name, body in {
        "behind": {"last_seq": old, "replicator": "pouchdb"},
        "past": {"last_seq": new, "session_id": "s"},
        "push": {"last_seq": 1},
        "strange": {"something": "else"},
        "words": {"last_seq": "words"},
    }.items():
        await store.put_local(database, name, json.dumps(body).encode())
    steps = {s.facts["id"]: s for s in (await node.branch(mail_id)).steps if s.what == "synced"}
    assert {name: step.facts["past"] for name, step in steps.items()} == {
        "behind": False, "past": True, "push": False, "words": False,
    }  # fmt: skip
    assert "pouchdb behind has not fetched it yet" in steps["behind"].text
    await node.write((await node.branch(mail_id)).document, "2-a", "1-a", folder="archive")
    (step,) = [s for s in (await node.branch(mail_id)).steps if s.facts.get("id") == "past"]
    assert (step.facts["past"], step.facts["fetched"]) == (False, new)
    assert "no change of this database" in steps["push"].text


async def test_after_a_restore_bookmarks_count_in_the_numbers_that_clients_see(node: Node) -> None:
    before = only(await node.branch(await node.take(raw())), "filed").position
    head = node.core.log.head
    fact = restored([], node.core.clock.now(), head, "20260102T030405.678Z")
    await node.core.log.append(Write(NODE_STREAM, (fact,)), origin=Origin(actor="operator"))
    after = only(await node.branch(await node.take(raw(message_id="two@beta.example"))), "filed").position
    assert before is not None
    assert after is not None
    store, database = node.core.views.stores["userdb"], userdb_name(node.addresses[OWNER])
    for name, last in {"since": after + fact.jump, "old": before}.items():
        await store.put_local(database, name, json.dumps({"last_seq": last}).encode())
    branch = await node.branch("two@beta.example")
    steps = {s.facts["id"]: s for s in branch.steps if s.what == "synced"}
    assert {name: step.facts["past"] for name, step in steps.items()} == {"since": True, "old": False}
    assert f"has it as it is now: its bookmark is {after + fact.jump}" in steps["since"].text
    assert only(branch, "shown").facts["seq"] == after + fact.jump


async def test_parked_retried_and_dropped_filings_are_part_of_the_story(both: Node) -> None:
    content = raw()
    lost = MailAccepted(
        transport="smtp", blob="ab" * 32, size=len(content), received_at=1, message_id="<lost@beta.example>",
        recipients=tuple(Recipient(both.addresses[email], email) for email in (OWNER, OTHER)),
    )  # fmt: skip
    await both.core.log.append(Write(mails.stream("lost"), (lost,)), origin=Origin(actor="smtp"))
    await both.settled()
    parked = {each.key: each.id for each in await both.core.parking.list()}
    with pytest.raises(NotFound):
        await both.core.parking.retry(parked[both.addresses[OWNER]])
    await both.core.parking.drop(parked[both.addresses[OTHER]], "no longer wanted")
    (story,) = await both.why("lost@beta.example")
    mine, theirs = story.branches
    assert whats(mine.steps) == ["verdict", "parked", "parked"]
    assert whats(theirs.steps) == ["verdict", "parked", "dropped"]
    assert "no longer wanted" in theirs.steps[-1].text
    assert parked[both.addresses[OWNER]] in mine.steps[1].text
    assert only(mine, "verdict").facts["standing"] is None
    assert "does not say" in only(mine, "verdict").text


async def test_a_mail_that_is_not_filed_yet_waits(node: Node) -> None:
    await node.core.dispatcher.stop()
    recipient = await node.core.acceptance.admit(FACTS, FRIEND, OWNER, 0)
    mail_id = await node.core.acceptance.accept(FACTS, FRIEND, [recipient], raw())
    assert whats((await node.branch(mail_id)).steps) == ["verdict", "waiting"]


async def test_what_was_refused_is_not_in_the_log_and_it_says_where_to_look(both: Node) -> None:
    with pytest.raises(NotFound, match=r"refused.*journalctl"):
        await both.why("<never@beta.example>")
    await both.take(raw())
    with pytest.raises(NotFound, match="refused"):
        await both.why("<one@beta.example>", OTHER)


async def test_a_message_id_that_several_mails_have_gives_several_stories(node: Node) -> None:
    mail_ids = [await node.take(raw(author)) for author in ("a@beta.example", "b@beta.example")]
    assert [story.mail for story in await node.why("one@beta.example")] == mail_ids


async def test_each_filing_is_one_line_in_the_daemons_messages(both: Node) -> None:
    with capture_logs() as lines:
        mail_id = await both.take(raw("\x1b[31mfriend@beta.example"), OWNER, OTHER)
        await both.take(raw(message_id="two@beta.example"), OWNER)
    filed = [line for line in lines if line["event"] == "filed"]
    assert [line["mailbox"] for line in filed if line["mail"] == mail_id] == [
        both.addresses[OWNER], both.addresses[OTHER],
    ]  # fmt: skip
    assert len(filed) == 3
    assert {"folder", "reason", "document", "position", "sender"} <= filed[0].keys()
    assert all(line["sender"].isprintable() for line in filed)


async def test_the_door_writes_down_what_it_knew(both: Node) -> None:
    await both.say("accepted")
    await both.take(raw(), OWNER, OTHER)
    (record,) = await both.core.log.read(0, types={"MailAccepted"})
    accepted = record.event
    assert isinstance(accepted, MailAccepted)
    assert accepted.session == "5e55"
    assert [each.standing for each in accepted.recipients] == [Standing.ACCEPTED, Standing.UNKNOWN]
    assert Reason.SENDER_REVOKED not in {each.refusal for each in accepted.recipients}


def destroy_key(node: Node, email: str) -> None:
    """Do to a user's key what the erasing of the account does."""
    node.core.vault.condemn(node.addresses[email])
    node.core.vault.destroy(node.addresses[email])


async def test_of_an_erased_recipient_only_the_filing_as_such_is_told(both: Node) -> None:
    mail_id = await both.take(raw(), OWNER, OTHER)
    destroy_key(both, OTHER)
    (story,) = await both.why(mail_id)
    mine, theirs = story.branches
    assert "filed" in whats(mine.steps)
    assert whats(theirs.steps) == ["verdict", "erased"]
    destroy_key(both, OWNER)
    with pytest.raises(NotFound, match="erased with its recipients"):
        await both.why(mail_id)


async def test_an_erased_record_is_shown_as_one_and_is_no_damage(node: Node) -> None:
    await node.take(raw())
    destroy_key(node, OWNER)
    filed = next(iter(newest(node.reader, node.codec, 1)))
    assert (filed.erased, filed.problem, filed.members) == (True, "", None)
    assert "(erased)" in line_of(filed)
    assert filed.as_json() | {"erased": True, "event": None, "type": "MessageFiled"} == filed.as_json()
    assert verify_log(node.reader, [node.core.keys.public_key]).bad is None
    past = Past(node.reader, node.codec, node.reader.head.position)
    assert state_of(Owner(node.addresses[OWNER]), past)["account"] == {"exists": False}
    begin = Past(node.reader, node.codec, 0)
    told = difference(Owner(node.addresses[OWNER]), begin, past).others
    assert [deed.text for deed in told][-1] == "MessageFiled; what it said was erased"
