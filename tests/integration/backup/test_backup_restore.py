"""Restoring: what a node knows afterwards, what it refuses to believe, and what is refused before."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from events.errors import MailioError, Unauthenticated
from events.log.log import Origin
from events.node import STREAM, NodeRestored
from node.backup.folder import BackupFolder
from node.backup.making import make
from node.backup.restoring import restore
from node.core import Core
from node.doctor import verify_stores
from node.settings import NodeSettings, Settings
from tests.integration.backup.harness import Place, accept, mail, nobody_watches, open_account


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A node with one mail and one point."""
    place = Place(tmp_path_factory.mktemp("sample"))
    place.receive(mail("kept"))
    place.make()
    return place


async def test_the_first_event_of_a_restored_node_says_so(sample: Place, tmp_path: Path) -> None:
    done = await asyncio.to_thread(sample.restore, tmp_path / "data")
    async with Place(tmp_path).running() as core:
        (record,) = await core.log.read(done.position, 1)
        assert record.stream == STREAM
        assert isinstance(record.event, NodeRestored)
        assert (record.event.from_position, record.event.point) == (done.position, done.point)
        assert record.event.at == core.restorations.last_at


def test_a_restored_folder_is_whole_and_private(sample: Place, tmp_path: Path) -> None:
    done = sample.restore(tmp_path / "new")
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in files} == {0o700}
    assert Path(done.configuration).read_text() == sample.configuration.read_text()
    assert not verify_stores(Settings(node=NodeSettings(data=tmp_path / "new")))["damaged"]


async def test_a_token_from_before_the_restore_no_longer_counts(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.running() as core:
        keys = await open_account(core)
        token = core.accounts.issue_token(keys.address, keys.public_key, "nonce")
        await core.accounts.authenticate_token(token)
        await asyncio.to_thread(place.make)
        await core.accounts.log_out(await core.accounts.authenticate_token(token))
    place.lose_data()
    await asyncio.to_thread(place.restore)
    async with place.running() as core:
        with pytest.raises(Unauthenticated):
            await core.accounts.authenticate_token(token)
        later = core.restorations.last_at + 1_000
        fresh = core.accounts._tokens.issue(keys.address, keys.public_key, "other", later)
        assert (await core.accounts.authenticate_token(fresh)).address == keys.address


async def test_a_handshake_offer_from_before_the_restore_no_longer_counts(tmp_path: Path) -> None:
    """It may have been used in the time that the log has forgotten."""
    place = Place(tmp_path)
    async with place.running() as core:
        owner = (await open_account(core)).address
        link = await core.offers.make(owner, Origin(actor="test"))
        await asyncio.to_thread(place.make)
        assert await core.offers.redeem(owner, link.partition(":")[0], "did:web:b#0x", "m")
    place.lose_data()
    await asyncio.to_thread(place.restore)
    async with place.running() as core:
        assert not await core.offers.redeem(owner, link.partition(":")[0], "did:web:e#0x", "other")
        fresh = await core.offers.make(owner, Origin(actor="test"))
        assert await core.offers.redeem(owner, fresh.partition(":")[0], "did:web:e#0x", "other")


async def test_a_backup_of_a_running_node_has_all_that_was_accepted_before(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.running() as core:
        await accept(core, *(mail(f"mail {number}") for number in range(5)))
        head = core.log.head
        made = await asyncio.to_thread(place.make)
        assert made.position >= head
    assert (await asyncio.to_thread(place.check)).problems == []


async def test_a_restored_node_does_not_read_old_mail_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.running() as core:
        await accept(core, *(mail(f"mail {number}") for number in range(5)))
    await asyncio.to_thread(place.make)
    place.lose_data()
    done = await asyncio.to_thread(place.restore)
    async with place.running() as core:
        # Behind the last mail stand filings, which concern nobody: the mark moves with the next event that does.
        last = (await core.log.read(0, types={"MailAccepted"}))[-1]
        assert 5 < last.position <= core.dispatcher.low_water <= done.position
        assert core.log.head == done.position + 1


# Refusals


def _inside_data(sample: Place, folder: Path) -> Callable[[], object]:
    return lambda: make(
        sample.settings, sample.configuration, sample.data / "backup", keep=1, tell=nobody_watches
    )


def _around_data(sample: Place, folder: Path) -> Callable[[], object]:
    return lambda: make(sample.settings, sample.configuration, sample.folder, keep=1, tell=nobody_watches)


def _over_other_things(sample: Place, folder: Path) -> Callable[[], object]:
    (folder / "something.txt").write_text("else")
    return lambda: make(sample.settings, sample.configuration, folder, keep=1, tell=nobody_watches)


def _of_another_node(sample: Place, folder: Path) -> Callable[[], object]:
    stranger = Place(folder)
    stranger.receive(mail("else"))
    stranger.make()
    return lambda: make(
        sample.settings, sample.configuration, stranger.backup.path, keep=1, tell=nobody_watches
    )


def _of_a_newer_program(sample: Place, folder: Path) -> Callable[[], object]:
    backup = BackupFolder(folder / "backup")
    shutil.copytree(sample.backup.path, backup.path)
    path = backup.point(backup.chosen(None)) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    return lambda: make(sample.settings, sample.configuration, backup.path, keep=1, tell=nobody_watches)


def _of_nothing(sample: Place, folder: Path) -> Callable[[], object]:
    return lambda: restore(folder, folder / "new", None, nobody_watches)


def _to_a_taken_place(sample: Place, folder: Path) -> Callable[[], object]:
    return sample.restore


def _of_no_such_point(sample: Place, folder: Path) -> Callable[[], object]:
    return lambda: sample.restore(folder / "new", "yesterday")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (_inside_data, "apart"),
        (_around_data, "apart"),
        (_over_other_things, "empty"),
        (_of_another_node, "another node"),
        (_of_a_newer_program, "format 99"),
        (_of_nothing, "no backup here"),
        (_to_a_taken_place, "--into"),
        (_of_no_such_point, "there are 2"),
    ],
)
def test_what_can_not_be_done_is_refused_and_changes_nothing(
    sample: Place, tmp_path: Path, case: Callable[[Place, Path], Callable[[], object]], says: str
) -> None:
    attempt = case(sample, tmp_path)
    before = sorted([*sample.folder.rglob("*"), *tmp_path.rglob("*")])
    with pytest.raises(MailioError, match=says):
        attempt()
    after = sorted([*sample.folder.rglob("*"), *tmp_path.rglob("*")])
    assert [path for path in after if path.name != "backup.lock"] == [
        path for path in before if path.name != "backup.lock"
    ]


def test_an_interrupted_restore_keeps_the_node_from_starting_until_it_is_repeated(
    sample: Place, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    (place.data / ".restoring" / "blobs").mkdir(parents=True)
    (place.data / "keys").mkdir()
    with pytest.raises(MailioError, match="mailio-node restore"):
        Core(place.settings)
    sample.restore(place.data)
    assert sorted(path.name for path in place.data.iterdir()) == [
        "blobs",
        "checkpoints.json",
        "keys",
        "log.sqlite",
        "node.toml.restored",
    ]
    assert not verify_stores(place.settings)["damaged"]
