"""What a start, `verify` and `doctor` say of a node whose stores were damaged while it was down."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from events.errors import CorruptRecord, MailioError
from node.core import Core
from node.doctor import Finding, examine, verify_stores
from node.settings import Settings, load
from tests.crash.drill import open_account
from tests.daemon import Daemon, running

EMAIL = "someone@alpha.example"
MAILS = 5


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node that was killed with some mails in it; do not change it."""
    folder = tmp_path_factory.mktemp("killed")
    with running(folder) as daemon:
        open_account(daemon, EMAIL)
        for number in range(MAILS):
            daemon.send(f"From: a@beta.example\r\nSubject: {number}\r\n\r\nhello {number}\r\n".encode())
        daemon.wait_for(daemon.settled, "accepted mail is not filed")
        daemon.wait_for((daemon.data / "checkpoints.json").exists, "no checkpoint is saved")
        daemon.kill()
        yield folder


@pytest.fixture
def node(killed: Path, tmp_path: Path) -> Daemon:
    """A copy of it, to be damaged."""
    ignore = shutil.ignore_patterns("admin.sock")
    shutil.copytree(killed / "data", tmp_path / "data", symlinks=True, ignore=ignore)
    return Daemon(tmp_path)


def settings_of(node: Daemon) -> Settings:
    return load(node.file).settings


def started(node: Daemon) -> str:
    """Start and stop the core of a node; return the reason why it does not start, "" when it does."""

    async def life() -> None:
        core = Core(settings_of(node))
        try:
            await core.start()
        finally:
            await core.close()

    try:
        asyncio.run(life())
    except MailioError as error:
        return str(error)
    return ""


def wrong(node: Daemon) -> list[Finding]:
    """What the doctor finds wrong with the stores."""
    return [f for f in examine(node.file) if f.state == "wrong" and "listen" not in f.check]


def test_a_sound_node_starts_and_nothing_is_said(node: Daemon) -> None:
    assert started(node) == ""
    assert not verify_stores(settings_of(node))["damaged"]
    assert wrong(node) == []


def lose_wal(data: Path) -> None:
    (data / "log.sqlite-wal").unlink()


def lose_wal_and_note(data: Path) -> None:
    """Only the consumers of the log can tell."""
    lose_wal(data)
    (data / "log.sqlite.head").unlink()


def lose_views_too(data: Path) -> None:
    """Only the dispatcher can tell: it would pass over the next events in silence."""
    lose_wal_and_note(data)
    shutil.rmtree(data / "views")


def lose_checkpoint_too(data: Path) -> None:
    """Only the views can tell."""
    lose_wal_and_note(data)
    (data / "checkpoints.json").unlink()


@pytest.mark.parametrize("lose", [lose_wal, lose_wal_and_note, lose_views_too, lose_checkpoint_too])
def test_a_log_that_lost_its_end_is_not_continued_in_silence(
    node: Daemon, lose: Callable[[Path], None]
) -> None:
    lose(node.data)
    told = started(node)
    assert "acknowledged" in told
    assert "Put back log.sqlite-wal" in told


def test_what_a_refusal_advises_is_enough_to_go_on(node: Daemon) -> None:
    lose_wal(node.data)
    assert "remove log.sqlite.head, checkpoints.json, snapshots.sqlite* and views/" in started(node)
    (node.data / "log.sqlite.head").unlink()
    (node.data / "checkpoints.json").unlink()
    for path in node.data.glob("snapshots.sqlite*"):
        path.unlink()
    shutil.rmtree(node.data / "views")
    assert started(node) == ""


def scribble(data: Path) -> None:
    """Overwrite all pages of the log but the first two."""
    path = data / "log.sqlite"
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    raw.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))


def test_a_malformed_log_is_named_everywhere_with_what_to_do(node: Daemon) -> None:
    scribble(node.data)
    assert "mailio-node verify" in started(node)
    report = verify_stores(settings_of(node))
    assert report["damaged"]
    assert report["faults"]
    finding = next(finding for finding in wrong(node) if finding.check == "log")
    assert "restore the log from a backup" in finding.text


def test_a_missing_blob_is_named_with_position_and_stream_and_mail_goes_on(
    node: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.data / "blobs" / "000001.seg").unlink()
    assert started(node) == ""
    printed = capsys.readouterr().out
    assert "a blob is missing or damaged" in printed
    assert "stream=mail-" in printed
    report = verify_stores(settings_of(node))
    assert report["damaged"]
    assert {fault["problem"] for fault in report["faults"]} == {"the blob is missing"}
    assert sum(fault["stream"].startswith("mail-") for fault in report["faults"]) == MAILS


def test_verify_prints_each_fault_and_its_code_says_that_there_are_some(node: Daemon) -> None:
    (node.data / "blobs" / "000001.seg").unlink()
    done = node.command("verify", check=False)
    assert done.returncode == 1
    assert done.stdout.count("the blob is missing") >= 2 * MAILS
    assert "Traceback" not in done.stderr


def test_a_damaged_record_is_named_by_position_and_stream(node: Daemon) -> None:
    raw = sqlite3.connect(node.data / "log.sqlite", isolation_level=None)
    raw.execute("DROP TRIGGER events_are_never_changed")
    (stream,) = raw.execute("SELECT originator_id FROM events WHERE position = 3").fetchone()
    raw.execute("UPDATE events SET state = x'00' WHERE position = 3")
    raw.close()
    assert f"position 3, stream {stream}" in started(node)
    assert (verify_stores(settings_of(node))["faults"])[0] == {
        "position": 3,
        "stream": stream,
        "blob": "",
        "problem": "the record is not what was written",
    }
    with pytest.raises(CorruptRecord):
        Core(settings_of(node))
