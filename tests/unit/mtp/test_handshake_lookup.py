"""What a peer hears about handshakes: vectors, and the ways to learn who knows whom that must not work."""

from __future__ import annotations

from typing import Any

import pytest

from actors.messages import Disclose
from events.errors import InvalidInput, LimitExceeded
from events.handshake import Book, RecordHandshake, Terms, decide, evolve, initial
from events.identity import handshake_id, web_did
from events.log.clock import VirtualClock
from events.policy import Standing
from node.crypto.base64_text import to_base64
from node.crypto.cbor import encode
from node.crypto.handshakes import server_handshake
from node.crypto.keys import ServerKeys
from node.discovery.answers import DnsUnavailable
from node.mtp.handshake_lookup import MOST_LOOKUPS, HandshakeLookup
from projections.directory import AccountEntry
from tests.vectors.vectors import vector

PEER = "mio.alpha.example"
OWNER = "0xb229e972e494372e5c1952f0b058041669f6623a"
SENDER = "0x446f4461302935ad8387d0349b726bf7dbbc5118"
DID = str(web_did(PEER, SENDER))
KEY = "VRVPQgZepaG+oFRjgmviaE65LfksEAAnqrquV8pVQgc="
EMAIL = "ada@alpha.example"
KEYS = ServerKeys(b"\xb1" * 32, 1_760_000_000_000)


def email_hash(email: str) -> str:
    return to_base64(email.encode().ljust(32, b"."))


class World:
    """One owner, their book, and a count of every question that is asked on the way to an answer."""

    def __init__(self) -> None:
        self.book: Book = initial(OWNER)
        self.asked: list[str] = []
        self.activated: list[str] = []
        self.enabled = True
        self.servers = {"alpha.example": PEER, "beta.example": "mio.beta.example"}
        self.lookup = HandshakeLookup(
            directory=self,
            actors=self,
            hashes=self,
            domains=self,
            clock=VirtualClock(1_760_000_000_010),
            default=lambda: server_handshake(KEYS, "mio.beta.example", "none"),
        )

    def write(self, sender: str, status: str = "accepted", **more: Any) -> Terms:
        terms = Terms(
            id=handshake_id(OWNER, sender),
            status=status,
            type="user",
            origin_domain="mio.beta.example",
            created=1_760_000_000_000,
            **more,
        )
        for event in decide(self.book, RecordHandshake(terms)):
            self.book = evolve(self.book, event)
        return terms

    def _entry(self, known: bool) -> AccountEntry | None:
        if not known:
            return None
        return AccountEntry(
            address=OWNER, email="bob@beta.example", email_hash=email_hash("bob@beta.example"),
            enabled=self.enabled, signing_key=KEY, agreement_key="", password_hash="", created=0,
        )  # fmt: skip

    async def by_address(self, address: str) -> AccountEntry | None:
        self.asked.append("read")
        return self._entry(address.lower() == OWNER)

    async def by_email_hash(self, email_hash_: str) -> AccountEntry | None:
        """Two reads where there is somebody, one where there is nobody, as in the directory."""
        found = self._entry(email_hash_ == email_hash("bob@beta.example"))
        self.asked += ["read", "read"] if found else ["read"]
        return found

    async def ask(self, kind: str, key: str, message: object) -> object:
        assert isinstance(message, Disclose)
        self.asked.append(f"{kind} {len(message.ids)}")
        self.activated.append(key)
        book = self.book if key == OWNER else initial(key)
        consent = book.consent(message.ids)
        return book.entries[consent.handshake] if consent.standing is Standing.ACCEPTED else None

    async def hash(self, email: str) -> str:
        self.asked.append("hash")
        return email_hash(email)

    async def look_up(self, domain: str) -> Any:
        if domain == "broken.example":
            raise DnsUnavailable("DNS can't say")
        server = self.servers.get(domain, "")

        class Found:
            def __init__(self) -> None:
                self.server = server

            def require(self) -> object:
                return server or None

        return Found()

    async def answer(
        self, sender: str = DID, *owners: dict[str, str], default: bool = False, peer: str = PEER
    ) -> Any:
        self.asked = []
        payload = {
            "lookupHeader": {"signatureScheme": "EdDSA_X25519", "timestamp": 1},
            "handshakeLookups": list(owners or ({"address": OWNER},)),
            "returnDefaultServerHandshake": default,
            "senderAddress": sender,
        }
        return (await self.lookup.answer(peer, payload))["handshakes"]


@pytest.fixture
def world() -> World:
    return World()


async def test_the_answer_is_that_of_the_vector_to_the_byte(world: World) -> None:
    world.write(DID, sender_address=SENDER)
    request, _ = vector("mtp-handshake-request")
    _, expected = vector("mtp-handshake-response")
    answer = await world.lookup.answer(PEER, request["handshakeRequest"])
    assert encode(answer).hex() == expected["cborHex"]
    assert answer == expected["body"]["handshakeResponse"]


def test_the_default_is_the_handshake_of_the_vector() -> None:
    given, expected = vector("handshake-server-default")
    keys = ServerKeys(bytes.fromhex(given["serverSeedHex"]), int(given["content"]["created"]))
    assert server_handshake(keys, "mio.alpha.example", "none") == expected["handshake"]


async def test_a_signup_handshake_tells_its_terms(world: World) -> None:
    world.write(DID, subtype=5, frequency_minutes=60, level="poh")
    (content,) = await world.answer()
    assert (content["signupSubType"], content["signupRules"], content["level"]) == (
        5,
        {"frequencyMinutes": 60},
        "poh",
    )


@pytest.mark.parametrize("default", [False, True])
async def test_nobody_can_tell_why_there_is_no_handshake(world: World, default: bool) -> None:
    """No such owner, a stranger, a revoked and an unanswered one: one answer, after the same questions."""
    told = []
    for status, owner in (("", OWNER), ("revoked", OWNER), ("request", OWNER), ("accepted", "0x" + "1" * 40)):
        world.book = initial(OWNER)
        if status:
            world.write(DID, status)
        told.append((await world.answer(DID, {"address": owner}, default=default), world.asked))
    world.write(DID)
    world.enabled = False
    told.append((await world.answer(default=default), world.asked))
    assert all(each == told[0] for each in told)
    assert [content["type"] for content in told[0][0]] == ["server"] * default


async def test_a_handshake_that_is_there_costs_as_much_as_one_that_is_not(world: World) -> None:
    world.write(DID)
    assert await world.answer()
    here = world.asked
    assert not await world.answer(DID, {"address": "0x" + "1" * 40})
    assert world.asked == here


async def test_an_owner_by_email_hash_costs_as_much_as_none(world: World) -> None:
    world.write(DID)
    assert await world.answer(DID, {"emailHash": email_hash("bob@beta.example")})
    here = world.asked
    assert not await world.answer(DID, {"emailHash": email_hash("nobody@beta.example")})
    assert world.asked == here
    assert not await world.answer(DID, {"emailHash": "no hash"})
    assert world.asked == here


async def test_a_sender_by_email_is_hashed_whatever_the_book_holds(world: World) -> None:
    await world.answer(EMAIL)
    empty = world.asked
    world.write(email_hash(EMAIL), by_email_hash=True, sender_email_hash=email_hash(EMAIL))
    (content,) = await world.answer(EMAIL)
    assert content["senderMetadata"] == {"emailHash": email_hash(EMAIL)}
    assert world.asked == empty
    assert "hash" in empty


@pytest.mark.parametrize(
    "sender",
    [
        str(web_did("mio.beta.example", SENDER)),
        str(web_did("alpha.example", SENDER)),
        str(web_did("mio.alpha.example.evil.example", SENDER)),
        str(web_did("evil.mio.alpha.example", SENDER)),
        f"did:mailio:{SENDER}",
        f"did:web:mio.beta.example:{SENDER}",
        "carol@beta.example",
        "carol@nowhere.example",
        "carol@mail.alpha.example",
        "ada@alpha.example@beta.example",
        email_hash(EMAIL),
        "@alpha.example",
        "",
        "\x00",
    ],
)
async def test_a_peer_hears_nothing_about_senders_of_others(world: World, sender: str) -> None:
    for name in (sender, sender.lower(), SENDER, DID, f"did:web:mio.beta.example#{SENDER}", "@alpha.example"):
        world.write(name)
    told = await world.answer(sender)
    if sender:
        assert told == []
    assert [c["type"] for c in await world.answer(sender, default=True)] == ["server"]


async def test_a_domain_that_moved_to_another_server_is_that_servers(world: World) -> None:
    world.write(EMAIL)
    assert await world.answer(EMAIL)
    world.servers["alpha.example"] = "mio.beta.example"
    assert not await world.answer(EMAIL)
    assert await world.answer(EMAIL, peer="mio.beta.example")


async def test_a_fault_of_dns_is_no_answer_about_anybody(world: World) -> None:
    with pytest.raises(DnsUnavailable):
        await world.answer("ada@broken.example")
    assert world.asked == []


async def test_a_bare_address_is_the_peers_own_user(world: World) -> None:
    """What an owner says about the same address at another server, or without one, is not told."""
    world.write(SENDER)
    world.write(str(web_did("mio.beta.example", SENDER)))
    assert not await world.answer(SENDER)
    world.write(DID)
    assert [content["handshakeId"] for content in await world.answer(SENDER)] == [handshake_id(OWNER, DID)]


async def test_other_writings_of_the_same_did_are_the_same_sender(world: World) -> None:
    world.write(DID)
    for text in (
        f"did:web:MIO.Alpha.example#{SENDER.upper().replace('0X', '0x')}",
        f"did:web:{PEER}:{SENDER}",
    ):
        assert await world.answer(text), text


async def test_the_id_of_some_other_document_opens_nothing(world: World) -> None:
    theirs = world.write("carol@beta.example")
    mine = world.write(DID)
    assert not await world.answer(DID, {"id": theirs.id, "address": OWNER})
    assert not await world.answer(DID, {"id": "_design/x", "address": OWNER})
    assert await world.answer(DID, {"id": mine.id, "address": OWNER})


async def test_what_the_owner_knows_besides_is_not_told(world: World) -> None:
    world.write(DID, sender_address=SENDER, sender_email_hash=email_hash("secret@alpha.example"))
    (content,) = await world.answer()
    assert content["senderMetadata"] == {"address": SENDER}


async def test_asking_twice_for_the_same_says_it_once(world: World) -> None:
    world.write(DID)
    assert (
        len(await world.answer(DID, {"address": OWNER}, {"address": OWNER.upper().replace("0X", "0x")})) == 1
    )
    nobody = [{"address": "0x" + str(n) * 40} for n in range(3)]
    assert len(await world.answer(DID, *nobody, default=True)) == 1


async def test_books_of_nobody_are_nobodys(world: World) -> None:
    await world.answer(DID, {"address": "../../_users"}, {"emailHash": "x"})
    assert all(len(key) == 42 and key != OWNER for key in world.activated)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"senderAddress": DID},
        {"senderAddress": DID, "handshakeLookups": None},
        {"senderAddress": DID, "handshakeLookups": [{}]},
        {"senderAddress": DID, "handshakeLookups": [{"email": "bob@beta.example"}]},
        {"senderAddress": DID, "handshakeLookups": [{"address": "0x" * 1000}]},
        {"senderAddress": "x" * 10_000, "handshakeLookups": []},
        {"senderAddress": 7, "handshakeLookups": []},
    ],
)
async def test_a_malformed_request_is_refused(world: World, payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await world.lookup.answer(PEER, payload)
    assert world.asked == []


async def test_one_request_asks_about_a_bounded_number_of_owners(world: World) -> None:
    with pytest.raises(LimitExceeded):
        await world.answer(DID, *[{"address": OWNER}] * (MOST_LOOKUPS + 1))
