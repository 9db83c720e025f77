"""The sync door on real parts: SQLite log, blob segments, mailbox actors, the userdb view, HTTP on loopback."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientSession, web
from yarl import URL

from actors import handshake, mailbox
from actors.handshake import HandshakeActor
from actors.mailbox import MailboxActor
from actors.messages import Execute, Inspect
from actors.runtime.activation import ActorLimits, ActorSystem
from events.errors import NotFound, Unauthenticated
from events.event import Recorded
from events.identity import userdb_name
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.log import Origin
from events.log.snapshots import SqliteSnapshots
from events.log.sqlite_log import SqliteLog
from events.mailbox import Mailbox
from node.api.app import SERVER
from node.crypto.envelope import Envelopes
from node.crypto.keys import UserKeys
from node.crypto.vault import Vault
from node.storage.local import LocalBlobs
from node.storage.sealed import SealedBlobs
from node.sync.handshakes import SignedHandshakes
from node.sync.intake import ClientWrites
from node.sync.limits import SyncLimits
from node.sync.protocol import SyncDoor, add_sync_routes, add_welcome_route
from projections.runner import Runner
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases

JS = Path(__file__).parent / "js"
TESTS = Path(__file__).parents[2]


class User(msgspec.Struct, frozen=True):
    """Somebody with an account."""

    keys: UserKeys
    password: str

    @property
    def address(self) -> str:
        return self.keys.address

    @property
    def database(self) -> str:
        return userdb_name(self.address)

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.address}:{self.password}".encode()).decode()


class Mailboxes:
    """The way to the mailbox actors."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    async def execute(self, address: str, command: object, origin: Origin) -> list[Recorded]:
        recorded: list[Recorded] = await self._system.ask(mailbox.KIND, address, Execute(command, origin))
        return recorded

    async def used(self, address: str) -> int:
        box: Mailbox = await self._system.ask(mailbox.KIND, address, Inspect())
        return box.used


class SyncNode:
    """A node with nothing but the sync door open. Use `running`."""

    def __init__(self, folder: Path, limits: SyncLimits, origins: Sequence[str], quota: int) -> None:
        self.clock = SystemClock()
        self.vault = Vault.open(folder / "vault.sqlite")
        codec = Codec(sealer=Envelopes(self.vault))
        self.log = SqliteLog.open(folder / "log.sqlite", self.clock, "test", codec=codec)
        self.blobs = SealedBlobs(LocalBlobs.open(folder / "blobs"), Envelopes(self.vault, named=True))
        self.snapshots = SqliteSnapshots(folder / "snapshots.sqlite")
        self.store = EmbeddedStore.open(folder / "userdb.sqlite")
        self.runner = Runner(UserDatabases(self.blobs), self.store, self.log)
        self.actors = self._actors()
        self.users: dict[str, User] = {}
        self.writes = ClientWrites(
            Mailboxes(self.actors),
            self.runner,
            self.blobs,
            SignedHandshakes(self._public_key),
            clock=self.clock,
            limits=limits,
            quota=quota,
        )
        self.door = SyncDoor(
            self.store,
            self.blobs,
            self.authenticate,
            self.writes,
            limits,
            origins=origins,
            node_id="6d61696c696f2d6e6f6465",
        )
        self.url = ""

    def _actors(self) -> ActorSystem:
        system = ActorSystem(ActorLimits(), self.clock)
        nobody: Any = None  # No mail comes in here, so nobody reads mails or hashes emails.
        system.register(
            mailbox.KIND,
            lambda key: MailboxActor(
                key,
                self.log,
                self.snapshots,
                reader=nobody,
                books=system,
                clock=self.clock,
                goodreads_percent=30,
            ),
        )
        system.register(
            handshake.KIND,
            lambda key: HandshakeActor(key, self.log, self.snapshots, nobody),
        )
        return system

    def add_user(self) -> User:
        """Make somebody who may log in."""
        user = User(UserKeys.generate(), secrets.token_urlsafe(12))
        self.users[user.address] = user
        return user

    async def _public_key(self, address: str) -> bytes:
        if address not in self.users:
            raise NotFound("no such account")
        return self.users[address].keys.public_key

    async def authenticate(self, request: web.Request) -> User:
        """Check `Basic <address>:<databasePassword>`."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        with suppress(binascii.Error, UnicodeDecodeError):
            name, _, password = base64.b64decode(value).decode().partition(":")
            user = self.users.get(name)
            if scheme == "Basic" and user and secrets.compare_digest(user.password, password):
                return user
        raise Unauthenticated("Name or password is incorrect.")

    def remote(self, user: User) -> str:
        """The URL that a PouchDB of this user is given, credentials included."""
        return f"{self.url.replace('://', f'://{user.address}:{user.password}@')}/{user.database}"


@asynccontextmanager
async def running(
    folder: Path, limits: SyncLimits | None = None, origins: Sequence[str] = (), quota: int = 0
) -> AsyncIterator[SyncNode]:
    """A node that serves on a free loopback port."""
    node = SyncNode(folder, limits or SyncLimits(), origins, quota)
    app = web.Application()
    add_sync_routes(app, node.door)
    add_welcome_route(app, node.door)
    server = web.AppRunner(app, shutdown_timeout=2, **SERVER)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    node.url = f"http://127.0.0.1:{server.addresses[0][1]}"
    following = asyncio.create_task(node.runner.run())
    try:
        yield node
    finally:
        await server.cleanup()
        await node.actors.drain()
        await node.runner.stop()
        await following
        await node.actors.close()
        await node.store.close()
        node.snapshots.close()
        await node.blobs.close()
        await node.log.close()


class Client:
    """Plain HTTP as one user."""

    def __init__(self, session: ClientSession, node: SyncNode, user: User) -> None:
        self.session = session
        self.base = f"{node.url}/{user.database}"
        self.headers = {"Authorization": user.authorization}

    async def ask(
        self,
        method: str,
        path: str = "",
        value: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Send a request with a JSON value or raw bytes; return status, body (JSON if it is) and headers."""
        sent = dict(self.headers) | (headers or {})
        if value is not None:
            body = json.dumps(value).encode()
            sent.setdefault("Content-Type", "application/json")
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, data=body, headers=sent) as answer:
            content = await answer.read()
            found: Any = content
            if answer.content_type == "application/json" and content:
                found = json.loads(content)
            return answer.status, found, {name.lower(): text for name, text in answer.headers.items()}

    async def put(self, document: dict[str, Any]) -> str:
        """Write a document; return its revision."""
        status, answer, _ = await self.ask("PUT", f"/{document['_id']}", document)
        assert status == 201, answer
        rev: str = answer["rev"]
        return rev

    async def get(self, path: str) -> Any:
        """Read JSON that must be there."""
        status, answer, _ = await self.ask("GET", path)
        assert status == 200, answer
        return answer


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return when a condition of this process holds, which nothing announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


async def script(name: str, *arguments: str, seconds: float = 90) -> Any:
    """Run one of the PouchDB scripts under Node.js; return what it says as JSON."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(JS / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=TESTS,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-4000:]
    return json.loads(out.decode().strip().splitlines()[-1])
