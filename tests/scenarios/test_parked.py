"""Mail that can't be processed: parked with its reason, shown, retried, dropped; the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from events import mail
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mail import MailAccepted, Recipient
from node.storage.blobs import blob_name
from node.storage.local import LocalBlobs
from tests.daemon import Daemon

RAW = b"From: friend@beta.example\r\nSubject: found again\r\n\r\nhello\r\n"


async def accept_without_blob(data: Path, address: str) -> None:
    """Append the event of an accepted mail whose bytes are gone."""
    log = SqliteLog.open(data / "log.sqlite", SystemClock(), "test")
    event = MailAccepted(
        transport="smtp", blob=blob_name(RAW), size=len(RAW), received_at=1_760_000_000_000,
        recipients=(Recipient(address, "someone@alpha.example"),), authors=("friend@beta.example",),
    )  # fmt: skip
    await log.append(Write(mail.stream("lost"), (event,)), origin=Origin(actor="smtp"))
    await log.close()


async def find_the_blob(data: Path) -> None:
    blobs = LocalBlobs.open(data / "blobs")
    await blobs.write(RAW)
    await blobs.close()


def parked(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(daemon.command("parked", "list", "--json").stdout)
    return found


def subjects(daemon: Daemon) -> list[str]:
    listing = daemon.command("mailbox", "someone@alpha.example", "--json").stdout
    return [message["subject"] for message in json.loads(listing)]


async def test_a_mail_whose_bytes_are_gone_is_parked_and_filed_when_they_are_back(daemon: Daemon) -> None:
    address = daemon.account()["address"]
    daemon.stop()
    await accept_without_blob(daemon.data, address)
    daemon.start()
    (item,) = daemon.wait_for(lambda: parked(daemon), "nothing was parked")
    assert item["what"] == f"mailbox/{address}"
    assert "blob" in item["reason"]
    shown = json.loads(daemon.command("parked", "show", item["id"]).stdout)
    assert shown["event"]["type"] == "MailAccepted"

    daemon.send(b"From: other@beta.example\r\nSubject: unhindered\r\n\r\nhello\r\n")
    daemon.wait_for(lambda: subjects(daemon) == ["unhindered"], "the next mail was held up")

    failed = daemon.command("parked", "retry", item["id"], check=False)
    assert failed.returncode == 1
    assert "blob" in failed.stderr
    assert len(parked(daemon)) == 1

    daemon.stop()
    await find_the_blob(daemon.data)
    daemon.start()
    daemon.command("parked", "retry", item["id"])
    daemon.wait_for(lambda: "found again" in subjects(daemon), "the retried mail was not filed")
    assert parked(daemon) == []


async def test_a_dropped_mail_stays_away_after_a_restart(daemon: Daemon) -> None:
    address = daemon.account()["address"]
    daemon.stop()
    await accept_without_blob(daemon.data, address)
    daemon.start()
    (item,) = daemon.wait_for(lambda: parked(daemon), "nothing was parked")
    daemon.command("parked", "drop", item["id"], "--reason", "a test")
    assert parked(daemon) == []
    daemon.stop()
    (daemon.data / "checkpoints.json").unlink()
    daemon.start()
    daemon.wait_for(daemon.settled, "the log was not worked through")
    assert parked(daemon) == []
    assert subjects(daemon) == []
