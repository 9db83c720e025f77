"""Erasing while the node is at work: what is under way for the erased ends quietly, the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.messages import Execute, Inspect
from events.errors import Busy, Conflict, Gone, Misconfigured, NotFound, StorageUnavailable
from events.identity import userdb_name
from events.log.log import Origin
from events.mail import Recipient
from events.mailbox import CreateFolder, Mailbox
from node.accounts import Registration
from node.core import Core
from node.crypto.keys import UserKeys
from node.crypto.vault import KeyState, Vault, vault_path
from node.settings import NodeSettings, Settings
from node.smtp.ports import SessionFacts
from node.views import aside_path
from projections.rebuild import build
from projections.stores.building import BuildingStore

FACTS = SessionFacts(session="s", client="192.0.2.1", helo="mx.example", esmtp=True, tls="", smtputf8=False)
RAW = b"From: friend@beta.example\r\nSubject: hello\r\n\r\nnumber %d\r\n"


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    core = Core(Settings(node=NodeSettings(data=tmp_path / "data")))
    await core.start()
    try:
        yield core
    finally:
        await core.close()


async def account(core: Core, email: str, keys: UserKeys | None = None) -> Recipient:
    keys = keys or UserKeys.generate()
    registration = Registration(
        email=email, signing_key=keys.public_key, agreement_key=keys.agreement_public_key,
        database_password="secret",
    )  # fmt: skip
    opened = await core.accounts.open(registration, "test")
    return Recipient(opened.address, opened.email)


async def accept(core: Core, number: int, *recipients: Recipient) -> str:
    return await core.acceptance.accept(FACTS, "friend@beta.example", recipients, RAW % number)


async def parked(core: Core) -> int:
    reached = core.log.head
    await core.dispatcher.reached(reached)
    for runner in core.views.runners.values():
        await runner.reached(core.log.head)
    return len(await core.parking.list()) + sum([len(await s.parked()) for s in core.views.stores.values()])


async def filed(core: Core, recipient: Recipient) -> int:
    state = await core.actors.ask("mailbox", recipient.address, Inspect())
    assert isinstance(state, Mailbox)
    return state.filed


async def test_mail_on_its_way_is_not_parked_and_reaches_the_others(core: Core) -> None:
    one, other = [await account(core, f"{name}@alpha.example") for name in ("one", "other")]
    mails = [accept(core, number, one, other) for number in range(40)]
    alone = [accept(core, number, one) for number in range(40, 60)]
    # Some of it is accepted before the event, some has to be sent again; filing goes on meanwhile.
    accepted, outcome = await asyncio.gather(
        asyncio.gather(*mails, *alone, return_exceptions=True), core.erasure.erase(one.address, "", "test")
    )
    assert all(isinstance(each, (str, Busy)) for each in accepted)
    assert outcome.address == one.address
    assert await parked(core) == 0
    assert await filed(core, other) == sum(isinstance(each, str) for each in accepted[:40])
    assert await filed(core, one) == 0
    assert userdb_name(one.address) not in await core.views.stores["userdb"].databases()
    assert list(await core.views.stores["statistics"].databases()) in ([], ["email_statistics"])
    assert core.vault.unfinished() == []


async def test_nothing_can_be_done_with_an_erased_account(core: Core) -> None:
    keys = UserKeys.generate()
    one = await account(core, "one@alpha.example", keys)
    await core.erasure.erase(one.address, "", "test")
    with pytest.raises(NotFound):
        await core.acceptance.admit(FACTS, "a@b.example", "one@alpha.example", 10)
    late = Execute(CreateFolder(id="f", name="Folder", at=1), Origin(actor="test"))
    with pytest.raises(Gone):
        await core.actors.ask("mailbox", one.address, late)
    with pytest.raises(Gone):
        await core.erasure.erase(one.address, "", "test")
    for email in ("one@alpha.example", "another@alpha.example"):
        with pytest.raises(Conflict):
            await account(core, email, keys)
    with pytest.raises(Conflict):
        await account(core, "one@alpha.example")
    # The node itself is as well as before.
    other = await account(core, "other@alpha.example")
    await accept(core, 1, other)
    assert await parked(core) == 0
    assert await filed(core, other) == 1


async def test_a_mail_whose_recipient_was_erased_since_rcpt_is_to_be_sent_again(core: Core) -> None:
    one = await account(core, "one@alpha.example")
    admitted = await core.acceptance.admit(FACTS, "a@b.example", "one@alpha.example", 10)
    await core.erasure.erase(one.address, "", "test")
    with pytest.raises(Busy):
        await accept(core, 1, admitted)


async def test_nobody_is_condemned_who_has_no_account(core: Core) -> None:
    with pytest.raises(NotFound):
        await core.erasure.address_of("nobody@alpha.example")
    with pytest.raises(NotFound):
        await core.erasure.erase("0x" + "1" * 40, "", "test")
    assert core.vault.unfinished() == []


async def test_two_erasures_at_once_both_happen(core: Core) -> None:
    people = [await account(core, f"p{number}@alpha.example") for number in range(3)]
    await asyncio.gather(*(accept(core, number, *people) for number in range(5)))
    await core.dispatcher.reached(core.log.head)
    outcomes = await asyncio.gather(*(core.erasure.erase(one.address, "", "test") for one in people))
    assert sum(outcome.blobs for outcome in outcomes) == 5 + 3 * 5
    assert await parked(core) == 0


async def test_a_rebuild_that_was_under_way_has_to_begin_again(core: Core) -> None:
    one = await account(core, "one@alpha.example")
    aside = aside_path(core.views.folder, "userdb")
    aside.write_bytes(b"built from what could still be read")
    await core.erasure.erase(one.address, "", "test")
    assert not aside.exists()


async def test_an_erasure_whose_files_cannot_be_removed_ends_no_node(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await account(core, "one@alpha.example")
    keys = core.settings.node.data / "accounts" / "one.json"
    keys.parent.mkdir()
    keys.write_text(f'{{"address": "{one.address}"}}')

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "not yours")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", refused)
        with pytest.raises(StorageUnavailable, match="not yours"):
            await core.erasure.erase(one.address, "", "test")
        await core.erasure.resume()
    assert core.vault.unfinished() == [(one.address, KeyState.DESTROYED)]
    await core.erasure.resume()
    assert core.vault.unfinished() == []
    assert not keys.exists()


async def test_a_node_whose_vault_is_missing_or_another_does_not_start(tmp_path: Path) -> None:
    settings = Settings(node=NodeSettings(data=tmp_path / "data"))
    await Core(settings).close()
    path = vault_path(settings.node.data)
    path.rename(tmp_path / "moved")
    with pytest.raises(Misconfigured, match="restore"):
        Core(settings)
    assert not path.exists()
    Vault.open(path).close()
    with pytest.raises(Misconfigured, match="restore the right"):
        Core(settings)
    (tmp_path / "moved").replace(path)
    await Core(settings).close()


async def test_two_who_put_one_rebuilt_view_in_place_do_not_meet(core: Core) -> None:
    one = await account(core, "one@alpha.example")
    await core.dispatcher.reached(core.log.head)
    aside = BuildingStore.open(aside_path(core.views.folder, "directory"), revs_limit=1)
    await build(core.views.views["directory"], core.log, aside, 1)
    await aside.close()
    first, *others = await asyncio.gather(
        *(core.views.swap("directory") for _ in range(3)), return_exceptions=True
    )
    assert first == core.views.runners["directory"].position
    assert [type(other) for other in others] == [Misconfigured] * 2
    assert await core.directory.by_email("one@alpha.example")
    assert (await core.directory.by_address(one.address)) is not None
