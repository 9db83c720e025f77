"""A disk that fails at the nth write, sync, opening or renaming: deferrals, no false promise, and on it goes."""

from __future__ import annotations

import errno
import json
import os
import smtplib
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.errors import StorageUnavailable
from node.rebuild import rebuild_aside
from node.settings import load
from projections.stores.embedded import EmbeddedStore
from tests.crash.checks import check
from tests.crash.disk import Calls, Faults, built
from tests.crash.drill import MAILBOXES, open_account
from tests.crash.traffic import Book
from tests.daemon import Daemon

MOST_CALLS, MOST_SYNCS = 12, 4
"""The nth call, or sync, that fails, at the most: more than one mail or document makes."""
ACCEPTED = {250, 201}
DEFERRED = {421, 451, 452, 503, 507}


class Node:
    """A node on a disk that fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder, views__backoff_most_seconds=0.1, reactions__backoff_most_seconds=0.2)
        self.faults = Faults(folder / "faults")
        self.book = Book()
        self.environment = {
            "LD_PRELOAD": str(built(folder)),
            "DISK_ROOT": str(self.daemon.data),
            "DISK_CONTROL": str(self.faults.path),
        }
        self.accounts: dict[str, dict[str, str]] = {}
        self._count = 0

    def start(self) -> None:
        self.daemon.start(self.environment)
        if not self.accounts:
            self.accounts = {email: open_account(self.daemon, email) for email in MAILBOXES[:1]}

    def mail(self) -> int:
        """Send a mail; return the code of the last answer."""
        self._count += 1
        to, name = MAILBOXES[0], f"mail-{self._count}"
        self.book.tried.add((to, name))
        try:
            self.daemon.send(f"From: a@beta.example\r\nSubject: {name}\r\n\r\n{name}\r\n".encode(), to)
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        self.book.acknowledged.add((to, name))
        return 250

    def document(self) -> int:
        """Write a document as a device does; return the status."""
        self._count += 1
        account = self.accounts[MAILBOXES[0]]
        name = f"document-{self._count}"
        self.book.tried.add((account["database"], name))
        status = self.daemon.status("PUT", f"/{account['database']}/{name}", account, {"text": name})
        if status == 201:
            self.book.acknowledged.add((account["database"], name))
        return status

    def require_up(self) -> None:
        assert self.daemon.process is not None
        assert self.daemon.process.poll() is None, f"the node went down: {self.daemon.printed()[-3000:]}"

    def require_well(self) -> None:
        """Everything works again without a restart, and after one; all promises are kept."""
        self.daemon.wait_for(lambda: self.mail() == 250, "mail is not taken again")
        self.daemon.wait_for(lambda: self.document() == 201, "documents are not taken again")
        self.daemon.wait_for(self.daemon.settled, "accepted mail is not filed")
        settings = load(self.daemon.file).settings
        check(settings, self.accounts, self.book, tidy=False)
        assert self.daemon.ask("status")["parked"] == 0
        self.daemon.kill()
        self.daemon.start()
        self.daemon.wait_for(self.daemon.settled, "accepted mail is not filed")
        check(settings, self.accounts, self.book)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    try:
        node.start()
        yield node
    finally:
        node.daemon.end()


class Way(msgspec.Struct, frozen=True):
    """How a disk fails: with which error, for once or from then on, and whether half of a write is taken."""

    error: int
    sticky: bool
    partial: bool


WAYS = [Way(errno.ENOSPC, sticky=True, partial=True), Way(errno.EIO, sticky=False, partial=False)]
if os.environ.get("THOROUGH"):
    WAYS += [Way(errno.ENOSPC, sticky=False, partial=True), Way(errno.EIO, sticky=True, partial=False)]


def test_whichever_call_fails_the_sender_comes_again_and_nothing_is_lost(node: Node) -> None:
    for way in WAYS:
        failed = 0
        for calls in (Calls.ANY, Calls.SYNC):
            for nth in range(1, (MOST_CALLS if calls is Calls.ANY else MOST_SYNCS) + 1):
                for attempt in (node.mail, node.document):
                    node.faults.arm(calls, nth, way.error, sticky=way.sticky, partial=way.partial)
                    code = attempt()
                    failed += node.faults.disarm()
                    assert code in ACCEPTED | DEFERRED, (way, calls, nth, code)
                    node.require_up()
        assert failed >= MOST_CALLS
    node.require_well()


def swap(daemon: Daemon) -> dict[str, Any]:
    """Have a rebuilt view swapped in; return the answer or the error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(str(daemon.data / "admin.sock"))
        connection = HTTPConnection("node")
        connection.sock = client
        connection.request("POST", "/view.swap", json.dumps({"views": ["userdb"]}))
        told: dict[str, Any] = json.loads(connection.getresponse().read().splitlines()[-1])
        return told


def test_a_swap_that_fails_at_any_call_leaves_a_view_that_can_be_swapped_again(node: Node) -> None:
    for _ in range(3):
        assert node.mail() == 250
    node.daemon.wait_for(node.daemon.settled, "accepted mail is not filed")
    settings = load(node.daemon.file).settings
    failures = 0
    for nth in range(1, 32, 1 if os.environ.get("THOROUGH") else 4):
        rebuild_aside(settings, ["userdb"], lambda *_: None)
        node.faults.arm(Calls.ANY, nth, errno.EIO, sticky=False)
        told = swap(node.daemon)
        node.faults.disarm()
        failures += "error" in told
        assert told.get("error", {}).get("kind") != "Failure", (nth, told, node.daemon.printed()[-3000:])
        node.require_up()
        assert node.mail() == 250
        assert node.document() == 201
    assert failures > 2
    node.require_well()


async def test_a_swap_whose_last_sync_fails_is_followed_by_who_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is in place then, and only not known to be durable."""
    live = EmbeddedStore.open(tmp_path / "v")
    await live.write([], 5, 1)
    aside = EmbeddedStore.open(tmp_path / "aside")
    await aside.write([], 5, 1)
    await aside.close()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr("projections.stores.generations.os.fsync", broken)
    with pytest.raises(StorageUnavailable):
        await live.swap_in(tmp_path / "aside")
    monkeypatch.undo()
    await live.write([], 6, 1)
    reader = EmbeddedStore.open(tmp_path / "v", readonly=True)
    assert await reader.checkpoint() == await live.checkpoint() == 6
    await reader.close()
    assert (tmp_path / "v.g1").exists(), "a power loss may bring the old name back"
    await live.close()


def test_a_start_that_fails_is_one_clear_line_and_the_next_one_works(node: Node) -> None:
    assert node.mail() == 250
    node.daemon.kill()
    for nth in range(1, 60, 2 if os.environ.get("THOROUGH") else 17):
        node.faults.arm(Calls.ANY, nth, errno.EIO, sticky=True)
        node.daemon.spawn(node.environment)
        node.daemon.wait_for(node.daemon.is_listening_or_over, "it does neither start nor end")
        node.daemon.end()
        assert "Traceback" not in node.daemon.printed(), (nth, node.daemon.printed()[-3000:])
    node.faults.disarm()
    node.start()
    node.require_well()
