"""Who has an account here? What each door tells of it, by its answer and by its time.

By design: SMTP says at RCPT whether a mailbox is there (the node never mails a stranger, so it has to), registration
says that an email is taken, and a user's DID document is public. The first is bounded by the session's error limit,
the second by the rate of costly routes and a signed challenge. Everything else answers alike for those who are here
and those who are not, and takes alike long.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

from node.smtp.limits import SmtpLimits
from tests.attacks.every_route import basic, told
from tests.attacks.wire import EHLO, MAIL, connected, rcpt
from tests.daemon import Daemon
from tests.integration.api.harness import Answer, Node, User, database


def nobody(node: Node) -> User:
    """Somebody with keys and no account."""
    return User("nobody@alpha.example")


async def medians(*asks: Callable[[], Awaitable[Answer]], times: int = 5) -> list[float]:
    """Median seconds of each request, asked in turns so that load strikes all alike."""
    taken: list[list[float]] = [[] for _ in asks]
    for _ in range(times):
        for index, ask in enumerate(asks):
            began = time.perf_counter()
            await ask()
            taken[index].append(time.perf_counter() - began)
    return [statistics.median(each) for each in taken]


def alike(one: float, other: float) -> bool:
    """Within a factor of two and five milliseconds: what a network would hide is not measured here."""
    return abs(one - other) < max(one, other) / 2 + 0.005


async def test_login_tells_nobody_without_the_key_who_is_here(node: Node, alice: User) -> None:
    forger = User(alice.email)
    answers = []
    for address in (alice.address, nobody(node).address, forger.address):
        proof = forger.proof(await node.nonce(), mailioAddress=address, signatureBase64="A" * 86 + "==")
        answers.append(await node.call("POST", "/api/v1/login", proof))
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}


async def test_login_to_the_sync_door_answers_and_takes_alike(node: Node, alice: User) -> None:
    absent = nobody(node)

    async def ask(user: User) -> Answer:
        return await node.get(f"/{database(user)}", **basic(user, "wrong"))

    here, away = await ask(alice), await ask(absent)
    assert told(here) == told(away)
    assert here.status == 401
    one, other = await medians(lambda: ask(alice), lambda: ask(absent), times=3)
    assert alike(one, other), (one, other)


async def test_finding_an_address_needs_its_hash_and_every_miss_reads_alike(node: Node, alice: User) -> None:
    entry = await node.core.directory.by_email(alice.email)
    assert entry is not None
    path = "/api/v1/findaddress?email={}&emailHash={}"
    misses = [
        await node.get(path.format(email, email_hash))
        for email, email_hash in (
            (alice.email, "wrong"),
            ("nobody@alpha.example", "wrong"),
            ("nobody@alpha.example", entry.email_hash.replace("+", "%2B")),
        )
    ]
    assert {(miss.status, miss.body) for miss in misses} == {(404, misses[0].body)}


async def test_whoever_asks_for_many_addresses_is_slowed_down(node: Node) -> None:
    asked = [await node.get(f"/api/v1/findaddress?email=u{n}@alpha.example&emailHash=x") for n in range(15)]
    assert [answer.status for answer in asked].count(429) >= 4


async def test_registration_says_that_a_name_is_taken_only_to_who_signed_a_challenge(
    node: Node, alice: User
) -> None:
    """A taken name can't be kept secret from who wants it; each try costs a challenge, and their rate is low."""
    unsigned = User(alice.email).registration("ab" * 32)
    away = User("free@alpha.example").registration("ab" * 32)
    answers = [await node.call("POST", "/api/v1/register", body) for body in (unsigned, away)]
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    taken = User(alice.email)
    answer = await node.call("POST", "/api/v1/register", taken.registration(await node.nonce()))
    assert answer.status == 409
    tries = [await node.call("POST", "/api/v1/register", unsigned) for _ in range(12)]
    assert tries[-1].status == 429


async def test_passkey_options_answer_alike_for_those_who_are_not_here(node: Node, alice: User) -> None:
    asked = [
        await node.get(f"/api/v1/webauthn/login_options?email={email}")
        for email in (alice.email, "nobody@alpha.example")
    ]
    assert len({(answer.status, len(answer.body)) for answer in asked}) == 1


def test_recipients_can_be_guessed_only_a_few_at_a_time(daemon: Daemon, victim: str) -> None:
    """The door must answer each RCPT; who guesses is sent away, and the good guess looks as it has to."""
    with connected(daemon.smtp_port) as wire:
        wire.say(EHLO, MAIL)
        guesses = 0
        while wire.say(rcpt(f"guess{guesses}@alpha.example")).startswith("550 5.1.1"):
            guesses += 1
            if guesses == SmtpLimits().errors:
                break
        assert guesses <= SmtpLimits().errors
        assert wire.rest()[-2].startswith("421 4.7.0")
    with connected(daemon.smtp_port) as wire:
        assert wire.say(EHLO, MAIL, rcpt("nobody@alpha.example")).startswith("550 5.1.1 no such mailbox here")
        assert wire.say(rcpt("nobody@other.example")).startswith("550 5.1.1 no such mailbox here")
        assert wire.say(b"VRFY " + victim.encode() + b"\r\n") == wire.say(b"VRFY nobody@alpha.example\r\n")
        assert wire.say(b"EXPN " + victim.encode() + b"\r\n").startswith("502")
