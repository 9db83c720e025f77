"""A disk that takes no more: deferrals and never a false 250, the node stays, and later goes on by itself.

The limit on file sizes of a process (RLIMIT_FSIZE) makes every write that would grow a file fail, as a full
disk does (EFBIG for ENOSPC; CPython ignores SIGXFSZ). Where mounting is allowed, a small tmpfs is filled too.
"""

from __future__ import annotations

import json
import resource
import smtplib
import subprocess
import tempfile
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.daemon import COMMAND, Daemon

ROOT = Path(__file__).parent.parent.parent
OWNER = "someone@alpha.example"
TRIES = 8
SMALL_DISK = "24m"


class Disk:
    """Something that can be filled up and emptied again below a running daemon."""

    def fill(self, daemon: Daemon) -> None:
        """Let no file grow from now on."""
        raise NotImplementedError

    def empty(self, daemon: Daemon) -> None:
        """Let files grow again."""
        raise NotImplementedError


class FileSizeLimit(Disk):
    """No file of the daemon may be longer than `longest` says (bytes, from the data folder)."""

    def __init__(self, longest: Callable[[Path], int]) -> None:
        self._longest = longest

    def fill(self, daemon: Daemon) -> None:
        self._limit(daemon, self._longest(daemon.data))

    def empty(self, daemon: Daemon) -> None:
        self._limit(daemon, resource.RLIM_INFINITY)

    @staticmethod
    def _limit(daemon: Daemon, longest: int) -> None:
        assert daemon.process is not None
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))


class SmallDisk(Disk):
    """A file that takes all the room of a small file system."""

    def fill(self, daemon: Daemon) -> None:
        with (daemon.folder / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while filler.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def empty(self, daemon: Daemon) -> None:
        (daemon.folder / "filler").unlink()


def nothing(data: Path) -> int:
    """No write to any file succeeds."""
    return 0


def journal(data: Path) -> int:
    """The log's journal can't grow; blobs, which are shorter, can."""
    return (data / "log.sqlite-wal").stat().st_size


def blob_bytes(data: Path) -> int:
    """Bytes in the segments of the blob store."""
    return sum(path.stat().st_size for path in (data / "blobs").glob("*.seg"))


def mounted(folder: Path) -> bool:
    """Whether a small tmpfs could be mounted there."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def may_mount() -> bool:
    """Whether this machine lets us mount."""
    with tempfile.TemporaryDirectory() as folder:
        if not mounted(Path(folder)):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


@contextmanager
def on_small_disk(folder: Path) -> Iterator[Path]:
    """A small file system of its own, for the length of the block."""
    assert mounted(folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


CASES: dict[str, Disk] = {
    "no file takes a byte": FileSizeLimit(nothing),
    "blobs fit, the log does not": FileSizeLimit(journal),
}
if may_mount():
    CASES["a small file system is full"] = SmallDisk()


@pytest.fixture(params=CASES)
def disk(request: pytest.FixtureRequest) -> Disk:
    return CASES[request.param]


@pytest.fixture
def node(tmp_path: Path, disk: Disk) -> Iterator[Daemon]:
    """A node that works, on the disk that will be full; what it prints goes elsewhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with on_small_disk(folder) if isinstance(disk, SmallDisk) else nullcontext():
        node = Daemon(folder)
        node.output = tmp_path / "daemon.out" if isinstance(disk, SmallDisk) else Path("/dev/null")
        try:
            node.start().account(OWNER)
            yield node
        finally:
            node.end()


def try_to_send(daemon: Daemon, subject: str, size: int = 300) -> int:
    """Hand in one mail; return the code of its last reply."""
    lines = b"x" * 70 + b"\r\n"
    raw = f"From: bob@beta.example\r\nSubject: {subject}\r\n\r\n".encode() + lines * (size // 72 + 1)
    try:
        daemon.send(raw, OWNER)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    return 250


def subjects(daemon: Daemon) -> list[str]:
    messages = json.loads(daemon.command("mailbox", OWNER, "--limit", "1000", "--json").stdout)
    return [message["subject"] for message in messages]


def send_some(daemon: Daemon, name: str, count: int, size: int = 300) -> dict[str, int]:
    """Send mails and note the code that each got."""
    return {f"{name} {number}": try_to_send(daemon, f"{name} {number}", size) for number in range(count)}


def acknowledged(codes: dict[str, int]) -> set[str]:
    return {subject for subject, code in codes.items() if code == 250}


def require_all_there(daemon: Daemon, codes: dict[str, int]) -> None:
    """Everything acknowledged is filed once; what was deferred may be there at most once."""
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    filed = subjects(daemon)
    assert len(filed) == len(set(filed)), "a mail was filed twice"
    assert acknowledged(codes) <= set(filed), "an acknowledged mail is missing"
    assert set(filed) <= set(codes)
    assert json.loads(daemon.command("status", "--json").stdout)["parked"] == 0
    assert not json.loads(daemon.command("verify", "--json").stdout)["damaged"]


def test_a_full_disk_defers_mail_and_loses_none(node: Daemon, disk: Disk) -> None:
    codes = send_some(node, "before", 5)
    assert set(codes.values()) == {250}
    disk.fill(node)
    full = send_some(node, "full", TRIES, size=9_000)
    assert set(full.values()) <= {451, 452}, full
    assert node.process is not None
    assert node.process.poll() is None, "the node went down"
    disk.empty(node)
    node.wait_for(lambda: try_to_send(node, "again") == 250, "mail is not taken again")
    codes |= full | {"again": 250} | send_some(node, "after", 5)
    assert {subject for subject in codes if subject.startswith("after")} <= acknowledged(codes)
    require_all_there(node, codes)


def test_a_blob_whose_event_found_no_room_is_not_acknowledged(daemon: Daemon) -> None:
    daemon.account(OWNER)
    codes = send_some(daemon, "before", 5)
    stored = blob_bytes(daemon.data)
    disk = FileSizeLimit(journal)
    assert journal(daemon.data) > stored + 50_000
    disk.fill(daemon)
    codes |= send_some(daemon, "full", 3, size=9_000)
    assert blob_bytes(daemon.data) > stored + 27_000
    assert len(acknowledged(codes)) == 5
    disk.empty(daemon)
    daemon.wait_for(lambda: try_to_send(daemon, "again") == 250, "mail is not taken again")
    require_all_there(daemon, codes | {"again": 250})


def test_what_a_full_disk_left_behind_does_not_hinder_the_next_start(node: Daemon, disk: Disk) -> None:
    codes = send_some(node, "before", 5)
    disk.fill(node)
    codes |= send_some(node, "full", TRIES, size=9_000)
    assert 250 not in {code for subject, code in codes.items() if subject.startswith("full")}
    node.kill()
    if isinstance(disk, SmallDisk):
        disk.empty(node)
    node.start()
    codes |= send_some(node, "after", 5)
    assert len(acknowledged(codes)) == 10
    require_all_there(node, codes)
    reports = json.loads(node.command("rebuild", "--json").stdout)
    assert [report["differences"] for report in reports] == [0, 0, 0, 0]


def test_clients_read_on_and_hear_that_writing_must_wait(node: Daemon, disk: Disk) -> None:
    account = json.loads((node.data / "accounts" / f"{OWNER}.json").read_text())
    codes = send_some(node, "before", 3)
    node.wait_for(node.settled, "accepted mail is not filed")
    disk.fill(node)
    assert len(node.documents(account)) == 3
    status = node_answers(node, account)
    assert status in {503, 507}
    disk.empty(node)
    node.wait_for(lambda: node_answers(node, account) == 201, "documents are not taken again")
    require_all_there(node, codes)


def node_answers(daemon: Daemon, account: dict[str, str]) -> int:
    """Status of one attempt to write a document."""
    try:
        daemon.request("POST", f"/{account['database']}", account, {"text": "x" * 9_000})
    except urllib.error.HTTPError as error:
        return error.code
    return 201


def test_a_log_file_that_takes_no_more_lines_stops_no_door(daemon: Daemon) -> None:
    """What the daemon prints is a help; that it can't be written must not cost a mail."""
    daemon.account(OWNER)
    FileSizeLimit(lambda _: daemon.output.stat().st_size).fill(daemon)
    assert try_to_send(daemon, "unprinted") in {250, 451, 452}
    assert daemon.process is not None
    assert daemon.process.poll() is None


def on_full_disk(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line that can't write a byte to any file."""
    return subprocess.run(
        ["prlimit", "--fsize=0", *COMMAND, "--config", str(daemon.file), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command prints."""
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_start_on_a_full_disk_is_one_clear_line_and_loses_nothing(daemon: Daemon) -> None:
    daemon.account(OWNER)
    codes = send_some(daemon, "before", 3)
    assert daemon.stop() == 0
    assert "log.sqlite" in one_line(on_full_disk(daemon, "run"))
    daemon.start()
    require_all_there(daemon, codes)


def test_an_account_whose_keys_could_not_be_written_is_not_opened(daemon: Daemon) -> None:
    assert "can't be written" in one_line(on_full_disk(daemon, "account", "add", OWNER))
    assert json.loads(daemon.command("account", "list", "--json").stdout) == []
    assert daemon.account(OWNER)["email"] == OWNER


def test_a_rebuild_that_finds_no_room_leaves_the_live_views_and_nothing_else(daemon: Daemon) -> None:
    daemon.account(OWNER)
    codes = send_some(daemon, "before", 3)
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    assert "rebuilt.sqlite" in one_line(on_full_disk(daemon, "rebuild"))
    require_all_there(daemon, codes)
    assert list((daemon.data / "views").glob("*rebuilt*")) == []
