"""A year of a small node, told in a few seconds: something of every kind of event that there is.

It goes through the doors' own code, so what it leaves behind is what a real node would have written.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from events.account import (
    AddPasskey,
    DisableAccount,
    EnableAccount,
    Passkey,
    SealInbound,
    SmartKey,
    UsePasskey,
)
from events.errors import CorruptRecord
from events.identity import handshake_id, web_did
from events.log.log import Origin, Write
from events.mail import Recipient
from events.node import STREAM as NODE_STREAM
from events.node import restored
from events.peer import STREAM as PEER_STREAM
from events.peer import PeerKeyGone, PeerKeySeen
from node.accounts import Registration
from node.cli.sending import with_crlf
from node.crypto.handshakes import handshake_document, sign_handshake
from node.levels import set_minimum_level
from tests.golden.sending import Post
from tests.integration.api.harness import DOMAIN, FACTS, PASSWORD, Node, User, database
from tests.integration.archive.harness import bring_in, write_archive
from tests.integration.backup.harness import Place, accept

CORPUS = Path(__file__).parents[1] / "corpus" / "messages"
FROM_CORPUS = (
    "rfc2822-example01.eml",
    "rfc2822-example12.eml",
    "rfc6532-utf8_headers.eml",
    "multi_charset-japanese_iso_2022.eml",
    "error_emails-multiple_content_types.eml",
    "attachment_emails-attachment_nonascii_filename.eml",
)
FRIEND, PEST, ASKER = "friend@beta.example", "pest@spam.example", "asker@gamma.example"
TIME = 1_760_000_000_000
PICTURE = bytes(range(256))


def message(sender: str, subject: str, *, file: bytes = b"", html: bool = False) -> bytes:
    """A message of our own, with an attachment or in two forms where asked for."""
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = sender, f"ada@{DOMAIN}", subject
    made["Date"] = "Fri, 8 Jul 2022 04:01:07 +0000"
    made["Message-ID"] = f"<{subject.encode().hex()}@beta.example>"
    made.set_content(f"This is {subject}.\n")
    if html:
        made.add_alternative(f"<p>This is <b>{subject}</b>.</p>", subtype="html")
    if file:
        made.add_attachment(file, maintype="application", subtype="octet-stream", filename="größe.bin")
    return made.as_bytes()


class Life:
    """What happens to a node, part by part. `run` is all of it, in order."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._core = node.core
        self.ada = User(f"ada@{DOMAIN}")
        self.ben = User(f"ben@{DOMAIN}")

    async def run(self) -> None:
        """Live through it; return when all of it is worked off and shown."""
        await self._accounts()
        await self._handshakes()
        await self._mails()
        await self._devices()
        await self._folders()
        await Post(self._node, self.ada).run()
        await self._sealed()
        await self._peers()
        await self._trouble()
        await self._farewell()
        await self._arrival()
        await self._restored()
        await self._node.settled()
        await self._core.attestor.sign()

    async def _accounts(self) -> None:
        for user, name in ((self.ada, "Ada"), (self.ben, "Ben Börg")):
            registration = Registration(
                email=user.email,
                signing_key=user.keys.public_key,
                agreement_key=user.keys.agreement_public_key,
                database_password=PASSWORD,
                display_name=name,
                smart_key=SmartKey(encrypted="c2VjcmV0", password_share="c2hhcmU=", pre_rotated_key=""),
            )
            await self._core.accounts.open(registration, "operator")
            user.token = self._node.token(user, f"first login of {name}")
        passkey = Passkey(id="cGFzc2tleQ", public_key="a2V5", sign_count=1, transports=("internal",))
        for command in (AddPasskey(passkey), UsePasskey("cGFzc2tleQ", 2)):
            await self._core.accounts.execute(self.ada.address, command, f"client/{self.ada.address}")
        for change in (DisableAccount("on holiday"), EnableAccount()):
            await self._core.accounts.execute(self.ben.address, change, "operator")
        await self._core.accounts.change_password(self.ben.address, PASSWORD, "operator")
        await self._api("PUT", "/api/v1/user/me", {"displayName": "Ada Ä.", "social": {"web": "ada.example"}})
        token, self.ada.token = self.ada.token, self._node.token(self.ada, "second login")
        assert (await self._node.get("/api/v1/logout", token)).status == 200

    async def _handshakes(self) -> None:
        for sender, status in ((FRIEND, "accepted"), (PEST, "revoked"), (ASKER, "request")):
            await self._write(self._handshake(sender, status, TIME))
        written = await self._write(self._handshake("gone@beta.example", "accepted", TIME))
        await self._sync("DELETE", f"/{written['id']}?rev={written['rev']}")
        for _ in range(2):
            link = (await self._api("GET", "/api/v1/handshakeoffer"))["link"]
        await self._core.offers.redeem(self.ada.address, link.partition(":")[0], "did:web:b.example#0x", "m")
        (left,) = (await self._api("GET", "/api/v1/handshakeoffers"))["offers"]
        await self._api("DELETE", f"/api/v1/handshakeoffers/{left['id']}")
        # What an old device says changes nothing any more.
        late = self._handshake(PEST, "accepted", TIME - 1)
        await self._sync("POST", "/_bulk_docs", {"new_edits": False, "docs": [late | {"_rev": "1-late"}]})

    def _handshake(self, sender: str, status: str, at: int) -> dict[str, Any]:
        keys, identifier = self.ada.keys, handshake_id(self.ada.address, sender)
        content = {
            "handshakeId": identifier,
            "originServer": {"domain": "localhost"},
            "status": status,
            "level": "none",
            "type": "user",
            "created": at,
        }
        did = str(web_did("localhost", self.ada.address))
        return handshake_document(identifier, sign_handshake(content, keys), did, at)

    async def _mails(self) -> None:
        await self._accept(FRIEND, message(FRIEND, "as agreed", file=PICTURE))
        await self._accept(ASKER, message(ASKER, "may I?", html=True))
        for number in range(3):
            await self._accept("news@paper.example", message("news@paper.example", f"issue {number}"))
        await self._accept(FRIEND, message(FRIEND, "to both"), self.ada, self.ben)
        await self._accept("", message("mailer-daemon@beta.example", "a bounce"))
        for name in FROM_CORPUS:
            await self._accept("someone@else.example", with_crlf((CORPUS / name).read_bytes()))

    async def _accept(self, sender: str, raw: bytes, *users: User) -> None:
        to = [Recipient(user.address, user.email) for user in users or (self.ada,)]
        await self._core.acceptance.accept(FACTS, sender, to, raw)
        await self._node.settled()

    async def _devices(self) -> None:
        rows = (await self._sync("GET", "/_all_docs?include_docs=true"))["rows"]
        mails = [row["doc"] for row in rows if "reason" in row["doc"]]
        news = next(mail for mail in mails if mail["from"] == "news@paper.example")
        interest = {"sender": news["from"], "messageId": news["_id"]}
        await self._api("PUT", "/api/v1/emailstatistics/interest", interest)
        await self._write(mails[0] | {"isRead": True, "folder": "archive"})
        await self._sync("DELETE", f"/{mails[1]['_id']}?rev={mails[1]['_rev']}")
        picture = {"content_type": "image/png", "data": base64.b64encode(PICTURE).decode()}
        draft = {"_id": "draft-1", "folder": "draft", "created": TIME, "text": "Dear Ben,"}
        await self._write(draft | {"_attachments": {"picture ü.png": picture}})
        await self._conflict("contact-1")

    async def _conflict(self, name: str) -> None:
        """Two devices changed the same document while neither saw the other; a third one was deleted."""
        for ids, deleted in ((["bb", "aa"], False), (["cc", "aa"], False), (["dd", "aa"], True)):
            revisions = {"start": 2, "ids": ids}
            document = {"_id": name, "_rev": f"2-{ids[0]}", "_revisions": revisions, "by": ids[0]}
            await self._sync(
                "POST", "/_bulk_docs", {"new_edits": False, "docs": [document | {"_deleted": deleted}]}
            )

    async def _folders(self) -> None:
        family = await self._api("POST", "/api/v1/folder", {"name": "Family"})
        gone = await self._api("POST", "/api/v1/folder", {"name": "Short-lived"})
        await self._api("PUT", "/api/v1/folder", {"id": family["id"], "name": "Family & friends"})
        await self._api("DELETE", f"/api/v1/folder/{gone['id']}")
        await self._write({"_id": "moved", "folder": family["id"], "created": TIME, "from": FRIEND})

    async def _sealed(self) -> None:
        """Ben wants his mail sealed to his key; the raw message is then nobody's any more."""
        await self._core.accounts.execute(self.ben.address, SealInbound(on=True), "operator")
        await set_minimum_level(self._core.actors, self.ben.address, "poh", Origin(actor="operator"))
        await self._accept(FRIEND, message(FRIEND, "for ben alone"), self.ben)

    async def _peers(self) -> None:
        """Another domain changes its key, as discovery tells it to the log."""
        first, second = (base64.b64encode(bytes([one]) * 32).decode() for one in (1, 2))
        found = (
            PeerKeySeen(domain="beta.example", public_key=first, at=TIME),
            PeerKeySeen(domain="beta.example", public_key=second, at=TIME + 1, validated=True),
            PeerKeyGone(domain="beta.example", public_key=first, at=TIME + 2),
        )
        await self._core.log.append(
            Write(f"{PEER_STREAM}beta.example", found), origin=Origin(actor="discovery")
        )

    async def _trouble(self) -> None:
        """Bytes that can't be read for a while: mails and a document are parked, and what follows from it."""
        with unreadable(self._node):
            for number in range(3):
                await self._accept(FRIEND, message(FRIEND, f"damaged {number}"))
            await self._sync("PUT", "/shown-later", {"n": 1})
        tried, dropped, _ = [parked.id for parked in await self._core.parking.list()]
        await self._core.parking.retry(tried)
        await self._core.parking.drop(dropped, "the sender sent it again")
        userdb = self._core.views.runners["userdb"]
        (position,) = await self._core.views.stores["userdb"].parked()
        await userdb.retry(position)

    async def _farewell(self) -> None:
        """Somebody who had mail of their own and mail in common with another is erased; the log is signed."""
        eva = User(f"eva@{DOMAIN}")
        registration = Registration(
            email=eva.email,
            signing_key=eva.keys.public_key,
            agreement_key=eva.keys.agreement_public_key,
            database_password=PASSWORD,
        )
        await self._core.accounts.open(registration, "operator")
        await self._accept(FRIEND, message(FRIEND, "to eva alone"), eva)
        await self._accept(FRIEND, message(FRIEND, "to eva and ada"), eva, self.ada)
        await self._core.erasure.erase(eva.address, "she asked for it", "operator")
        await self._core.attestor.sign()

    async def _arrival(self) -> None:
        """Somebody moves in from another node, with mail that was filed there."""
        with tempfile.TemporaryDirectory() as temporary:
            other, file = Place(Path(temporary)), Path(temporary) / "cleo.tar"
            async with other.running() as there:
                await accept(there, message(FRIEND, "before the move", file=PICTURE))
            await asyncio.to_thread(write_archive, other, file)
            await bring_in(self._core, file, f"cleo@{DOMAIN}")

    async def _restored(self) -> None:
        """The node is said to have come out of a backup, as `mailio-node restore` says it."""
        log = self._core.log
        event = restored((), self._core.clock.now(), log.head, "20261128T000000Z")
        await log.append(Write(NODE_STREAM, (event,)), origin=Origin(actor="operator"))

    # The doors

    async def _api(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._node.call(method, path, body, token=self.ada.token)
        assert answer.status < 300, answer
        return answer.json

    async def _write(self, document: dict[str, Any]) -> Any:
        return await self._sync("PUT", f"/{document['_id']}", document)

    async def _sync(self, method: str, path: str, body: Any = None) -> Any:
        pair = f"{self.ada.address}:{PASSWORD}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        answer = await self._node.call(method, f"/{database(self.ada)}{path}", body, headers=headers)
        assert answer.status < 300, answer
        return json.loads(answer.body)


@contextmanager
def unreadable(node: Node) -> Iterator[None]:
    """No blob can be read for the length of the block, as on a disk with a bad sector."""
    blobs = node.core.blobs

    async def fail(name: str) -> bytes:
        raise CorruptRecord("the stored content is damaged", name)

    blobs.read = fail  # type: ignore[method-assign]
    try:
        yield
    finally:
        del blobs.read
