"""Mail by SMTP, sealed to its owner: only the owner's client reads it, and nothing readable stays on the disk."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth
from joserfc import jwe as other_jwe

from actors import account, mailbox
from actors.messages import Execute
from events.account import SealInbound
from events.errors import Gone
from events.log.log import Origin
from events.mail import MailAccepted, Recipient
from events.mailbox import MessageFiled
from events.original import OriginalReleased
from node.accounts import Registration
from node.archive.exporting import export
from node.crypto import jwe
from node.crypto.keys import UserKeys
from node.mime.reading import BlobMailReader
from node.mime.summary import summarise
from node.soundness import examine_stores
from projections.runner import Runner
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from tests.client.python.attachment import open_file
from tests.client.python.contact import Contact
from tests.client.python.encoding import from_base64url
from tests.client.python.keys import Keys, new_mnemonic
from tests.client.python.message import open_document
from tests.integration.api.harness import FACTS, PASSWORD, Node, User, database, running, settings_for
from tests.integration.client.people import ALICE, JavaScript

SECRET = "the eagle has landed"
MAIL = (
    "From: Friend <friend@beta.example>\r\nTo: Carol <carol@alpha.example>, Old Pal <pal@gamma.example>\r\n"
    f"Subject: about {SECRET}\r\nMessage-ID: <1@beta.example>\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    f"--b\r\nContent-Type: text/plain\r\n\r\n{SECRET}\r\n"
    '--b\r\nContent-Type: application/pdf; name="plan.pdf"\r\nContent-Disposition: attachment; filename="plan.pdf"\r\n'
    f"\r\n%PDF {SECRET}\r\n--b--\r\n"
).encode()


class Carol:
    """A user with words, whose mail is sealed."""

    def __init__(self, node: Node, words: str) -> None:
        self.node = node
        self.words = words
        self.keys = Keys.from_mnemonic(words)
        self.email = "carol@alpha.example"
        self.database = "userdb-" + self.keys.address.encode().hex()

    @classmethod
    async def register(cls, node: Node) -> Carol:
        carol = cls(node, new_mnemonic())
        await node.core.accounts.open(
            Registration(
                email=carol.email,
                signing_key=carol.keys.signing_key,
                agreement_key=carol.keys.agreement_key,
                database_password=PASSWORD,
            ),
            "test",
        )
        return carol

    async def seal(self, *, on: bool = True) -> None:
        await self.node.core.accounts.execute(self.keys.address, SealInbound(on), "test")

    async def receive(self, raw: bytes = MAIL, *others: User) -> None:
        recipients = [
            Recipient(self.keys.address, self.email),
            *(Recipient(o.address, o.email) for o in others),
        ]
        await self.node.core.acceptance.accept(FACTS, "friend@beta.example", recipients, raw)
        await self.node.settled()

    async def did_document(self) -> dict[str, Any]:
        found = await self.node.core.directory.did_document(self.keys.address)
        assert found is not None
        return found

    async def get(self, path: str) -> bytes:
        """Ask the sync door as a device does."""
        url = f"/{self.database}/{path}"
        async with self.node.http.get(
            url, headers={"Authorization": encode_basic_auth(self.keys.address, PASSWORD)}
        ) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def documents(self) -> list[dict[str, Any]]:
        listed = json.loads(await self.get("_all_docs?include_docs=true"))
        return [row["doc"] for row in listed["rows"] if "didCommMessage" in row["doc"]]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(settings_for(tmp_path / "data")) as node:
        yield node


@pytest.fixture
async def carol(node: Node) -> Carol:
    carol = await Carol.register(node)
    await carol.seal()
    return carol


async def test_the_owner_s_client_opens_it_from_the_sync_door(carol: Carol, javascript: JavaScript) -> None:
    await carol.receive()
    (document,) = await carol.documents()
    assert SECRET not in json.dumps(document)
    did_document = await carol.did_document()
    incoming = open_document(document, Contact.of(did_document), carol.keys)
    assert incoming.sealed
    assert incoming.mail is not None
    assert incoming.mail["subject"] == f"about {SECRET}"
    assert incoming.mail["bodyText"].strip() == SECRET
    assert [one["Address"] for one in incoming.mail["to"]] == [carol.email, "pal@gamma.example"]
    (enclosed,) = incoming.mail["attachments"]
    sealed = await carol.get(f"{document['_id']}/{enclosed['id']}")
    assert (
        open_file(enclosed["id"], from_base64url(enclosed["key"]), sealed).strip()
        == f"%PDF {SECRET}".encode()
    )
    assert enclosed["contentUrl"].endswith(f"/{document['_id']}/{enclosed['id']}")
    other = await asyncio.to_thread(
        javascript.ask, "open", document=document, me=did_document, words=carol.words
    )
    assert other == {"mail": incoming.mail, "sealed": True}


async def test_what_lists_and_policy_need_stays_readable(carol: Carol) -> None:
    await carol.receive()
    (document,) = await carol.documents()
    assert document["from"] == document["didCommMessage"]["from"] == "friend@beta.example"
    assert document["folder"] == "inbox"
    assert document["didCommMessage"]["createdTime"] > 0
    (attachment,) = document["_attachments"].values()
    assert attachment["content_type"] == "application/octet-stream"
    assert "plan.pdf" not in json.dumps(document)
    assert "pal@gamma.example" not in json.dumps(document)


async def test_a_list_on_the_node_shows_no_subject(carol: Carol) -> None:
    await carol.receive()
    (stored,) = await carol.node.core.views.stores["userdb"].documents_since(carol.database, 0)
    summary = summarise(stored)
    assert summary is not None
    assert (summary["from"], summary["subject"]) == ("friend@beta.example", "")


async def test_the_raw_message_is_erased_after_filing_and_verify_is_content(
    carol: Carol, tmp_path: Path
) -> None:
    await carol.receive()
    core = carol.node.core
    (accepted,) = await core.log.read(0, types={"MailAccepted"})
    (released,) = await core.log.read(0, types={"OriginalReleased"})
    assert isinstance(accepted.event, MailAccepted)
    assert released.event == OriginalReleased(owner=carol.keys.address, erased=True)
    assert released.stream == accepted.stream
    with pytest.raises(Gone):
        await core.blobs.read(accepted.event.blob)
    for name in await all_blobs(carol.node):
        assert SECRET.encode() not in await core.blobs.read(name)
    told = await examine_stores(tmp_path / "data")
    assert not told.faults
    assert told.erased == 1


async def all_blobs(node: Node) -> list[str]:
    return [found.name for found in node.core.segments.verify() if not found.erased]


async def test_without_the_setting_nothing_changes(node: Node) -> None:
    carol = await Carol.register(node)
    await carol.receive()
    (document,) = await carol.documents()
    assert "plainBodyBase64" in document["didCommMessage"]
    (accepted,) = await node.core.log.read(0, types={"MailAccepted"})
    assert isinstance(accepted.event, MailAccepted)
    assert await node.core.blobs.read(accepted.event.blob) == MAIL
    assert not await node.core.log.read(0, types={"OriginalReleased"})


async def test_it_can_be_switched_off_again_and_what_was_sealed_stays_so(carol: Carol) -> None:
    await carol.receive()
    await carol.seal(on=False)
    await carol.receive()
    assert sorted("body" in one["didCommMessage"] for one in await carol.documents()) == [False, True]


async def test_a_mail_that_somebody_else_has_unsealed_is_kept_until_they_seal_too(node: Node) -> None:
    carol, dave = await Carol.register(node), await node.user("dave")
    await carol.seal()
    await carol.receive(MAIL, dave)
    accepted = (await node.core.log.read(0, types={"MailAccepted"}))[0].event
    assert isinstance(accepted, MailAccepted)
    assert await node.core.blobs.read(accepted.blob) == MAIL
    await node.core.accounts.execute(dave.address, SealInbound(on=True), "test")
    await carol.receive(MAIL, dave)
    second = (await node.core.log.read(0, types={"MailAccepted"}))[1].event
    assert isinstance(second, MailAccepted)
    with pytest.raises(Gone):
        await node.core.blobs.read(second.blob)
    documents = await node.core.views.stores["userdb"].documents_since(database(dave), 0)
    assert len(documents) == 2


async def test_the_same_message_a_second_time_is_not_lost_with_the_first_one(carol: Carol) -> None:
    """Equal bytes must not share a blob: the first filing erases what the second has yet to read."""
    recipients = [Recipient(carol.keys.address, carol.email)]
    accept = carol.node.core.acceptance.accept
    await asyncio.gather(*(accept(FACTS, "friend@beta.example", recipients, MAIL) for _ in range(5)))
    await carol.node.settled()
    assert len(await carol.documents()) == 5
    blobs = {r.event.blob for r in await carol.node.core.log.read(0) if isinstance(r.event, MailAccepted)}
    assert len(blobs) == 5


async def test_an_event_that_is_told_again_changes_nothing(carol: Carol) -> None:
    """As after a crash: the raw message is gone, the filing is there."""
    await carol.receive()
    core, before = carol.node.core, carol.node.core.log.head
    (accepted,) = await core.log.read(0, types={"MailAccepted"})
    (filed,) = await core.log.read(0, types={"MessageFiled"})
    await core.dispatcher.redispatch(accepted, mailbox.KIND, carol.keys.address)
    assert isinstance(filed.event, MessageFiled)
    await core.dispatcher.redispatch(filed, "original", filed.event.mail)
    assert core.log.head == before
    assert len(await carol.documents()) == 1


async def test_a_filing_that_was_interrupted_is_sealed_anew_and_only_the_second_counts(carol: Carol) -> None:
    """Sealed twice, named once: what the interrupted try left is no event's, and nobody misses it."""
    core, owner = carol.node.core, carol.keys.address
    reader = BlobMailReader(core.blobs, sealing=core.accounts.seal_to)
    blob = await core.blobs.write_apart(MAIL, [owner])
    left = await reader.read(blob, document_id="d", owner=owner, received_at=1)
    await carol.receive()
    (filed,) = await core.log.read(0, types={"MessageFiled"})
    assert isinstance(filed.event, MessageFiled)
    assert filed.event.document != left.document
    assert filed.event.size > left.size  # the members about the filing are counted too
    assert len(await carol.documents()) == 1


async def test_a_rebuild_gives_the_same_documents(carol: Carol, tmp_path: Path) -> None:
    await carol.receive()
    core = carol.node.core
    store = EmbeddedStore.open(tmp_path / "again.sqlite")
    runner = Runner(UserDatabases(core.blobs), store, core.log)
    running = asyncio.create_task(runner.run())
    await runner.reached(core.log.head, 20)
    again = await store.documents_since(carol.database, 0)
    live = await core.views.stores["userdb"].documents_since(carol.database, 0)
    await runner.stop()
    await running
    assert [(one.id, one.winner) for one in again] == [(one.id, one.winner) for one in live]
    assert again


async def test_an_export_holds_the_sealed_document_and_no_mbox(carol: Carol, tmp_path: Path) -> None:
    await carol.receive()
    file = tmp_path / "carol.tar"
    exported = await asyncio.to_thread(
        export, settings_for(tmp_path / "data"), carol.email, file, lambda *_: None
    )
    assert exported.mails == 0
    with tarfile.open(file) as archive:
        contents = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]
    assert not [name for name in contents if name.startswith("mbox/")]
    assert all(SECRET.encode() not in content for content in contents.values())
    (filed,) = await carol.node.core.log.read(0, types={"MessageFiled"})
    assert isinstance(filed.event, MessageFiled)
    stored = await carol.node.core.blobs.read(filed.event.document)
    assert stored in contents.values()


async def test_the_owner_switches_it_through_the_api(node: Node) -> None:
    user = await node.user("erin")
    assert "sealInbound" not in (await node.get("/api/v1/user/me", user.token)).json
    answer = await node.call("PUT", "/api/v1/user/sealinbound", {"sealInbound": True}, token=user.token)
    assert answer.json == {"sealInbound": True}
    assert (await node.get("/api/v1/user/me", user.token)).json["sealInbound"] is True
    # A client of the reference server, which knows nothing of it, saves the profile.
    await node.call("PUT", "/api/v1/user/me", {"displayName": "Erin"}, token=user.token)
    assert (await node.get("/api/v1/user/me", user.token)).json["sealInbound"] is True


async def test_switching_to_what_it_is_records_nothing(carol: Carol) -> None:
    order = Execute(SealInbound(on=True), Origin(actor="test"))
    assert await carol.node.core.actors.ask(account.KIND, carol.keys.address, order) == []


def test_another_jose_library_opens_what_the_node_seals() -> None:
    reader = jwe.SealTo(ALICE.contact.did, ALICE.keys.agreement_key)
    sealed = jwe.seal(b"content", "text/plain", "a\u2028\x7fé@b.example", reader)
    algorithms = ["ECDH-ES+A256KW", "A256GCM"]
    opened = other_jwe.decrypt_json(sealed, ALICE.keys.agreement_jwk(), algorithms=algorithms)  # type: ignore[arg-type]
    assert opened.plaintext == b"content"


def test_every_sealing_is_another() -> None:
    keys = UserKeys.generate()
    sealed = [jwe.seal(b"x", "text/plain", "a", jwe.SealTo("k", keys.agreement_public_key)) for _ in range(2)]
    assert sealed[0]["ciphertext"] != sealed[1]["ciphertext"]
    assert sealed[0]["recipients"][0]["header"]["epk"] != sealed[1]["recipients"][0]["header"]["epk"]
