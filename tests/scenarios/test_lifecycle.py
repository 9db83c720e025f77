"""Starting, stopping, and what an operator sees when something is wrong."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from events.event import Event
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from tests.daemon import COMMAND, Daemon

CONFIGURATION = 78


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command prints."""
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(daemon: Daemon, number: int) -> None:
    daemon.account()
    daemon.send(b"From: a@b.example\r\n\r\nhello\r\n")
    assert daemon.stop(number) == 0
    assert "Traceback" not in daemon.printed()


def test_the_second_start_takes_less_than_two_seconds(daemon: Daemon) -> None:
    daemon.account()
    assert daemon.stop() == 0
    began = time.monotonic()
    daemon.start()
    assert time.monotonic() - began < 2.0 or _machine_is_slow()


def _machine_is_slow() -> bool:
    """Whether even an empty interpreter with our imports takes long: then the clock measures the machine."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import node.daemon"], check=True)
    return time.monotonic() - began > 1.2


def test_it_says_where_it_listens_and_what_to_try_next(daemon: Daemon) -> None:
    printed = daemon.printed()
    assert f"SMTP  127.0.0.1:{daemon.smtp_port}" in printed
    assert f"HTTP  http://127.0.0.1:{daemon.http_port}" in printed
    assert len([line for line in printed.splitlines() if "mailio-node " in line and "@alpha" in line]) == 3


def test_a_second_daemon_on_the_same_store_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    other = Daemon(tmp_path)
    done = other.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert "another" in one_line(done)


@pytest.mark.parametrize("door", ["smtp", "http"])
def test_a_port_in_use_is_one_clear_line(stopped: Daemon, door: str) -> None:
    port = stopped.smtp_port if door == "smtp" else stopped.http_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = stopped.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert str(port) in one_line(done)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[smtp]\nlisen = '127.0.0.1:25'\n", "smtp.listen"),
        ("[smpt]\n", "smtp"),
        ("[smtp]\nlisten = 25\n", "smtp.listen"),
        ("[smtp]\nlisten = 'nowhere'\n", "smtp.listen"),
        ("[smtp.limits]\nrecipients = 0\n", "recipients"),
        ("[node]\nquota_bytes = 'much'\n", "quota_bytes"),
        ("[node\n", "TOML"),
        ("node = 1\n", "node"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(stopped: Daemon, text: str, says: str) -> None:
    stopped.file.write_text(text)
    done = stopped.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert says in one_line(done)


def test_a_missing_configuration_says_how_to_write_one(stopped: Daemon) -> None:
    stopped.file.unlink()
    done = stopped.command("status", check=False)
    assert done.returncode == CONFIGURATION
    assert f"mailio-node --config {stopped.file} init" in one_line(done)


def test_a_log_of_a_newer_program_is_left_alone(daemon: Daemon) -> None:
    daemon.account()
    daemon.stop()
    path = daemon.data / "log.sqlite"
    database = sqlite3.connect(path)
    with database:
        assert database.execute("UPDATE log_meta SET value = 1000000 WHERE name = 'format'").rowcount == 1
    database.close()
    before = path.read_bytes()
    done = daemon.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert "newer" in one_line(done)
    assert path.read_bytes() == before


class FromTheFuture(Event, frozen=True, kw_only=True):
    """An event that only this test's program knows."""

    what: str


async def test_an_event_of_a_newer_program_is_named_with_the_version_that_wrote_it(daemon: Daemon) -> None:
    assert daemon.stop() == 0
    log = SqliteLog.open(daemon.data / "log.sqlite", SystemClock(), "mailio-node/99.0")
    await log.append(Write("future", (FromTheFuture(what="x"),)), origin=Origin(actor="test"))
    await log.close()
    done = daemon.command("run", check=False)
    told = one_line(done)
    assert "FromTheFuture" in told
    assert "mailio-node/99.0" in told


def test_a_node_with_history_does_not_make_itself_a_new_identity(daemon: Daemon) -> None:
    daemon.account()
    daemon.stop()
    (daemon.data / "keys" / "server.json").rename(daemon.folder / "moved.json")
    done = daemon.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert "restore" in one_line(done)
    assert not (daemon.data / "keys" / "server.json").exists()


def test_a_data_folder_that_can_not_be_made_is_one_clear_line(stopped: Daemon) -> None:
    stopped.data.write_text("a file where a folder should be")
    done = stopped.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert str(stopped.data) in one_line(done)


@pytest.mark.parametrize(("file", "advice"), [("log.sqlite", "log"), ("views/userdb.sqlite", "rebuild")])
def test_a_file_that_is_no_store_is_named_and_left_alone(daemon: Daemon, file: str, advice: str) -> None:
    daemon.account()
    daemon.stop()
    path = daemon.data / file
    for other in path.parent.glob(f"{path.name}-*"):
        other.unlink()
    path.write_bytes(b"this is not a database" * 1000)
    done = daemon.command("run", check=False)
    assert done.returncode == CONFIGURATION
    told = one_line(done)
    assert advice in told
    assert path.name in told
    assert path.read_bytes().startswith(b"this is not a database")


def test_a_damaged_view_is_made_again_by_rebuild(daemon: Daemon) -> None:
    account = daemon.account()
    daemon.send(b"From: a@b.example\r\nSubject: kept\r\n\r\nhello\r\n")
    daemon.wait_for(daemon.settled, "not filed")
    before = daemon.documents(account)
    daemon.stop()
    path = daemon.data / "views" / "userdb.sqlite"
    for other in path.resolve().parent.glob(f"{path.resolve().name}-*"):
        other.unlink()
    path.write_bytes(b"this is not a database" * 1000)
    report = json.loads(daemon.command("rebuild", "userdb", "--json").stdout)
    assert report[0]["documents"] == 1
    daemon.start()
    assert daemon.documents(account) == before


def test_keys_that_others_may_read_are_refused(daemon: Daemon) -> None:
    daemon.stop()
    (daemon.data / "keys" / "server.json").chmod(0o644)
    done = daemon.command("run", check=False)
    assert done.returncode == CONFIGURATION
    assert "chmod 600" in one_line(done)


def test_the_doctor_finds_a_port_in_use_and_says_what_to_do(stopped: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stopped.smtp_port))
        taken.listen()
        done = stopped.command("doctor", "--json", check=False)
    assert done.returncode == 1
    wrong = [finding for finding in json.loads(done.stdout) if finding["state"] == "wrong"]
    assert [finding["check"] for finding in wrong] == ["smtp.listen"]
    assert "set smtp.listen" in wrong[0]["advice"]


def test_the_doctor_finds_nothing_wrong_with_a_running_node(daemon: Daemon) -> None:
    daemon.account()
    done = daemon.command("doctor", "--json")
    assert [f for f in json.loads(done.stdout) if f["state"] == "wrong"] == []


def test_a_stopped_node_shows_what_it_has_done_and_tables_in_pipes_are_whole(daemon: Daemon) -> None:
    owner, friend = daemon.account()["email"], "friend@beta.example"
    daemon.command("handshake", "accept", owner, friend)
    daemon.command("send-test", owner, "--sender", friend)
    daemon.wait_for(daemon.settled, "the mail is not filed")
    assert daemon.stop() == 0
    assert json.loads(daemon.command("status", "--json").stdout)["backlog"] == 0
    assert "handshake_accepted_unverified" in daemon.command("mailbox", owner).stdout


def test_verify_beside_a_running_node_reads_also_what_was_just_written(daemon: Daemon) -> None:
    daemon.account()
    daemon.send(b"Subject: Hello\r\n\r\nHello\r\n")
    daemon.wait_for(daemon.settled, "the mail is not filed")
    report = json.loads(daemon.command("verify", "--json").stdout)
    assert (report["blobs"], report["damaged"]) == (2, False)


def test_passwords_in_the_configuration_are_not_shown(stopped: Daemon) -> None:
    stopped.settings |= {"http.metrics_password": "s3cret", "couchdb.url": "http://me:s3cret@127.0.0.1:9"}
    stopped.configure()
    for arguments in ((), ("--json",)):
        printed = stopped.command("config", *arguments).stdout
        assert "metrics_password" in printed
        assert "s3cret" not in printed


def test_config_shows_each_setting_with_its_source(stopped: Daemon) -> None:
    rows = json.loads(stopped.command("config", "--json").stdout)
    sources = {row["setting"]: row["source"] for row in rows}
    assert sources["smtp.listen"].endswith("node.toml")
    assert sources["smtp.limits.recipients"] == "default"


@pytest.mark.parametrize(
    "arguments",
    [
        ("account", "add", "not an email"),
        ("account", "add", "someone@elsewhere.example"),
        ("account", "show", "nobody@alpha.example"),
        ("parked", "show", "nothing"),
        ("rebuild", "nothing"),
    ],
)
def test_wrong_arguments_are_one_clear_line(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    assert one_line(daemon.command(*arguments, check=False)).startswith("mailio-node: ")


def test_every_command_has_help_with_an_example() -> None:
    root = Path(__file__).parent.parent.parent
    listing = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, check=True, cwd=root
    ).stdout
    groups = {
        "log": ("show", "tail", "grep", "checkpoint"),
        "account": ("add", "list", "show", "disable", "enable", "password", "export", "import"),
        "parked": ("list", "retry"),
    }
    for command in (
        "run",
        "status",
        "rebuild",
        "doctor",
        "config",
        "verify",
        "mailbox",
        "send-test",
        "init",
        "state",
        "diff",
        "why",
        "backup",
        "restore",
    ):
        assert command in listing
        assert "Example:" in _help(root, command)
    for group, commands in groups.items():
        for command in commands:
            assert "Example:" in _help(root, group, command)


def _help(root: Path, *words: str) -> str:
    done = subprocess.run([*COMMAND, *words, "--help"], capture_output=True, text=True, check=True, cwd=root)
    return done.stdout
