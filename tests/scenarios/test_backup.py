"""Backups of a running node, and what a node restored from one has, knows and refuses."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from events.node import STREAM
from tests.daemon import Daemon
from tests.scenarios.device import device_of
from tests.scenarios.test_rebuild import Incoming, digests, histories, mail, subject_of


def backup(node: Daemon, *options: str) -> dict[str, Any]:
    """Make a point and return the report."""
    made: dict[str, Any] = json.loads(
        node.command("backup", str(node.folder / "backup"), "--json", *options).stdout
    )
    return made


def checked(node: Daemon, *options: str) -> dict[str, Any]:
    """Check the backup; return the report."""
    done = node.command("verify", "--backup", str(node.folder / "backup"), "--json", *options, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["sound"] else 1)
    return report


def lose_disk(node: Daemon) -> None:
    """End a node the hard way and take its data away."""
    node.kill()
    node.data.rename(node.folder / f"lost-{time.monotonic_ns()}")


def restored(node: Daemon, *options: str) -> dict[str, Any]:
    """Restore a node where it was; return the report."""
    report: dict[str, Any] = json.loads(
        node.command("restore", str(node.folder / "backup"), "--json", *options).stdout
    )
    return report


def subjects(node: Daemon, account: dict[str, Any]) -> set[str]:
    return {subject_of(document) for document in node.documents(account).values()}


@pytest.fixture
def incoming(daemon: Daemon) -> Iterator[Incoming]:
    """Mail that keeps coming in."""
    traffic = Incoming(daemon)
    yield traffic
    if traffic.is_alive():
        traffic.finish()


async def test_what_was_acknowledged_before_a_backup_under_load_is_there_after_a_restore(
    daemon: Daemon, incoming: Incoming
) -> None:
    account = daemon.account()
    incoming.start()
    daemon.wait_for(lambda: len(incoming.acknowledged) > 40, "no mail came in")
    before = list(incoming.acknowledged)
    made = backup(daemon)
    daemon.wait_for(lambda: len(incoming.acknowledged) > len(before) + 20, "mail stopped coming in")
    incoming.finish()
    assert checked(daemon)["problems"] == []
    lose_disk(daemon)
    assert restored(daemon)["position"] == made["position"]
    assert {path.stat().st_mode & 0o777 for path in daemon.data.rglob("*") if path.is_file()} == {0o600}
    daemon.start()
    daemon.wait_for(daemon.settled, "not filed")
    assert set(before) <= subjects(daemon, account) <= set(incoming.acknowledged)
    daemon.command("verify")
    daemon.stop()
    once = await digests(daemon)
    for report in json.loads(daemon.command("rebuild", "--json").stdout):
        assert report["differences"] == 0
    assert await digests(daemon) == once


def test_a_client_that_synced_before_misses_nothing_after_a_restore(daemon: Daemon) -> None:
    account = daemon.account()
    with device_of(daemon, account) as device:
        for number in range(4):
            daemon.send(mail(f"backed up {number}"))
        daemon.wait_for(daemon.settled, "not filed")
        device.sync()
        backup(daemon)
        for number in range(6):
            daemon.send(mail(f"lost by the node {number}"))
        daemon.wait_for(daemon.settled, "not filed")
        device.sync()
        device.do("put", doc={"_id": "own", "text": "written after the backup"})
        device.sync()
        position = daemon.get(f"/{account['database']}/_changes", account)["last_seq"]
        lose_disk(daemon)
        restored(daemon)
        daemon.start()
        # As many events as were lost: their positions are given a second time.
        for number in range(6):
            daemon.send(mail(f"new {number}"))
        daemon.wait_for(daemon.settled, "not filed")
        changes = daemon.get(f"/{account['database']}/_changes?since={position}", account)
        assert len(changes["results"]) == 6
        assert all(row["seq"] > position for row in changes["results"])
        result = device.sync()
        assert (result["conflicts"], result["refused"]) == ([], 0)
        there = daemon.documents(account)
        assert {subject_of(document) for document in there.values()} >= {f"new {n}" for n in range(6)}
        mine = device.documents()
        assert {name: each["_rev"] for name, each in there.items()} == {
            name: each["_rev"] for name, each in mine.items()
        }
        # What only the client had left came back, files included.
        assert {subject_of(document) for document in there.values()} >= {
            f"lost by the node {n}" for n in range(6)
        }
        assert there["own"]["text"] == "written after the backup"
        lost = next(name for name, each in there.items() if subject_of(each) == "lost by the node 3")
        assert "numbers.csv" in there[lost]["_attachments"]
        again = device.sync()
        assert (again["pulled"], again["pushed"]) == (0, 0)
        assert histories(daemon, account)["leaves"].keys() == mine.keys()


def test_a_client_that_keeps_its_own_checkpoint_misses_nothing_either(daemon: Daemon) -> None:
    account = daemon.account()
    feed = f"/{account['database']}/_changes"
    daemon.send(mail("backed up"))
    daemon.wait_for(daemon.settled, "not filed")
    backup(daemon)
    seen = daemon.get(feed, account)["last_seq"]
    for life in range(2):
        daemon.send(mail(f"lost {life}"))
        daemon.wait_for(daemon.settled, "not filed")
        lost = daemon.get(f"{feed}?since={seen}", account)["last_seq"]
        assert lost > seen
        lose_disk(daemon)
        restored(daemon)
        daemon.start()
        uuid = daemon.get("/")["uuid"]
        daemon.send(mail(f"found {life}"))
        daemon.wait_for(daemon.settled, "not filed")
        found = daemon.get(f"{feed}?since={lost}&include_docs=true", account)
        assert [subject_of(row["doc"]) for row in found["results"]] == [f"found {life}"]
        assert daemon.get(f"{feed}?since={found['last_seq']}", account)["results"] == []
        assert daemon.get("/")["uuid"] == uuid
        backup(daemon)
        seen = found["last_seq"]
    log = daemon.data / "log.sqlite"
    with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as database:
        found = database.execute("SELECT count(*) FROM events WHERE originator_id = ?", (STREAM,))
        assert found.fetchone() == (2,)
    database.close()
