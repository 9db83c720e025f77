"""Who counts as whom: approvals of emails and whole domains, agreed frequencies, levels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.messages import Consult, Execute, Inspect
from actors.runtime.aggregate import fold
from events import mailbox
from events.consent import Consent, Level, SignupMinutes
from events.errors import Forbidden, InvalidInput, NotFound, TooFrequent
from events.handshake import RecordHandshake, Terms
from events.identity import handshake_id, web_did
from events.log.log import Origin
from events.mailbox import MessageFiled
from events.policy import SET_ASIDE_MOST, Folder, Reason, Standing
from node.core import Core
from node.levels import minimum_level, set_minimum_level
from node.settings import HandshakeSettings, NodeSettings, Settings
from tests.integration.core.test_acceptance import FACTS, OWNER, Node, mail

SHOP = "orders@shop.example"
FRIEND_ADDRESS = "0x" + "f" * 40
FRIEND = str(web_did("mio.beta.example", FRIEND_ADDRESS))


class Owner(Node):
    """A node's owner who says things in their book."""

    async def terms(self, sender: str, status: str = "accepted", **more: Any) -> Terms:
        created = more.pop("created", 1)
        terms = Terms(id=handshake_id(self.address, sender), status=status, created=created, **more)
        command = Execute(RecordHandshake(terms), Origin(actor="test"))
        await self.core.actors.ask("handshake", self.address, command)
        return terms

    async def of(self, sender: str, did: bool = False) -> Consent:
        consent = await self.core.actors.ask("handshake", self.address, Consult(sender, did))
        assert isinstance(consent, Consent)
        return consent

    async def standing(self, sender: str, did: bool = False) -> Standing:
        return (await self.of(sender, did)).standing

    async def send(self, author: str) -> MessageFiled:
        await self.accept(mail(author), sender=author)
        return (await self.filed())[-1]


async def opened(settings: Settings) -> Owner:
    core = Core(settings)
    await core.start()
    owner = Owner(core, "")
    owner.address = (await owner.account(OWNER)).address
    return owner


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    handshakes = HandshakeSettings(signup_minutes=SignupMinutes(promotion=60))
    return Settings(node=NodeSettings(data=tmp_path / "data"), handshakes=handshakes)


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Owner]:
    owner = await opened(settings)
    yield owner
    await owner.core.close()


# Whole domains


SAME_DOMAIN = [
    SHOP,
    "other@shop.example",
    "Orders@SHOP.Example",
    "orders@shop.example.",
    '"quoted @ local"@shop.example',
]
OTHER_DOMAINS = [
    "orders@mail.shop.example",
    "orders@shop.example.evil.example",
    "orders@evilshop.example",
    "orders@shop-example",
    "orders@sh\u043ep.example",  # a Cyrillic o
    "orders@xn--shp-fmc.example",
    "orders@shop.example@evil.example",
    "orders@shop\u3002example.evil.example",
    "shop.example",
    "@shop.example.evil.example",
    "orders",
    "",
    str(web_did("shop.example", FRIEND_ADDRESS)),
    str(web_did("shop.example", "x")) + "@evil.example",
    "did:web:shop.example#x@evil.example",
]


@pytest.mark.parametrize("sender", SAME_DOMAIN)
@pytest.mark.parametrize("status", [Standing.ACCEPTED, Standing.REVOKED])
async def test_a_domain_speaks_for_everybody_at_it_however_it_is_written(
    owner: Owner, sender: str, status: Standing
) -> None:
    await owner.terms("@shop.example", status.value, type="server", origin_domain="shop.example")
    consent = await owner.of(sender)
    assert (consent.standing, consent.whole_domain) == (status, True)


@pytest.mark.parametrize("sender", OTHER_DOMAINS)
async def test_what_only_looks_like_the_domain_is_another(owner: Owner, sender: str) -> None:
    await owner.terms("@shop.example")
    assert await owner.standing(sender) is Standing.UNKNOWN


async def test_a_name_of_any_length_does_not_get_around_a_revoked_domain(owner: Owner) -> None:
    await owner.terms("@shop.example", "revoked")
    for length in (60, 300, 5_000):
        assert await owner.standing("x" * length + "@shop.example") is Standing.REVOKED


async def test_a_domain_in_another_script_is_approved_in_either_form(owner: Owner) -> None:
    await owner.terms("@xn--bcher-kva.example")
    for sender in ("a@b\u00fccher.example", "a@B\u00dcCHER.example", "a@xn--bcher-kva.example"):
        assert await owner.standing(sender) is Standing.ACCEPTED
    assert await owner.standing("a@bucher.example") is Standing.UNKNOWN


async def test_a_person_beats_their_domain_either_way(owner: Owner) -> None:
    await owner.terms("@shop.example", "revoked")
    await owner.terms(SHOP, "accepted")
    assert await owner.standing(SHOP) is Standing.ACCEPTED
    assert await owner.standing("other@shop.example") is Standing.REVOKED
    await owner.terms("@shop.example", "accepted", created=2)
    await owner.terms(SHOP, "revoked", created=2)
    assert await owner.standing(SHOP) is Standing.REVOKED
    assert await owner.standing("other@shop.example") is Standing.ACCEPTED


async def test_one_author_of_a_revoked_domain_is_enough(owner: Owner) -> None:
    await owner.terms("friend@beta.example")
    await owner.terms("@shop.example", "revoked")
    authors = b"friend@beta.example, orders@shop.example"
    with pytest.raises(Forbidden):
        await owner.accept(mail().replace(b"friend@beta.example", authors))


async def test_nobody_gets_a_domain_by_writing_its_name_for_their_own(owner: Owner) -> None:
    """The id of a domain's entry is made of `@` and the domain; no sender bears such a name."""
    await owner.terms("@shop.example")
    for name in ("@shop.example", "<@shop.example>", " @shop.example", "a@b@shop.example"):
        consent = await owner.of(name)
        assert consent.standing is not Standing.ACCEPTED or consent.whole_domain


# Emails


@pytest.mark.parametrize("written", ["Pest@Spam.example", "PEST@SPAM.EXAMPLE", "pest@spam.example."])
async def test_a_revoked_sender_does_not_come_back_in_other_letters(owner: Owner, written: str) -> None:
    await owner.terms("pest@spam.example", "revoked")
    with pytest.raises(Forbidden):
        await owner.admit(sender=written)


async def test_a_revocation_by_email_hash_beats_an_acceptance_by_name(owner: Owner) -> None:
    email_hash = await owner.core.hasher.hash("two@beta.example")
    await owner.terms("two@beta.example", "accepted")
    await owner.terms(email_hash, "revoked", by_email_hash=True, sender_email_hash=email_hash)
    assert await owner.standing("two@beta.example") is Standing.REVOKED


async def test_a_sender_that_is_no_email_does_not_stop_a_book_with_hashes(owner: Owner) -> None:
    await owner.terms("x", "accepted", by_email_hash=True)
    for odd in ("no at sign", "\ud800@x.example", "a@" + "b" * 300, "did:", "did:web:"):
        assert await owner.standing(odd) is Standing.UNKNOWN


# DIDs


async def test_a_friend_counts_only_at_the_server_that_the_owner_named(owner: Owner) -> None:
    await owner.terms(FRIEND)
    assert await owner.standing(FRIEND, did=True) is Standing.ACCEPTED
    assert await owner.standing(FRIEND.replace("mio.beta", "MIO.Beta"), did=True) is Standing.ACCEPTED
    for server in ("mio.evil.example", "mio.beta.example.evil.example", "beta.example"):
        assert await owner.standing(str(web_did(server, FRIEND_ADDRESS)), did=True) is Standing.UNKNOWN


async def test_a_mail_that_has_a_did_for_its_author_is_not_that_friend(owner: Owner) -> None:
    """SMTP vouches for no DID: what a From header says is a text."""
    await owner.terms(FRIEND)
    await owner.terms("@mio.beta.example")
    for text in (FRIEND, f"{FRIEND}@evil.example", f"did:web:mio.beta.example:{FRIEND_ADDRESS}"):
        assert await owner.standing(text) is Standing.UNKNOWN
        raw = mail("x@evil.example").replace(b"x@evil.example", text.encode())
        await owner.accept(raw, sender="x@evil.example")
        assert (await owner.filed())[-1].standing is Standing.UNKNOWN


async def test_an_address_without_a_server_lets_nobody_in_and_shuts_out_everywhere(owner: Owner) -> None:
    """Any server may say that a user of its has this address."""
    elsewhere = str(web_did("mio.evil.example", FRIEND_ADDRESS))
    await owner.terms(FRIEND_ADDRESS)
    assert await owner.standing(elsewhere, did=True) is Standing.UNKNOWN
    await owner.terms(FRIEND_ADDRESS, "revoked")
    assert await owner.standing(elsewhere, did=True) is Standing.REVOKED


async def test_a_server_is_approved_or_shut_out_as_a_whole_like_a_domain(owner: Owner) -> None:
    await owner.terms("@mio.beta.example", "revoked")
    assert await owner.standing(FRIEND, did=True) is Standing.REVOKED
    await owner.terms(FRIEND)
    assert await owner.standing(FRIEND, did=True) is Standing.ACCEPTED


# Frequency and level


async def test_what_comes_too_early_is_set_aside_and_a_flood_is_refused(owner: Owner) -> None:
    await owner.terms(SHOP, type="signup", subtype=5, frequency_minutes=60)
    assert (await owner.send(SHOP)).reason is Reason.HANDSHAKE_ACCEPTED_UNVERIFIED
    for _ in range(SET_ASIDE_MOST):
        filed = await owner.send(SHOP)
        assert (filed.reason, filed.folder) == (Reason.FREQUENCY_EXCEEDED, Folder.OTHER)
    with pytest.raises(TooFrequent) as refused:
        await owner.admit(sender=SHOP)
    assert (refused.value.smtp, refused.value.mtp) == ("450 4.7.1", "4.8.10")
    with pytest.raises(TooFrequent):
        await owner.accept(mail(SHOP), sender="bounces@shop.example")
    assert (await owner.send("other@shop.example")).reason is Reason.FIRST_CONTACT


async def test_a_rush_that_is_filed_together_counts_once(owner: Owner) -> None:
    """All of them pass the door before any is filed; the mailbox decides them one after the other."""
    await owner.terms(SHOP, type="signup", frequency_minutes=60)
    for _ in range(5):
        await owner.accept(mail(SHOP), sender=SHOP)
    reasons = [filed.reason for filed in await owner.filed()]
    assert sorted(reasons) == [Reason.FREQUENCY_EXCEEDED] * 4 + [Reason.HANDSHAKE_ACCEPTED_UNVERIFIED]


async def test_the_nodes_limit_counts_where_a_signup_names_none(owner: Owner) -> None:
    await owner.terms("@promo.example", type="signup", subtype=4)
    await owner.terms("@news.example", type="signup", subtype=5)
    await owner.terms("@promo-friend.example", type="user", subtype=4)
    for sender, second in (
        ("a@promo.example", Reason.FREQUENCY_EXCEEDED),
        ("a@news.example", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED),
        ("a@promo-friend.example", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED),
    ):
        await owner.send(sender)
        assert (await owner.send(sender)).reason is second


async def test_a_domain_has_one_allowance_for_all_its_senders(owner: Owner) -> None:
    await owner.terms("@shop.example", type="signup", frequency_minutes=60)
    await owner.send(SHOP)
    assert (await owner.send("other@shop.example")).reason is Reason.FREQUENCY_EXCEEDED


async def test_the_limits_come_from_the_log_and_a_replay_gives_the_same(owner: Owner) -> None:
    await owner.terms(SHOP, type="signup", frequency_minutes=60)
    for _ in range(3):
        await owner.send(SHOP)
    live = await owner.core.actors.ask("mailbox", owner.address, Inspect())
    records = await owner.core.log.stream(mailbox.stream(owner.address))
    assert fold(mailbox.evolve, mailbox.initial(owner.address), records) == live
    assert isinstance(live, mailbox.Mailbox)
    assert [pace.set_aside for pace in live.paces.values()] == [2]


async def test_a_handshake_below_the_nodes_level_does_not_open_the_inbox(tmp_path: Path) -> None:
    handshakes = HandshakeSettings(minimum_level=Level.PROOF_OF_HUMANITY)
    owner = await opened(Settings(node=NodeSettings(data=tmp_path / "data"), handshakes=handshakes))
    try:
        for level, reason in (
            ("none", Reason.HANDSHAKE_LEVEL_TOO_LOW),
            ("recaptchaV3", Reason.HANDSHAKE_LEVEL_TOO_LOW),
            ("something new", Reason.HANDSHAKE_LEVEL_TOO_LOW),
            ("poh", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED),
            ("personal", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED),
        ):
            sender = f"{level.replace(' ', '-').lower()}@beta.example"
            await owner.terms(sender, level=level)
            assert (await owner.send(sender)).reason is reason
    finally:
        await owner.core.close()


async def test_an_owner_may_demand_more_than_the_node_and_not_less(tmp_path: Path) -> None:
    handshakes = HandshakeSettings(minimum_level=Level.RECAPTCHA)
    owner = await opened(Settings(node=NodeSettings(data=tmp_path / "data"), handshakes=handshakes))
    actors, origin = owner.core.actors, Origin(actor="test")
    try:
        await owner.terms("@beta.example", level="poh")
        await owner.terms("none@beta.example")
        for demanded, at_poh, at_none in (
            ("personal", Reason.HANDSHAKE_LEVEL_TOO_LOW, Reason.HANDSHAKE_LEVEL_TOO_LOW),
            ("poh", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED, Reason.HANDSHAKE_LEVEL_TOO_LOW),
            ("none", Reason.HANDSHAKE_ACCEPTED_UNVERIFIED, Reason.HANDSHAKE_LEVEL_TOO_LOW),
        ):
            await set_minimum_level(actors, owner.address, demanded, origin)
            assert await minimum_level(actors, owner.address) == demanded
            assert (await owner.send("poh@beta.example")).reason is at_poh
            assert (await owner.send("none@beta.example")).reason is at_none
        head = owner.core.log.head
        await set_minimum_level(actors, owner.address, "none", origin)
        assert owner.core.log.head == head, "what was so before is no event"
        with pytest.raises(InvalidInput, match="one of none, recaptchaV3, poh, personal"):
            await set_minimum_level(actors, owner.address, "friend", origin)
    finally:
        await owner.core.close()


async def test_an_owners_minimum_outlives_a_restart_and_shuts_nobody_out_who_is_revoked_or_unknown(
    settings: Settings,
) -> None:
    owner = await opened(settings)
    await owner.terms("friend@beta.example")
    await set_minimum_level(owner.core.actors, owner.address, "personal", Origin(actor="test"))
    await owner.core.close()
    again = Owner(Core(settings), owner.address)
    await again.core.start()
    try:
        assert (await again.send("friend@beta.example")).reason is Reason.HANDSHAKE_LEVEL_TOO_LOW
        assert (await again.send("stranger@beta.example")).reason is Reason.FIRST_CONTACT
    finally:
        await again.core.close()


# What a stranger can find out, and what ever leaves the node


async def test_who_is_let_in_and_who_is_unknown_cost_the_door_the_same(owner: Owner) -> None:
    """Counted, not timed: at RCPT both get 250 after the same questions; only a revocation is told, on purpose."""
    await owner.terms("friend@beta.example")
    asked: list[list[str]] = []
    real = owner.core.actors.ask

    async def count(kind: str, key: str, message: object) -> object:
        asked[-1].append(f"{kind} {type(message).__name__}")
        return await real(kind, key, message)

    owner.core.acceptance._actors.ask = count  # type: ignore[method-assign]
    for sender in ("friend@beta.example", "stranger@beta.example"):
        asked.append([])
        await owner.core.acceptance.admit(FACTS, sender, OWNER, 0)
    assert asked[0] == asked[1]


async def test_no_verdict_makes_the_node_write_to_anybody(owner: Owner) -> None:
    """Every reason that SMTP can meet, at the door and after it: nothing is ever scheduled to be sent."""
    await owner.terms("friend@beta.example")
    await owner.terms("pest@spam.example", "revoked")
    await owner.terms("asker@gamma.example", "request")
    await owner.terms(SHOP, type="signup", frequency_minutes=60)
    for author in (
        "friend@beta.example",
        "asker@gamma.example",
        SHOP,
        SHOP,
        "new@else.example",
        "new@else.example",
    ):
        await owner.send(author)
    with pytest.raises(Forbidden):
        await owner.admit(sender="pest@spam.example")
    with pytest.raises(Forbidden):
        await owner.accept(mail("pest@spam.example"))
    with pytest.raises(NotFound):
        await owner.admit("nobody@alpha.example")
    await owner.accept(mail().replace(b"friend@beta.example", FRIEND.encode()))
    await owner.filed()
    kinds = {type(record.event).__module__ for record in await owner.core.log.read(0)}
    assert kinds <= {
        "events.account",
        "events.attestation",
        "events.handshake",
        "events.mail",
        "events.mailbox",
    }
