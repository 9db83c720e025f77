"""A node of today starts on what every released program has left behind, and makes of it what was made then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from events.event import Erased, Recorded
from events.mail import Recipient
from node.doctor import verify_stores
from node.settings import Settings
from node.stores import reading
from tests.golden import record
from tests.golden.life import FRIEND, Life, message
from tests.golden.logs import recording as logs
from tests.integration.api.harness import DOMAIN, FACTS, running, settings_for

NAMES = logs.names()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    golden: str = request.param
    return golden


@pytest.fixture
def settings(name: str, tmp_path: Path) -> Settings:
    """Settings of a node that lives in a copy of the golden log."""
    return logs.opened(name, tmp_path)


async def records(settings: Settings) -> list[Recorded]:
    async with reading(settings.node.data, "test") as stores:
        return await stores.log.read(0, 10_000)


def type_of(record: Recorded) -> str:
    """Name of an event's type, also where the event is no longer readable."""
    return record.event.type if isinstance(record.event, Erased) else type(record.event).__name__


async def verified(settings: Settings) -> dict[str, Any]:
    """What `mailio-node verify` reports."""
    return await asyncio.to_thread(verify_stores, settings)


async def test_every_view_is_made_again_with_the_digests_that_were_recorded(
    name: str, settings: Settings
) -> None:
    async with running(settings) as node:
        head = node.core.log.head
        await node.settled()
        assert node.core.log.head == head, "what was answered then is not answered again"
        recorded, found = logs.views_of(name), await logs.contents(node.core)
    assert recorded.keys() == found.keys(), "run `python -m tests.golden.logs` and commit what it writes"
    assert found == recorded


async def test_a_node_goes_on_where_the_log_ends(settings: Settings) -> None:
    async with running(settings) as node:
        await node.settled()
        before = node.core.log.head
        ada = await node.core.directory.by_email(f"ada@{DOMAIN}")
        assert ada is not None
        raw = message(FRIEND, "after all these years")
        await node.core.acceptance.accept(FACTS, FRIEND, [Recipient(ada.address, ada.email)], raw)
        await node.settled()
        (added,) = await node.core.views.stores["userdb"].documents_since(ada.database, before)
        assert b'"reason":"handshake_accepted_unverified"' in added.winner.body
        assert added.seq == node.core.log.head == before + 2
    assert not (await verified(settings))["damaged"]


async def test_every_hash_of_a_golden_log_is_right(name: str, settings: Settings) -> None:
    async with running(settings):
        """The first start makes the index of the blobs again."""
    report = await verified(settings)
    assert not report["damaged"], report
    assert report["events"] >= len(await records(settings)) > 0
    assert report["blobs"] > 0


async def test_the_newest_golden_log_has_an_event_of_every_type(tmp_path: Path) -> None:
    """The youngest is the one whose last event is: names say nothing about age."""
    ages = []
    for name in NAMES:
        found = await records(logs.opened(name, tmp_path / name))
        ages.append((found[-1].metadata.at, {type_of(each) for each in found}))
    lacking = {kind.__name__ for kind in record.domain_types()} - max(ages)[1]
    assert lacking == set(), "extend tests/golden/life.py, then run `python -m tests.golden.logs <name>`"


def test_a_golden_log_is_small(name: str) -> None:
    size = sum(path.stat().st_size for path in (logs.FOLDER / name).rglob("*") if path.is_file())
    assert size <= logs.MOST_BYTES


@pytest.fixture
def unreleased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "FOLDER", tmp_path / "logs")
    logs.FOLDER.mkdir()
    return logs.FOLDER


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_what_is_recorded_once_is_never_overwritten(unreleased: Path) -> None:
    await logs.record("first")
    before = files(unreleased)
    await logs.record_views("first")
    with pytest.raises(FileExistsError):
        await logs.record("first")
    assert files(unreleased) == before
    assert logs.names() == ["first"]


async def test_a_life_leaves_its_views_as_a_rebuild_makes_them(tmp_path: Path) -> None:
    """What is recorded comes from live views: it would be worth little if replay gave something else."""
    settings = settings_for(tmp_path)
    async with running(settings) as node:
        await Life(node).run()
        live = await logs.contents(node.core)
    for path in (tmp_path / "views").iterdir():
        path.unlink()
    async with running(settings) as node:
        await node.settled()
        assert await logs.contents(node.core) == live
