"""A node's HTTP door on a real core, its users, and a client that holds every answer against the table."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy

from events.mail import Recipient
from node.accounts import Registration
from node.api.app import ROUTES, SERVER, build_app
from node.api.route import Refused, Route, TokenRefusal
from node.core import Core
from node.crypto.base64_text import to_base64
from node.crypto.keys import UserKeys
from node.settings import HttpSettings, NodeSettings, Settings
from node.smtp.door import SmtpDoor
from node.smtp.ports import SessionFacts

DOMAIN = "alpha.example"
FACTS = SessionFacts(
    session="s", client="192.0.2.1", helo="mx.beta.example", esmtp=True, tls="", smtputf8=False
)
PASSWORD = "correct horse battery staple"
GENEROUS: dict[str, Any] = {"requests_per_second": 1000.0, "request_burst": 1000}

MAIL = (
    "From: Friend <friend@beta.example>\r\nTo: {to}\r\nSubject: {subject}\r\n"
    "Message-ID: <{subject}@beta.example>\r\nDate: Fri, 8 Jul 2022 04:01:07 +0000\r\n\r\nHello\r\n"
)


@dataclass
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class User:
    email: str
    keys: UserKeys = field(default_factory=UserKeys.generate)
    token: str = ""

    @property
    def address(self) -> str:
        return self.keys.address

    def proof(self, nonce: str, **changes: Any) -> dict[str, Any]:
        """The body of a login; `changes` bend it."""
        return {
            "email": self.email,
            "mailioAddress": self.address,
            "nonce": nonce,
            "ed25519SigningPublicKeyBase64": to_base64(self.keys.public_key),
            "signatureBase64": to_base64(self.keys.sign(nonce.encode())),
            **changes,
        }

    def registration(self, nonce: str, **changes: Any) -> dict[str, Any]:
        agreement = to_base64(self.keys.agreement_public_key)
        body = self.proof(nonce) | {"databasePassword": PASSWORD, "x25519PublicKeyBase64": agreement}
        return body | changes


class Node:
    """A running node and a client of it."""

    def __init__(self, core: Core, smtp: SmtpDoor, client: TestClient[Any, Any]) -> None:
        self.core = core
        self.smtp = smtp
        self.http = client
        self.routes: list[Route] = client.server.app[ROUTES]  # type: ignore[attr-defined]

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: Any = None,
        raw: bytes = b"",
    ) -> Answer:
        """Ask, and hold the answer against the route's declaration."""
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = token
        options: dict[str, Any] = {"json": body} if body is not None else {}
        if raw:
            options = {"data": raw}
            sent.setdefault("Content-Type", "application/json")
        async with self.http.request(method, path, headers=sent, **options) as response:
            answer = Answer(response.status, response.headers, await response.read())
        if (route := self.route_of(method, path)) is not None:
            conforms(route, answer)
        return answer

    async def get(self, path: str, token: str = "", **headers: str) -> Answer:
        return await self.call("GET", path, token=token, headers=headers)

    def route_of(self, method: str, path: str) -> Route | None:
        """The declaration behind a path; fixed segments win over parameters, as in the router."""
        plain = path.partition("?")[0]
        found = [
            (declared.count("{"), route)
            for route in self.routes
            for declared in route.paths
            if route.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", declared), plain)
        ]
        return min(found, key=lambda pair: pair[0])[1] if found else None

    # Users

    async def nonce(self) -> str:
        answer = await self.get("/api/v1/nonce")
        assert answer.status == 200, answer
        nonce: str = answer.json["nonce"]
        return nonce

    async def user(self, name: str) -> User:
        """A user with an account and a token, opened without HTTP: no rate is used up."""
        user = User(f"{name}@{DOMAIN}")
        registration = Registration(
            email=user.email,
            signing_key=user.keys.public_key,
            agreement_key=user.keys.agreement_public_key,
            database_password=PASSWORD,
        )
        await self.core.accounts.open(registration, "test")
        user.token = self.token(user, f"login of {name}")
        return user

    def token(self, user: User, answered: str) -> str:
        return self.core.accounts.issue_token(user.address, user.keys.public_key, answered)

    async def deliver(self, user: User, subject: str = "hello", raw: bytes = b"") -> str:
        """File a mail; return its document's id."""
        before = await self.core.views.stores["userdb"].update_seq(database(user))
        raw = raw or MAIL.format(to=user.email, subject=subject).encode()
        recipients = [Recipient(user.address, user.email)]
        await self.core.acceptance.accept(FACTS, "friend@beta.example", recipients, raw)
        await self.settled()
        documents = await self.core.views.stores["userdb"].documents_since(database(user), before)
        return documents[-1].id

    async def settled(self) -> None:
        """Wait until everything in the log is worked off and shown."""
        head = -1
        while head != self.core.log.head:
            head = self.core.log.head
            await self.core.dispatcher.reached(head)
            await asyncio.gather(*(self.core.views.reached(view, head) for view in self.core.views.runners))


def database(user: User) -> str:
    return "userdb-" + user.address.encode().hex()


def conforms(route: Route, answer: Answer) -> None:
    """The answer is one that the declaration allows: status, content type, shape."""
    assert answer.status in route.statuses, (route.path, answer)
    declared = answer.headers["Content-Type"].partition(";")[0]
    if answer.status != route.status:
        members = answer.json
        kind = TokenRefusal if "error" in members and answer.status in route.bare_refusals else Refused
        msgspec.json.decode(answer.body, type=kind)
        assert set(members) == set(kind.__struct_encode_fields__)
        assert "code" not in members or members["code"] == answer.status
    elif route.path != "/":
        assert declared == route.content_type.partition(";")[0]
        if declared == "application/json":
            msgspec.json.decode(answer.body, type=route.answer)


def settings_for(folder: Path, node: dict[str, Any] | None = None, **http: Any) -> Settings:
    members: dict[str, Any] = {
        "data": folder,
        "email_domains": (DOMAIN,),
        "server_domain": "mio.alpha.example",
        "web_domain": DOMAIN,
        **(node or {}),
    }
    return Settings(node=NodeSettings(**members), http=HttpSettings(**{**GENEROUS, **http}))


@asynccontextmanager
async def running(settings: Settings, clock: Any = None, *, whole: bool = False) -> AsyncIterator[Node]:
    """A node whose HTTP door is open; `clock` rules the door alone, or the whole node."""
    core = Core(settings, clock if whole else None)
    smtp = SmtpDoor(
        core.acceptance, settings.smtp.limits, tls=None, hostname="mio.alpha.example", clock=core.clock
    )
    if clock is not None:
        core.clock = clock
    await core.start()
    try:
        server = TestServer(build_app(core, smtp))
        await server.start_server(**SERVER)
        async with TestClient(server) as client:
            yield Node(core, smtp, client)
    finally:
        await core.close()
