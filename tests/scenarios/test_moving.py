"""An account moves from one node to another: the same mailbox, the same devices, the same rules."""

from __future__ import annotations

import json
import mailbox
import smtplib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.scenarios.device import device_of, pull
from tests.scenarios.test_rebuild import FRIEND, OWNER, PEST, histories, mail, revisions, signed, subject_of

THERE = "someone@delta.example"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Daemon]:
    """Another node, of another domain."""
    folder = tmp_path / "there"
    folder.mkdir()
    node = Daemon(folder, node__server_domain="delta.example", node__email_domains=["delta.example"])
    try:
        yield node.start()
    finally:
        node.end()


def lived_in(node: Daemon) -> dict[str, Any]:
    """An account with mails, files, moves, deletions, drafts, conflicts and handshakes; return its keys."""
    account = node.account()
    for number in range(6):
        node.send(mail(f"mail {number}"))
    node.wait_for(node.settled, "not filed")
    with device_of(node, account) as device:
        device.sync()
        names = sorted(device.documents())
        device.do("edit", id=names[0], members={"isRead": True, "folder": "archive"})
        device.do("edit", id=names[1], members={"folder": "Größe/../x"})
        device.do("remove", id=names[2])
        device.do("put", doc={"_id": "draft", "folder": "draft", "text": "not sent yet", "big": 2**53 - 1})
        device.do("attach", id="draft", name="a b.bin", type="application/x", data="AAEC")
        for sender, status in ((FRIEND, "accepted"), (PEST, "revoked"), ("x@y.example", "accepted")):
            device.do("put", doc=signed(account, sender, status, 1_700_000_000_000))
        device.sync()
        device.do("remove", id=signed(account, "x@y.example", "accepted", 1)["_id"])
        device.sync()
    node.send(mail("welcome"))
    node.wait_for(node.settled, "not filed")
    return account


def test_an_account_moves_with_everything_that_it_has(daemon: Daemon, there: Daemon, tmp_path: Path) -> None:
    account, file = lived_in(daemon), tmp_path / "someone.tar.gz"
    done = json.loads(daemon.command("account", "export", OWNER, str(file), "--json").stdout)
    assert done["mails"] == 6
    there.command("account", "import", str(file), "--email", THERE, "--node", done["node"])
    before, after = histories(daemon, account), histories(there, account)
    assert after["leaves"] == before["leaves"]
    assert pull(there, account) == pull(daemon, account)
    assert daemon.documents(account) == there.documents(account)

    with device_of(there, account) as device:
        there.send(mail("at the new place"), to=THERE)
        there.wait_for(there.settled, "not filed")
        device.sync()
        device.do("edit", id="draft", members={"text": "sent"})
        assert device.sync()["conflicts"] == []
        assert revisions(device.documents()) == revisions(there.documents(account))
    # The handshakes hold at the new place too.
    places = {subject_of(each): each.get("folder") for each in there.documents(account).values()}
    assert (places["welcome"], places["at the new place"]) == ("inbox", "inbox")
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        there.send(mail("no", PEST), to=THERE, sender=PEST)
    assert refused.value.smtp_code == 550
    there.command("verify")
    report = json.loads(there.command("rebuild", "--json").stdout)
    assert [view["differences"] for view in report] == [0, 0, 0, 0]
    again = there.command("account", "import", str(file), "--email", "b@delta.example", check=False)
    assert "already" in again.stderr

    with tarfile.open(file) as tape:
        tape.extractall(tmp_path / "unpacked", filter="data")
    boxes = {path.stem: mailbox.mbox(path) for path in (tmp_path / "unpacked" / "mbox").iterdir()}
    assert sum(map(len, boxes.values())) == 6
    assert [message["Status"] for message in boxes["archive"]] == ["RO"]
