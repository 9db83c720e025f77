"""The history of a large node, made without its doors: accounts, accepted mails, filed messages.

`python -m benchmarks.history [--events N] [--mailboxes N]` makes it and says where it is. Every mailbox is
two events, every mail two more; who gets a mail follows Zipf's law. Log, blobs and views are written by the
node's own stores, so hashes, indexes and syncs are the real ones. The same numbers give the same content; it
is kept in the temporary folder until one of the sources that write it changes.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from actors.mailbox import document_id
from events import account, mail, mailbox
from events.account import AccountOpened, EmailClaimed
from events.event import Recorded
from events.identity import mailio_address, userdb_name
from events.log.clock import VirtualClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mail import MailAccepted, Recipient
from events.mailbox import MessageFiled
from events.policy import Folder, Reason, Transport
from node.core import DISPATCHER, SOFTWARE
from node.crypto.base64_text import to_base64
from node.crypto.credentials import issue_registration_credential
from node.crypto.did_documents import ServerEndpoints, user_document
from node.crypto.envelope import Envelopes
from node.crypto.keys import ServerKeys, create_server_keys
from node.crypto.vault import Vault, vault_path
from node.storage.checkpoints import FileCheckpoints
from node.storage.local import LocalBlobs
from node.storage.sealed import SealedBlobs
from node.stores import reading
from node.views import all_views, revs_limit, store_path
from projections.rebuild import build
from projections.stores.building import BuildingStore
from tests.daemon import Daemon

DOMAIN = "alpha.example"
PASSWORD = "benchmark"
GROUP = 500
"""Mails or accounts appended together."""

RAW_MESSAGES = 1_000
"""Different raw messages: after filing nobody reads them, so mails share them."""

DOCUMENT_BYTES = 1_200
SENDERS = 20_000
TIME = 1_760_000_000_000


class Shape(msgspec.Struct, frozen=True):
    """How large the history is. `mails` is what the events leave after two for each mailbox."""

    events: int = 1_000_000
    mailboxes: int = 100_000

    @property
    def mails(self) -> int:
        """Accepted and filed mails: two events each."""
        return max(0, self.events // 2 - self.mailboxes)


LARGE = Shape()
"""The node of the aims: a million events, 100,000 mailboxes."""


def email(number: int) -> str:
    """Email of mailbox `number`."""
    return f"user{number}@{DOMAIN}"


def key(number: int) -> bytes:
    """Public signing key of mailbox `number`: 32 bytes that look like one."""
    return hashlib.sha256(b"mailbox %d" % number).digest()


def address(number: int) -> str:
    """Mailio address of mailbox `number`."""
    return mailio_address(key(number))


def credentials(number: int) -> dict[str, str]:
    """Give what a client of mailbox `number` logs in with, by the names of an account's key file."""
    owner = address(number)
    return {"address": owner, "databasePassword": PASSWORD, "database": userdb_name(owner)}


ONE = Shape(2, 1)
"""A node with one mailbox and nothing in it."""


class Zipf:
    """Numbers from 0, the small ones oftener: number k is drawn with a weight of 1 / (k + 1)."""

    def __init__(self, size: int, seed: int) -> None:
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, size + 1)))
        self._range = range(size)
        self._random = random.Random(seed)

    def draw(self, count: int) -> list[int]:
        """Draw `count` numbers."""
        return self._random.choices(self._range, cum_weights=self._weights, k=count)


def password_hash() -> str:
    """Hash `PASSWORD` at a cost of 2 ms, so that a thousand clients log in within seconds."""
    salt, log2_n = bytes(16), 10
    derived = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=1 << log2_n, r=8, p=1, dklen=32)
    return f"scrypt${log2_n}$8$1${to_base64(salt)}${to_base64(derived)}"


def opened(number: int, keys: ServerKeys, hashed: str) -> AccountOpened:
    """Open an account as the node does, documents included."""
    own = key(number)
    name = address(number)
    document = user_document(own, own, keys.address, ServerEndpoints("node.example"))
    credential = issue_registration_credential(name, "node.example", keys, TIME)
    return AccountOpened(
        address=name,
        email=email(number),
        email_hash=to_base64(hashlib.sha256(email(number).encode()).digest()),
        signing_key=to_base64(own),
        agreement_key=to_base64(own),
        did_document=msgspec.json.encode(document).decode(),
        credential=msgspec.json.encode(credential).decode(),
        password_hash=hashed,
        opened_at=TIME,
    )


def document(ident: str, sender: str, number: int) -> bytes:
    """Give the stored document of a message, of the shape and size of a short mail."""
    body = f"{number:x} " * 100
    content = {
        "didCommMessage": {
            "createdTime": TIME + number,
            "from": sender,
            "intent": "message",
            "plainBodyBase64": to_base64(body.encode())[: DOCUMENT_BYTES - 400],
            "to": [email(0)],
            "type": "application/mailio-smtp+json",
        },
        "from": sender,
        "id": ident,
        "securityStatus": "clean",
    }
    return msgspec.json.encode(content, order="sorted")


class Writer:
    """Writes a history into the stores of a data folder."""

    def __init__(self, data: Path, shape: Shape) -> None:
        self.shape = shape
        self.clock = VirtualClock(TIME, seed=1)
        self._vault = Vault.open(vault_path(data))
        codec = Codec(sealer=Envelopes(self._vault))
        self.log = SqliteLog.open(data / "log.sqlite", self.clock, SOFTWARE, codec=codec)
        self.blobs = SealedBlobs(LocalBlobs.open(data / "blobs"), Envelopes(self._vault, named=True))
        self._senders = random.Random(2)
        self._owners = Zipf(shape.mailboxes, seed=3) if shape.mailboxes else None
        self._addresses = [address(number) for number in range(shape.mailboxes)]
        self._raw: list[str] = []

    async def accounts(self, keys: ServerKeys) -> None:
        """Open all accounts."""
        # One transaction for all their keys: a node makes them one by one, over the years.
        self._vault._connection.execute("BEGIN")
        for owner in self._addresses:
            self._vault.key_of(owner)
        self._vault._connection.execute("COMMIT")
        hashed, origin = password_hash(), Origin(actor="operator")
        for numbers in _groups(self.shape.mailboxes):
            writes = []
            for number in numbers:
                one = opened(number, keys, hashed)
                claim = EmailClaimed(email=one.email, address=one.address)
                writes.append(Write(account.stream(one.address), (one,), 0))
                writes.append(Write(account.email_stream(one.email), (claim,), 0))
            await self.log.append(*writes, origin=origin)

    async def mails(self) -> None:
        """Accept and file all mails."""
        if self._owners is None:
            return
        raws = (b"Subject: %d\r\n\r\n" % number + b"x" * 500 for number in range(RAW_MESSAGES))
        self._raw = await self.blobs.write(*raws, owners=(self._addresses[0],))
        for numbers in _groups(self.shape.mails):
            owners = self._owners.draw(len(numbers))
            accepted = await self._accept(numbers, owners)
            await self._file(numbers, owners, accepted)
            self.clock.advance(100)

    async def _accept(self, numbers: Sequence[int], owners: Sequence[int]) -> list[Recorded]:
        writes = []
        for number, owner in zip(numbers, owners, strict=True):
            sender = f"friend{self._senders.randrange(SENDERS)}@beta.example"
            event = MailAccepted(
                transport=Transport.SMTP,
                blob=self._raw[number % RAW_MESSAGES],
                size=520,
                recipients=(Recipient(self._addresses[owner], email(owner)),),
                envelope_sender=sender,
                authors=(sender,),
                message_id=f"<{number}@beta.example>",
                received_at=self.clock.now(),
                client="192.0.2.17",
                helo="mx.beta.example",
            )
            writes.append(Write(mail.stream(f"{number:032x}"), (event,), 0))
        return await self.log.append(*writes, origin=Origin(actor="smtp"))

    async def _file(
        self, numbers: Sequence[int], owners: Sequence[int], accepted: Sequence[Recorded]
    ) -> None:
        names = [
            document_id(f"{number:032x}", self._addresses[owner])
            for number, owner in zip(numbers, owners, strict=True)
        ]
        bodies = [
            document(name, _sender(record), number)
            for name, record, number in zip(names, accepted, numbers, strict=True)
        ]
        sealed = [
            await self.blobs.seal(body, self._addresses[owner])
            for body, owner in zip(bodies, owners, strict=True)
        ]
        await self.blobs.keep(*sealed)
        orders = []
        for place, record in enumerate(accepted):
            owner = self._addresses[owners[place]]
            event = MessageFiled(
                id=names[place],
                mail=f"{numbers[place]:032x}",
                transport=Transport.SMTP,
                sender=_sender(record),
                folder=Folder.INBOX,
                reason=Reason.FIRST_CONTACT,
                document=sealed[place].name,
                size=len(bodies[place]),
                filed_at=self.clock.now(),
                message_id=f"<{numbers[place]}@beta.example>",
            )
            origin = Origin(actor=f"mailbox/{owner}", cause=record.metadata, answers=True)
            orders.append((Write(mailbox.stream(owner), (event,)), origin))
        await self.log.append_all(orders)

    async def close(self) -> None:
        """Finish."""
        await self.blobs.close()
        await self.log.close()
        self._vault.close()


def _sender(record: Recorded) -> str:
    assert isinstance(record.event, MailAccepted)
    return record.event.envelope_sender


def _groups(count: int) -> Iterator[range]:
    for first in range(0, count, GROUP):
        yield range(first, min(first + GROUP, count))


async def write(data: Path, shape: Shape) -> None:
    """Write a history into a new data folder, with keys and the checkpoint of finished work."""
    (data / "keys").mkdir(parents=True)
    keys = create_server_keys(data / "keys" / "server.json", TIME, hashlib.sha256(b"server").digest())
    writer = Writer(data, shape)
    await writer.accounts(keys)
    await writer.mails()
    await FileCheckpoints(data / "checkpoints.json").save(DISPATCHER, writer.log.head)
    await writer.close()
    await build_views(data)


async def build_views(data: Path) -> None:
    """Make the views of what was written."""
    async with reading(data, SOFTWARE) as stores:
        blobs = stores.open_blobs()
        for name, view in all_views(blobs).items():
            store = BuildingStore.open(store_path(data / "views", name), revs_limit(name))
            await build(view, stores.log, store, stores.log.head)
            await store.close()
        await blobs.close()


def _fingerprint() -> str:
    """Name what writes a history: its sources."""
    root = Path(__file__).parent.parent
    state = hashlib.sha256(Path(__file__).read_bytes())
    for room in ("events", "projections", "node/storage", "node/crypto"):
        for source in sorted((root / room).rglob("*.py")):
            state.update(source.read_bytes())
    return state.hexdigest()[:12]


def folder() -> Path:
    """Where histories are kept between runs."""
    return Path(tempfile.gettempdir()) / f"mailio-benchmarks-{os.getuid()}"


def history(shape: Shape = LARGE) -> Path:
    """Return a data folder with this history, made when it is not there. Copy it before you write to it."""
    home = folder()
    path = home / f"history-{shape.events}-{shape.mailboxes}-{_fingerprint()}"
    if path.exists():
        return path
    home.mkdir(mode=0o700, exist_ok=True)
    for old in home.glob(f"history-{shape.events}-{shape.mailboxes}-*"):
        shutil.rmtree(old)
    aside = path.with_suffix(".new")
    began = time.perf_counter()
    print(f"making a history of {shape.events:,} events: some minutes, once", file=sys.stderr, flush=True)
    uvloop.run(write(aside, shape))
    aside.rename(path)
    print(f"made in {time.perf_counter() - began:.0f} s: {path}", file=sys.stderr, flush=True)
    return path


@contextmanager
def node_with(shape: Shape, **settings: Any) -> Iterator[Daemon]:
    """Give a node, not started, with a copy of a history, for the length of a block."""
    source = history(shape)
    with tempfile.TemporaryDirectory(prefix="node-", dir=folder()) as parent:
        shutil.copytree(source, Path(parent) / "data", symlinks=True)
        daemon = Daemon(Path(parent), **settings)
        try:
            yield daemon
        finally:
            daemon.end()


def main() -> None:
    """Make a history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=LARGE.events)
    parser.add_argument("--mailboxes", type=int, default=LARGE.mailboxes)
    options = parser.parse_args()
    print(history(Shape(options.events, options.mailboxes)))


if __name__ == "__main__":
    main()
