"""Somebody is erased: nothing of them is left in any file, and nobody else notices."""

from __future__ import annotations

import base64
import json
import smtplib
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from events import account
from events.account import AccountErased
from events.event import Erased
from events.identity import userdb_name
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog, bound_vault
from node.crypto.base64_text import to_base64
from node.crypto.envelope import Envelopes
from node.crypto.keys import UserKeys
from node.crypto.vault import Vault, vault_path
from node.stores import reading
from tests.daemon import Daemon, running
from tests.servers.couchdb import couchdb_server

EMAIL = "vanishing.person@alpha.example"
NAME = "Vanessa Vanishing"
OTHER = "remaining@alpha.example"

WORDS = (
    "vanishing.person",
    "Vanessa",
    "subjectword",
    "bodyword",
    "attachmentword",
    "filenameword",
    "draftword",
    "localword",
    "secretfriend",
    "sharedword",
)
"""What is only said of, to or by the person who vanishes; `sharedword` somebody else may keep."""

MAIL = (
    b"From: secretfriend@beta.example\r\nTo: vanishing.person@alpha.example\r\nSubject: subjectword\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nbodyword number %d\r\n"
    b'--b\r\nContent-Type: application/octet-stream; name="filenameword.bin"\r\n'
    b'Content-Disposition: attachment; filename="filenameword.bin"\r\n\r\nattachmentword\r\n--b--\r\n'
)
SHARED = (
    b"From: circle@beta.example\r\nTo: undisclosed-recipients:;\r\nSubject: circular\r\n\r\nsharedword\r\n"
)

Account = dict[str, Any]


def forms(word: str) -> Iterator[bytes]:
    """A word as it stands in files: plain, in UTF-16, and inside of base64, wherever it begins there."""
    yield word.encode()
    yield word.encode("utf-16-le")
    for shift in range(3):
        # The first and last characters depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + word.encode())
        yield encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]


def found(folder: Path, words: Sequence[str] = WORDS) -> set[tuple[str, str]]:
    """Which words stand in which files below a folder."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        (word, str(path.relative_to(folder)))
        for path, content in contents.items()
        for word in words
        for form in forms(word)
        if form in content or word in path.name
    }


def send_to_both(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.sendmail("circle@beta.example", [EMAIL, OTHER], SHARED)


def added(daemon: Daemon, email: str) -> Account:
    """Add an account as the command does, without its file."""
    user = UserKeys.generate()
    password = "a password of a database"
    answer = daemon.ask(
        "account.add", email=email, databasePassword=password,
        signingKey=to_base64(user.public_key), agreementKey=to_base64(user.agreement_public_key),
    )  # fmt: skip
    address = answer["address"]
    return {"address": address, "databasePassword": password, "database": userdb_name(address)}


def lived(daemon: Daemon) -> tuple[Account, Account]:
    """Two people, one of whom leaves every kind of trace."""
    answer = json.loads(daemon.command("account", "add", EMAIL, "--name", NAME, "--json").stdout)
    person: Account = json.loads(Path(answer["keyFile"]).read_text())
    other = added(daemon, OTHER)
    for number in range(5):
        daemon.send(MAIL % number, EMAIL, "secretfriend@beta.example")
    send_to_both(daemon)
    daemon.send(b"From: a@beta.example\r\nSubject: own\r\n\r\nkept\r\n", OTHER)
    draft = {"folder": "draft", "text": "draftword"}
    daemon.request("PUT", f"/{person['database']}/draft-1", person, draft)
    daemon.request("PUT", f"/{person['database']}/_local/mark", person, {"text": "localword"})
    daemon.command("handshake", "accept", EMAIL, "secretfriend@beta.example")
    daemon.wait_for(daemon.settled, "not filed")
    return person, other


def rebuilt(daemon: Daemon) -> list[int]:
    """How many documents a rebuild finds different, by view."""
    return [report["differences"] for report in json.loads(daemon.command("rebuild", "--json").stdout)]


def refused(daemon: Daemon) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.ehlo("client.example")
        client.mail("secretfriend@beta.example")
        return client.rcpt(EMAIL)


async def types_of(daemon: Daemon, address: str) -> list[str]:
    """Types of what can still be read in the streams of an account."""
    async with reading(daemon.data, "test") as stores:
        streams = [account.stream(address), f"mailbox-{address}", f"handshake-{address}"]
        records = [record for name in streams for record in await stores.log.stream(name)]
    assert any(isinstance(record.event, Erased) for record in records)
    return [type(r.event).__name__ for r in records if not isinstance(r.event, Erased)]


def unfinished(daemon: Daemon) -> bool:
    vault = Vault.open_read_only(vault_path(daemon.data), bound_vault(daemon.data / "log.sqlite"))
    assert vault is not None
    try:
        return bool(vault.unfinished())
    finally:
        vault.close()


async def test_nothing_of_an_erased_account_is_left_and_nobody_else_notices(daemon: Daemon) -> None:
    person, other = lived(daemon)
    # What is only in events and blobs was never readable; the views and the key file say the rest.
    assert {word for word, _ in found(daemon.data)} == set(WORDS) - {"attachmentword"}
    before = daemon.documents(other)
    erase = ("account", "erase", EMAIL, "--yes", "--reason", "request 17", "--json")
    answer = json.loads(daemon.command(*erase).stdout)
    assert answer["address"] == person["address"]
    assert answer["blobs"] >= 5 * 2 + 1
    assert answer["unsealed"]["records"] == 0
    for _ in range(2):  # once as the daemon left the files, once after a restart
        assert found(daemon.data, WORDS[:-1]) == set()
        assert daemon.documents(other) == before
        assert refused(daemon)[0] == 550
        with pytest.raises(urllib.error.HTTPError, match="401"):
            daemon.documents(person)
        assert daemon.stop() == 0
        daemon.start()
    assert await types_of(daemon, person["address"]) == ["AccountErased"]
    assert rebuilt(daemon) == [0, 0, 0, 0]
    assert found(daemon.data, WORDS[:-1]) == set()
    report = json.loads(daemon.command("verify", "--json").stdout)
    assert not report["damaged"]
    assert report["erasedBlobs"] == answer["blobs"]

    # The mail for both was the other's too: now it is nobody's.
    assert found(daemon.data, ["sharedword"])
    daemon.ask("account.erase", name=OTHER)
    assert found(daemon.data, ["sharedword", "remaining"]) == set()


async def interrupted(data: Path, address: str, *, event: bool, key: bool) -> None:
    """Leave what a machine leaves that stops while it erases somebody."""
    vault = Vault.open(vault_path(data), bound_vault(data / "log.sqlite"))
    vault.condemn(address)
    if event:
        codec = Codec(sealer=Envelopes(vault))
        log = SqliteLog.open(data / "log.sqlite", SystemClock(), "test", codec=codec)
        erased = AccountErased(address=address)
        await log.append(Write(account.stream(address), (erased,)), origin=Origin(actor="operator"))
        await log.close()
    if key:
        vault.destroy(address)
    vault.close()


async def test_an_erasure_that_was_interrupted_is_finished_at_the_next_start_or_never_was(
    daemon: Daemon,
) -> None:
    person, other = lived(daemon)
    third = added(daemon, "third@alpha.example")
    daemon.send(b"From: a@beta.example\r\nSubject: own\r\n\r\nkept\r\n", "third@alpha.example")
    daemon.wait_for(daemon.settled, "not filed")
    before = daemon.documents(third)
    daemon.kill()
    await interrupted(daemon.data, person["address"], event=True, key=False)
    await interrupted(daemon.data, other["address"], event=True, key=True)
    await interrupted(daemon.data, third["address"], event=False, key=False)
    daemon.start()
    daemon.wait_for(lambda: not unfinished(daemon), "the erasures are not finished")
    assert found(daemon.data, [*WORDS, "remaining"]) == set()
    assert daemon.documents(third) == before
    assert refused(daemon)[0] == 550
    assert rebuilt(daemon) == [0, 0, 0, 0]


async def test_an_account_is_erased_without_a_daemon_and_what_no_key_erases_is_named(
    stopped: Daemon,
) -> None:
    person = stopped.account(EMAIL)
    await append_openly(stopped.data, person["address"])
    untyped = stopped.command("account", "erase", EMAIL, check=False)
    assert untyped.returncode != 0
    assert found(stopped.data, ["vanishing.person"])
    answer = json.loads(stopped.command("account", "erase", EMAIL, "--yes", "--json").stdout)
    assert answer["unsealed"]["records"] == len(answer["unsealed"]["positions"]) == 1
    assert found(stopped.data, ["vanishing.person"]) == set()
    for command in (("add", EMAIL), ("erase", EMAIL, "--yes")):
        again = stopped.command("account", *command, check=False)
        assert again.returncode == 1
        assert len(again.stderr.strip().splitlines()) == 1


async def append_openly(data: Path, address: str) -> None:
    """Append a record as programs did before there were keys."""
    log = SqliteLog.open(data / "log.sqlite", SystemClock(), "older program")
    event = account.AccountDisabled(reason="by an older program")
    await log.append(Write(account.stream(address), (event,)), origin=Origin(actor="operator"))
    await log.close()


def test_a_couchdb_forgets_too(tmp_path: Path) -> None:
    (tmp_path / "couchdb").mkdir()
    with couchdb_server(tmp_path / "couchdb") as url, running(tmp_path, **{"couchdb.url": url}) as daemon:
        person, other = lived(daemon)
        answer = daemon.ask("account.erase", name=EMAIL)
        assert answer["behind"] == []
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urlopen(f"{url}/{person['database']}", timeout=30)
        for database, kept in (("accounts", other["address"]), ("emails", OTHER)):
            with urlopen(f"{url}/{database}/_all_docs", timeout=30) as response:
                ids = {row["id"] for row in json.loads(response.read())["rows"]}
            assert ids == {kept}
