"""What devices wrote and what came in survives losing every view: same documents, same revisions, no conflict."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import smtplib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from events.identity import handshake_id, web_did
from node.crypto.base64_text import from_base64
from node.crypto.handshakes import handshake_document, sign_handshake
from node.crypto.keys import UserKeys
from projections.stores.embedded import EmbeddedStore
from tests.daemon import COMMAND, Daemon
from tests.scenarios.device import Device, device_of

OWNER = "someone@alpha.example"
FRIEND = "bob@beta.example"
PEST = "pest@beta.example"
VIEWS = ("userdb", "directory", "statistics", "outbox")
MAILS = 12
EDITED = 7
PICTURE = bytes(range(256)) * 4


def mail(subject: str, sender: str = FRIEND) -> bytes:
    """A small message with a file."""
    return (
        f"From: {sender}\r\nTo: {OWNER}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        f"--b\r\n\r\nThis is {subject}.\r\n"
        "--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=numbers.csv\r\n\r\n"
        f"1,{subject}\r\n--b--\r\n"
    ).encode()


def subject_of(document: dict[str, Any]) -> str:
    """Subject of a received message's document; "" for any other document."""
    text = document.get("didCommMessage", {}).get("plainBodyBase64", "")
    subject: str = json.loads(base64.b64decode(text or "e30=")).get("subject", "")
    return subject


def signed(account: dict[str, Any], sender: str, status: str, at: int) -> dict[str, Any]:
    """A handshake document as the owner's app writes it (wire spec sections 4.2 to 4.4)."""
    keys = UserKeys(from_base64(account["signingSeed"]), from_base64(account["agreementSeed"]))
    identifier = handshake_id(account["address"], sender)
    content = {
        "handshakeId": identifier,
        "originServer": {"domain": "localhost"},
        "status": status,
        "level": "none",
        "type": "user",
        "created": at,
    }
    did = str(web_did("localhost", account["address"]))
    return handshake_document(identifier, sign_handshake(content, keys), did, at)


def revisions(documents: dict[str, Any]) -> dict[str, str]:
    """The winning revision of each document."""
    return {name: document["_rev"] for name, document in documents.items()}


def histories(daemon: Daemon, account: dict[str, Any]) -> dict[str, Any]:
    """Every leaf revision of every document, deleted ones included, with the path that leads to it."""
    rows = daemon.get(f"/{account['database']}/_changes?style=all_docs", account)["results"]
    wanted = [{"id": row["id"], "rev": each["rev"]} for row in rows for each in row["changes"]]
    answer = daemon.request("POST", f"/{account['database']}/_bulk_get?revs=true", account, {"docs": wanted})
    found: dict[str, list[Any]] = {row["id"]: [] for row in rows}
    for result in answer["results"]:
        found[result["id"]] += [one["ok"] for one in result["docs"]]
    return {"seqs": {row["id"]: row["seq"] for row in rows}, "leaves": found}


async def digests(daemon: Daemon) -> dict[str, str]:
    """Digest of each view of a stopped node."""
    found = {}
    for name in VIEWS:
        store = EmbeddedStore.open(daemon.data / "views" / f"{name}.sqlite", readonly=True)
        found[name] = await store.digest()
        await store.close()
    return found


class Incoming(threading.Thread):
    """Mail that keeps coming in until `finish`."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self._node = daemon
        self._over = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        with smtplib.SMTP("127.0.0.1", self._node.smtp_port, timeout=30) as client:
            client.ehlo("client.example")
            while not self._over.is_set() and len(self.acknowledged) < 900:
                subject = f"meanwhile {len(self.acknowledged)}"
                client.mail(FRIEND)
                client.rcpt(OWNER)
                code, text = client.data(mail(subject))
                assert code == 250, text
                self.acknowledged.append(subject)

    def finish(self) -> None:
        self._over.set()
        self.join(30)
        assert not self.is_alive()


@contextmanager
def mail_coming_in(daemon: Daemon) -> Iterator[Incoming]:
    """Mail comes in for the length of the block."""
    incoming = Incoming(daemon)
    incoming.start()
    daemon.wait_for(lambda: incoming.acknowledged, "no mail comes in")
    try:
        yield incoming
    finally:
        incoming.finish()


@pytest.fixture
def account(daemon: Daemon) -> dict[str, Any]:
    return daemon.account(OWNER)


@pytest.fixture
def device(daemon: Daemon, account: dict[str, Any]) -> Iterator[Device]:
    """A device that has synchronised a dozen mails."""
    for number in range(MAILS):
        daemon.send(mail(f"before {number}"))
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    with device_of(daemon, account) as device:
        first = device.sync()
        assert first["pulled"] == MAILS
        yield device


def edit_offline(device: Device, account: dict[str, Any]) -> dict[str, Any]:
    """Make one edit of each kind; return the device's documents after them."""
    by_subject = {subject_of(document): name for name, document in device.documents().items()}
    device.do("edit", id=by_subject["before 0"], members={"isRead": True, "modified": 1_760_000_000_000})
    device.do("edit", id=by_subject["before 1"], members={"folder": "archive"})
    device.do("edit", id=by_subject["before 1"], members={"isRead": True})
    device.do("remove", id=by_subject["before 2"])
    draft = {"_id": "draft-1", "folder": "drafts", "created": 1_760_000_000_000, "text": "Dear Böb,"}
    device.do("put", doc=draft)
    data = base64.b64encode(PICTURE).decode()
    device.do("attach", id="draft-1", name="picture ü.png", type="image/png", data=data)
    contact = {
        "_id": "contact-1",
        "ownerAddress": account["address"],
        "contactInfo": {"firstName": "Bob", "email": FRIEND},
    }
    device.do("put", doc=contact)
    own = {
        "_id": "settings/own",
        "type": "settings",
        "nested": {"float": 1.5, "big": 2**53 - 1, "none": None},
    }
    device.do("put", doc=own)
    device.do("put", doc=signed(account, PEST, "revoked", 1_760_000_000_001))
    return device.documents()


def require_same(daemon: Daemon, account: dict[str, Any], device: Device) -> dict[str, Any]:
    """The server and the device hold the same documents; return the server's."""
    served = daemon.documents(account)
    assert revisions(served) == revisions(device.documents())
    return served


def code_for(daemon: Daemon, sender: str) -> int:
    """The door's reply to one mail of a sender."""
    try:
        daemon.send(mail("from a sender", sender), OWNER, sender)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    return 250


def test_offline_edits_survive_a_rebuild_under_load_and_nothing_is_fetched_twice(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    edited = edit_offline(device, account)
    pushed = device.sync()
    assert pushed["pushed"] == EDITED
    assert pushed["refused"] == 0
    assert pushed["conflicts"] == []
    before = require_same(daemon, account, device)
    assert revisions(before) == revisions(edited)
    paths = histories(daemon, account)

    with mail_coming_in(daemon) as incoming:
        reports = json.loads(daemon.command("rebuild", "--json").stdout)
    assert {report["view"]: report["differences"] for report in reports} == dict.fromkeys(VIEWS, 0)
    daemon.wait_for(daemon.settled, "accepted mail is not filed")

    after = histories(daemon, account)
    assert {name: after["leaves"][name] for name in paths["leaves"]} == paths["leaves"]
    assert {name: after["seqs"][name] for name in paths["seqs"]} == paths["seqs"]
    again = device.sync()
    assert again["conflicts"] == []
    assert again["pushed"] == 0
    assert not set(again["bodies"]) & set(before), "documents were fetched again"
    assert len(again["bodies"]) == len(set(again["bodies"])) == len(incoming.acknowledged)
    assert len(again["files"]) == len(incoming.acknowledged)
    served = require_same(daemon, account, device)
    subjects = sorted(subject_of(served[name]) for name in served.keys() - before.keys())
    assert subjects == sorted(incoming.acknowledged)
    assert device.sync()["bodies"] == []


def test_a_device_in_live_sync_does_not_notice_a_rebuild(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    device.do("live")
    with mail_coming_in(daemon) as incoming:
        daemon.command("rebuild", "--json")
        device.do("put", doc={"_id": "written-meanwhile", "text": "x"})
    expected = MAILS + len(incoming.acknowledged) + 1
    daemon.wait_for(lambda: len(device.documents()) == expected, "the device does not get everything")
    daemon.wait_for(lambda: len(daemon.documents(account)) == expected, "the node does not get everything")
    asked = device.do("offline")
    assert asked["errors"] == []
    assert len(asked["bodies"]) == len(set(asked["bodies"])) == len(incoming.acknowledged)
    require_same(daemon, account, device)


def test_ctrl_c_during_a_rebuild_leaves_nothing_behind(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    before = daemon.documents(account)
    command = [*COMMAND, "--config", str(daemon.file), "rebuild", "--json"]
    pipe = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as rebuilding:
        marks = daemon.data / "views"
        daemon.wait_for(
            lambda: list(marks.glob("*.rebuilt.*")) or rebuilding.poll() is not None, "nothing is rebuilt"
        )
        # As a terminal does: to the command and to the processes that it has started.
        os.killpg(rebuilding.pid, signal.SIGINT)
        rebuilding.wait(60)
    assert not list(marks.glob("*.rebuilt.*"))
    assert daemon.documents(account) == before


def test_a_view_that_was_finished_goes_too_when_another_one_fails(
    daemon: Daemon, account: dict[str, Any]
) -> None:
    refused = daemon.command("rebuild", "directory", "no-such-view", check=False)
    assert refused.returncode != 0
    assert "no view is called no-such-view" in refused.stderr
    assert not list((daemon.data / "views").glob("*rebuilt*"))


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_during_a_rebuild_leaves_one_whole_view(
    daemon: Daemon, account: dict[str, Any], device: Device, seed: int
) -> None:
    edit_offline(device, account)
    device.sync()
    before, paths = daemon.documents(account), histories(daemon, account)
    command = [*COMMAND, "--config", str(daemon.file), "rebuild", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as rebuilding:
        # The crash shall hit anywhere between the first new view and the last swap.
        marks = ("directory.rebuilt.sqlite", "userdb.rebuilt.sqlite", "statistics.rebuilt.sqlite")
        mark = daemon.data / "views" / marks[seed]
        daemon.wait_for(lambda: mark.exists() or rebuilding.poll() is not None, "nothing is rebuilt")
        daemon.kill()
        rebuilding.wait(60)
    daemon.start()
    daemon.wait_for(daemon.settled, "the views did not come back")
    assert daemon.documents(account) == before
    assert histories(daemon, account) == paths
    again = device.sync()
    assert (again["bodies"], again["pushed"], again["conflicts"]) == ([], 0, [])
    reports = json.loads(daemon.command("rebuild", "--json").stdout)
    assert [report["differences"] for report in reports] == [0, 0, 0, 0]
    assert list((daemon.data / "views").glob("*rebuilt*")) == []


async def test_a_node_without_views_snapshots_and_checkpoints_comes_back_to_the_byte(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    edit_offline(device, account)
    device.sync()
    with mail_coming_in(daemon):
        pass
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    daemon.request("POST", f"/{account['database']}", account, {"_id": "own-2", "by": "HTTP"})
    device.sync()
    documents, paths = daemon.documents(account), histories(daemon, account)
    assert daemon.stop() == 0
    whole = await digests(daemon)

    lose(daemon, "views")
    daemon.start()
    daemon.wait_for(daemon.settled, "the views did not come back")
    assert daemon.documents(account) == documents
    assert daemon.stop() == 0
    assert await digests(daemon) == whole

    lose(daemon, "views", "snapshots.sqlite", "checkpoints.json")
    daemon.start()
    daemon.wait_for(daemon.settled, "the views did not come back")
    assert daemon.documents(account) == documents
    assert histories(daemon, account) == paths
    again = device.sync()
    assert (again["bodies"], again["files"], again["pushed"], again["conflicts"]) == ([], [], 0, [])
    require_same(daemon, account, device)
    assert json.loads(daemon.command("status", "--json").stdout)["parked"] == 0
    assert daemon.stop() == 0
    assert await digests(daemon) == whole


def lose(daemon: Daemon, *names: str) -> None:
    """Take files or folders below the data folder away, with whatever SQLite keeps beside them."""
    for name in names:
        path = daemon.data / name
        assert path.exists(), name
        for each in [path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))]:
            if each.exists():
                each.rename(daemon.folder / f"lost-{each.name}-{len(list(daemon.folder.iterdir()))}")


def test_a_second_device_sees_the_edits_of_the_first(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    edit_offline(device, account)
    device.sync()
    with device_of(daemon, account) as second:
        result = second.sync()
        assert result["pushed"] == 0
        assert result["conflicts"] == []
        there, here = second.documents(), device.documents()
        # PouchDB numbers attachments anew that it pulls.
        for documents in (there, here):
            for document in documents.values():
                for file in document.get("_attachments", {}).values():
                    file.pop("revpos")
        assert there == here
        data = second.do("attachment", id="draft-1", name="picture ü.png")
        assert base64.b64decode(data) == PICTURE


def test_edits_of_two_devices_meet_after_a_rebuild_as_before(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    with device_of(daemon, account) as second:
        second.sync()
        (name,) = [name for name, doc in device.documents().items() if subject_of(doc) == "before 5"]
        device.do("edit", id=name, members={"folder": "archive"})
        second.do("edit", id=name, members={"folder": "spam"})
        device.sync()
        second.sync()
        before = histories(daemon, account)
        assert len(before["leaves"][name]) == 2
        daemon.command("rebuild", "userdb", "--json")
        assert histories(daemon, account) == before
        assert device.sync()["conflicts"] == second.sync()["conflicts"] == [name]
        assert device.documents()[name]["folder"] == second.documents()[name]["folder"]


def test_a_sender_revoked_offline_is_refused_in_the_session_until_the_handshake_is_deleted(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    document = signed(account, PEST, "revoked", 1_760_000_000_001)
    device.do("put", doc=document)
    assert code_for(daemon, PEST) == 250
    assert device.sync()["refused"] == 0
    assert code_for(daemon, PEST) == 550
    assert code_for(daemon, FRIEND) == 250
    device.do("remove", id=document["_id"])
    device.sync()
    assert code_for(daemon, PEST) == 250


def test_a_revoked_sender_stays_refused_when_actors_forget_everything(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    device.do("put", doc=signed(account, PEST, "revoked", 1_760_000_000_001))
    device.sync()
    assert code_for(daemon, PEST) == 550
    assert daemon.stop() == 0
    lose(daemon, "views", "snapshots.sqlite", "checkpoints.json")
    daemon.start()
    assert code_for(daemon, PEST) == 550


def test_a_forged_handshake_is_refused_and_changes_nothing(
    daemon: Daemon, account: dict[str, Any], device: Device
) -> None:
    other = daemon.account("other@alpha.example")
    forged = signed(account | {"signingSeed": other["signingSeed"]}, PEST, "revoked", 1_760_000_000_001)
    device.do("put", doc=forged)
    assert device.sync()["refused"] == 1
    assert forged["_id"] not in daemon.documents(account)
    assert code_for(daemon, PEST) == 250


def test_digests_tell_documents_apart(daemon: Daemon, account: dict[str, Any], device: Device) -> None:
    """The proof above is worth something only if one changed document changes the digest."""
    daemon.stop()
    first = asyncio.run(digests(daemon))
    daemon.start()
    daemon.send(mail("one more"))
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    daemon.stop()
    assert asyncio.run(digests(daemon))["userdb"] != first["userdb"]
