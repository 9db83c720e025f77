"""What an archive holds, and what the account is on the node that imports it."""

from __future__ import annotations

import asyncio
import email
import mailbox
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors.messages import Inspect
from events.account import AccountImported, AccountMoved, EmailClaimed
from events.errors import Conflict
from events.event import Recorded
from events.mail import MailAccepted, Recipient
from events.mailbox import MessageFiled
from node.core import Core
from node.crypto.keys import UserKeys
from tests.integration.archive.harness import (
    OTHER,
    OWNER,
    bring_in,
    deliver,
    filled,
    lines_of,
    mail,
    members_of,
    settled,
    write_archive,
)
from tests.integration.backup.harness import FACTS, FRIEND, Place, open_account

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    (tmp_path / "here").mkdir()
    return Place(tmp_path / "here")


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Core]:
    (tmp_path / "there").mkdir()
    async with Place(tmp_path / "there").running() as core:
        yield core


@pytest.fixture
async def moved(here: Place, there: Core, tmp_path: Path) -> UserKeys:
    """The owner, whose account was exported and imported; the archive is `someone.tar.gz`."""
    async with here.running() as core:
        keys = await filled(core)
    await asyncio.to_thread(write_archive, here, tmp_path / "someone.tar.gz")
    await bring_in(there, tmp_path / "someone.tar.gz")
    return keys


async def history(core: Core) -> list[Recorded]:
    return await core.log.read(0, 1_000)


async def test_provenance_comes_first_and_records_keep_time_actor_and_cause(
    here: Place, there: Core, moved: UserKeys
) -> None:
    async with here.running() as core:
        old = {(record.stream, record.version): record for record in await history(core)}
    first, claim, *rest, last = await history(there)
    assert isinstance(first.event, AccountImported)
    assert isinstance(claim.event, EmailClaimed)
    assert isinstance(last.event, AccountMoved)
    assert (first.event.email, first.event.events) == (OWNER, len(rest))
    ids = {record.metadata.id: record for record in [first, *rest]}
    for record in rest:
        if not record.stream.startswith("mail-"):
            known = old[record.stream, record.version - record.stream.startswith("account-")]
            assert (record.metadata.at, record.metadata.actor) == (known.metadata.at, known.metadata.actor)
            assert type(record.event) is type(known.event)
        assert record.metadata.imported == first.metadata.id
        if isinstance(record.event, MessageFiled):
            cause = ids[record.metadata.causation]
            assert isinstance(cause.event, MailAccepted)
            assert cause.stream == f"mail-{record.event.mail}"
            assert cause.metadata.correlation == record.metadata.correlation


async def test_documents_revisions_and_files_are_the_same(here: Place, there: Core, moved: UserKeys) -> None:
    database = f"userdb-{moved.address.encode().hex()}"
    async with here.running() as core:
        before = await described(core, database)
    assert len(before) == 2
    assert await described(there, database) == before


async def described(core: Core, database: str) -> list[object]:
    """All documents of a database with their files, which each node keeps under names of its own."""
    found: list[object] = []
    async for document in core.views.stores["userdb"].documents(database):
        winner = document.winner
        files = [
            (msgspec.structs.replace(file, blob=""), await core.blobs.read(file.blob))
            for file in winner.attachments
        ]
        plain = msgspec.structs.replace(winner, attachments=())
        found.append((document.id, document.tree, plain, files))
    return found


async def test_of_a_mail_to_several_only_this_recipients_part_leaves(
    here: Place, there: Core, moved: UserKeys, tmp_path: Path
) -> None:
    members = members_of(tmp_path / "someone.tar.gz")
    assert not any(OTHER.encode() in content for content in members.values())
    assert not any(b"not theirs" in content for content in members.values())
    accepted = [record.event for record in await history(there) if isinstance(record.event, MailAccepted)]
    assert [[r.email for r in event.recipients] for event in accepted] == [[OWNER], [OWNER]]


async def test_both_recipients_of_one_mail_can_move_to_the_same_node(
    here: Place, there: Core, moved: UserKeys, tmp_path: Path
) -> None:
    await asyncio.to_thread(write_archive, here, tmp_path / "other.tar", OTHER)
    await bring_in(there, tmp_path / "other.tar", "another@alpha.example")
    entry = await there.directory.by_email("another@alpha.example")
    assert entry is not None
    assert len([d async for d in there.views.stores["userdb"].documents(entry.database)]) == 2


async def test_nothing_imported_is_filed_a_second_time_and_new_mail_is(there: Core, moved: UserKeys) -> None:
    await deliver(there, mail("new"), (moved.address, OWNER))
    filed = [r for r in await history(there) if isinstance(r.event, MessageFiled)]
    assert len(filed) == 3


async def test_the_owner_logs_in_with_the_same_keys_and_the_same_password(
    there: Core, moved: UserKeys
) -> None:
    nonce = there.accounts.nonces.issue().nonce
    await there.accounts.prove_nonce(moved.address, moved.public_key, nonce, moved.sign(nonce.encode()))
    token = there.accounts.issue_token(moved.address, moved.public_key, nonce)
    assert (await there.accounts.authenticate_token(token)).address == moved.address
    entry = await there.accounts.authenticate_password(moved.address, "secret")
    assert entry.email == OWNER
    document = await there.directory.did_document(moved.address)
    assert there.keys.address in str(document)
    assert len(await there.directory.credentials(moved.address)) == 1


async def test_an_actor_that_was_awake_sees_the_imported_history(
    here: Place, there: Core, tmp_path: Path
) -> None:
    async with here.running() as core:
        keys = await filled(core)
    await asyncio.to_thread(write_archive, here, tmp_path / "someone.tar.gz")
    asleep = await there.actors.ask("mailbox", keys.address, Inspect())
    assert asleep.filed == 0
    await bring_in(there, tmp_path / "someone.tar.gz")
    awake = await there.actors.ask("mailbox", keys.address, Inspect())
    assert awake.filed == 2


async def test_a_second_import_a_taken_email_and_another_node_are_refused(
    here: Place, there: Core, moved: UserKeys, tmp_path: Path
) -> None:
    file, head = tmp_path / "someone.tar.gz", there.log.head
    with pytest.raises(Conflict, match="already"):
        await bring_in(there, file, "again@alpha.example")
    await open_account(there, "taken@alpha.example")
    await asyncio.to_thread(write_archive, here, tmp_path / "other.tar", OTHER)
    with pytest.raises(Conflict, match="--email"):
        await bring_in(there, tmp_path / "other.tar", "taken@alpha.example")
    with pytest.raises(Conflict, match="signed by node"):
        await bring_in(there, tmp_path / "other.tar", node=there.keys.address)
    with pytest.raises(Conflict, match="not supported"):
        await bring_in(there, tmp_path / "other.tar", "other@elsewhere.example")
    assert [r for r in await history(there) if r.position > head and r.metadata.imported] == []
    assert list((there.settings.node.data / "imports").iterdir()) == []


async def test_what_waited_to_be_filed_is_filed_on_the_new_node(
    here: Place, there: Core, tmp_path: Path
) -> None:
    async with here.running() as core:
        keys = await filled(core)
        await core.dispatcher.stop()
        await core.acceptance.accept(FACTS, FRIEND, (Recipient(keys.address, OWNER),), mail("waiting"))
        await asyncio.to_thread(write_archive, here, tmp_path / "someone.tar.gz")
    await bring_in(there, tmp_path / "someone.tar.gz")
    await settled(there)
    filed = [r for r in await history(there) if isinstance(r.event, MessageFiled)]
    assert [bool(record.metadata.imported) for record in filed] == [True, True, False]


async def test_an_account_can_move_on_from_the_node_that_it_moved_to(
    here: Place, there: Core, moved: UserKeys, tmp_path: Path
) -> None:
    await deliver(there, mail("three"), (moved.address, OWNER))
    third = Place(tmp_path / "there")
    await asyncio.to_thread(write_archive, third, tmp_path / "again.tar.gz")
    (tmp_path / "third").mkdir()
    async with Place(tmp_path / "third").running() as core:
        done = await bring_in(core, tmp_path / "again.tar.gz", "new@alpha.example")
        entry = await core.directory.by_address(moved.address)
        assert entry is not None
        assert (entry.email, done["events"]) == ("new@alpha.example", 9)
        assert len([d async for d in core.views.stores["userdb"].documents(entry.database)]) == 3


async def test_the_mbox_files_give_the_mails_back_by_folder(moved: UserKeys, tmp_path: Path) -> None:
    members = members_of(tmp_path / "someone.tar.gz")
    found = {}
    for name in [name for name in members if name.startswith("mbox/")]:
        (tmp_path / "box").write_bytes(members[name])
        for message in mailbox.mbox(tmp_path / "box"):
            assert message["X-Mailio-Folder"] == name.removeprefix("mbox/").removesuffix(".mbox")
            for field in ("X-Mailio-Id", "X-Mailio-Folder", "X-Mailio-Reason", "Status"):
                del message[field]
            raw = message.as_bytes().replace(b"\n>From", b"\nFrom").replace(b"\n>>From", b"\n>From")
            found[email.message_from_bytes(raw)["Subject"]] = raw.rstrip()
    assert found == {
        subject: mail(subject, text).replace(b"\r\n", b"\n").rstrip()
        for subject, text in (("one", "Hello"), ("two", "Größe"))
    }


async def test_the_file_is_private_and_its_events_name_only_what_is_in_it(
    moved: UserKeys, tmp_path: Path
) -> None:
    file = tmp_path / "someone.tar.gz"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
    members = members_of(file)
    positions = [line["position"] for line in lines_of(members)]
    assert positions == sorted(positions)
    assert {line["stream"].partition("-")[0] for line in lines_of(members)} == {"account", "mail", "mailbox"}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.integration.archive.harness import bring_in
from tests.integration.backup.harness import Place

async def main(node, file, moment):
    async with Place(Path(node)).running() as core:
        append = core.log.append_all
        async def killed(orders):
            if moment == "after":
                await append(orders)
            os.kill(os.getpid(), signal.SIGKILL)
        core.log.append_all = killed
        await bring_in(core, Path(file))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_import_that_is_killed_leaves_nothing_or_all_of_it(
    here: Place, tmp_path: Path, moment: str
) -> None:
    file, folder = tmp_path / "someone.tar.gz", tmp_path / "there"
    folder.mkdir()

    async def fill() -> None:
        async with here.running() as core:
            await filled(core)

    async def found() -> tuple[int, bool]:
        async with Place(folder).running() as core:
            assert not (core.settings.node.data / "imports").exists()
            return core.log.head, await core.directory.by_email(OWNER) is not None

    asyncio.run(fill())
    write_archive(here, file)
    command = [sys.executable, "-c", KILLED, str(folder), str(file), moment]
    assert subprocess.run(command, check=False, cwd=ROOT, timeout=60).returncode == -signal.SIGKILL
    assert (folder / "data" / "imports").exists()
    head, known = asyncio.run(found())
    assert (head > 0, known) == ((False, False) if moment == "before" else (True, True))
