"""Nonces, e-mail hashes and passwords: single use, bounded work, equal time."""

from __future__ import annotations

import asyncio
import string
import threading
import time
from collections.abc import AsyncIterator

import pytest

from events.errors import Busy, InvalidInput, Unauthenticated
from node.crypto.email_hash import EmailHasher
from node.crypto.nonces import HANDSHAKE_LETTERS, NonceBook, nonce_body, nonce_of_body
from node.crypto.passwords import Passwords
from node.crypto.scrypt_pool import Cost, ScryptPool
from node.crypto.single_use import LIFETIME_MS, Missing, SingleUse
from tests.unit.crypto.conftest import NOW, SetClock


@pytest.fixture
async def pool() -> AsyncIterator[ScryptPool]:
    pool = ScryptPool(workers=1, queue=4)
    yield pool
    pool.close()


class CountingPool(ScryptPool):
    """The real pool, and how often it was asked."""

    asked = 0

    async def derive(self, secret: bytes, salt: bytes, cost: Cost, length: int = 32) -> bytes:
        self.asked += 1
        return await super().derive(secret, salt, cost, length)


@pytest.fixture
async def counting() -> AsyncIterator[CountingPool]:
    pool = CountingPool(workers=1, queue=4)
    yield pool
    pool.close()


def test_a_nonce_is_good_once(clock: SetClock) -> None:
    book = NonceBook(clock)
    issued = book.issue()
    assert issued.created == NOW
    assert len(issued.nonce) == 64
    assert set(issued.nonce) <= set(string.ascii_letters)
    book.take(issued.nonce)
    with pytest.raises(Unauthenticated, match="nonce not found"):
        book.take(issued.nonce)


def test_a_nonce_lives_five_minutes_to_the_millisecond(clock: SetClock) -> None:
    book = NonceBook(clock)
    first, second = book.issue().nonce, book.issue().nonce
    clock.at += LIFETIME_MS
    book.take(first)
    clock.at += 1
    with pytest.raises(Unauthenticated, match="nonce expired"):
        book.take(second)
    assert len(book) == 0


@pytest.mark.parametrize("nonce", ["", "a" * 64, "_" * 64, "a" * 65, "../x", "\x00", "\u00e4" * 64])
def test_a_nonce_that_was_never_issued_is_not_found(clock: SetClock, nonce: str) -> None:
    with pytest.raises(Unauthenticated, match="nonce not found"):
        NonceBook(clock).take(nonce)


def test_a_handshake_nonce_belongs_to_its_owner_and_a_wrong_try_uses_it_up(clock: SetClock) -> None:
    book = NonceBook(clock, HANDSHAKE_LETTERS)
    nonce = book.issue("0xowner").nonce
    assert len(nonce) == 16
    with pytest.raises(Unauthenticated):
        book.take(nonce, "0xother")
    with pytest.raises(Unauthenticated):
        book.take(nonce, "0xowner")
    assert nonce_of_body(nonce_body(nonce)) == nonce


def test_nonces_do_not_repeat(clock: SetClock) -> None:
    book = NonceBook(clock, HANDSHAKE_LETTERS)
    assert len({book.issue().nonce for _ in range(2000)}) == 2000


def test_a_flood_costs_constant_memory_and_the_newest_nonce_still_works(clock: SetClock) -> None:
    book = NonceBook(clock, capacity=100)
    early = book.issue().nonce
    for _ in range(1000):
        newest = book.issue().nonce
        assert len(book) <= 100
    book.take(newest)
    with pytest.raises(Unauthenticated):
        book.take(early)


def test_expired_entries_leave_by_themselves(clock: SetClock) -> None:
    book: SingleUse[int] = SingleUse(clock, capacity=1000)
    for number in range(500):
        book.put(str(number), number)
    clock.at += LIFETIME_MS + 1
    book.put("new", 1)
    assert len(book) == 1
    assert book.take("3") is Missing.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "!",
        "e30=",
        "W10=",
        nonce_body("short"),
        nonce_body("a" * 17),
        nonce_body("1234567890123456"),
        "A" * 10_000,
    ],
)
def test_what_is_no_handshake_nonce_is_refused(body: object) -> None:
    with pytest.raises(Exception) as refused:
        nonce_of_body(body)
    assert refused.type.__module__ == "events.errors"


async def test_an_email_is_hashed_once_for_all_who_ask_together_and_then_remembered(
    counting: CountingPool,
) -> None:
    hasher = EmailHasher(counting)
    together = await asyncio.gather(*(hasher.hash(email) for email in ["a@x.example", "A@x.example"] * 10))
    assert len(set(together)) == 1
    assert await hasher.hash("a@X.example") == together[0]
    assert counting.asked == 1


async def test_the_loop_runs_on_while_an_email_is_hashed(pool: ScryptPool) -> None:
    hashing = asyncio.create_task(EmailHasher(pool).hash("a@x.example"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20


async def test_a_full_queue_answers_busy_and_recovers(pool: ScryptPool) -> None:
    hasher = EmailHasher(pool)
    outcomes = await asyncio.gather(
        *(hasher.hash(f"{n}@x.example") for n in range(12)), return_exceptions=True
    )
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 4
    assert sum(isinstance(outcome, Busy) for outcome in outcomes) == 8
    assert len(await hasher.hash("11@x.example")) == 44


async def test_a_waiter_who_gives_up_does_not_take_the_others_along(pool: ScryptPool) -> None:
    hasher = EmailHasher(pool)
    impatient, patient = (asyncio.create_task(hasher.hash("a@x.example")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert len(await patient) == 44


async def test_places_of_cancelled_work_are_given_back(pool: ScryptPool) -> None:
    for _ in range(3):
        jobs = [asyncio.create_task(pool.derive(b"x", b"y", Cost(10, 8, 1))) for _ in range(4)]
        await asyncio.sleep(0)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        while True:
            try:
                await pool.derive(b"x", b"y", Cost(4, 8, 1))
                break
            except Busy:
                await asyncio.sleep(0)


async def test_the_email_cache_is_bounded(counting: CountingPool) -> None:
    hasher = EmailHasher(counting, cache=2)
    for email in ("a@x.example", "b@x.example", "c@x.example", "b@x.example"):
        await hasher.hash(email)
    assert counting.asked == 3
    await hasher.hash("a@x.example")
    assert counting.asked == 4


@pytest.mark.parametrize("email", ["", "nobody", "a" * 300 + "@x.example"])
async def test_what_can_not_be_an_address_is_not_hashed(counting: CountingPool, email: str) -> None:
    with pytest.raises(InvalidInput):
        await EmailHasher(counting).hash(email)
    assert counting.asked == 0


async def test_a_closed_pool_answers_busy_and_leaves_no_thread() -> None:
    pool = ScryptPool(workers=1)
    await pool.derive(b"x", b"y", Cost(4, 8, 1))
    pool.close()
    with pytest.raises(Busy):
        await pool.derive(b"x", b"y", Cost(4, 8, 1))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scrypt")]


async def test_a_password_verifies_and_the_second_time_without_work(counting: CountingPool) -> None:
    passwords = Passwords(counting)
    stored = await passwords.hash("right")
    assert "right" not in stored
    assert stored != await passwords.hash("right"), "salted"
    counting.asked = 0
    for _ in range(50):
        assert await passwords.verify("0xuser", "right", stored)
    assert counting.asked == 1


async def test_what_is_remembered_is_this_user_password_and_stored_hash_only(counting: CountingPool) -> None:
    passwords = Passwords(counting)
    stored, changed = await passwords.hash("right"), await passwords.hash("new")
    assert await passwords.verify("user", "right", stored)
    assert not await passwords.verify("user", "right", changed), "a changed password ends the old one"
    assert not await passwords.verify("user", "wrong", stored)
    counting.asked = 0
    assert await passwords.verify("other", "right", stored)
    assert counting.asked == 1, "another user's success is not this one's"


async def test_failures_are_not_remembered_and_cost_the_same_for_unknown_users(
    counting: CountingPool,
) -> None:
    passwords = Passwords(counting)
    stored = await passwords.hash("right")
    counting.asked = 0
    for _ in range(2):
        assert not await passwords.verify("user", "wrong", stored)
        assert not await passwords.verify("nobody", "wrong", None)
    assert counting.asked == 4


async def test_unknown_and_known_users_take_about_the_same_time(pool: ScryptPool) -> None:
    passwords = Passwords(pool)
    stored = await passwords.hash("right")

    async def fastest(user: str, known: str | None) -> float:
        times = []
        for _ in range(4):
            begun = time.perf_counter()
            assert not await passwords.verify(user, "wrong", known)
            times.append(time.perf_counter() - begun)
        return min(times)

    known, unknown = await fastest("user", stored), await fastest("nobody", None)
    # An account that is told apart by skipping the work would be a hundred times quicker.
    assert 0.25 < known / unknown < 4


async def test_the_decoy_has_no_password(pool: ScryptPool) -> None:
    passwords = Passwords(pool)
    for guess in ("\x00", "decoy", "A" * 43 + "="):
        assert not await passwords.verify("nobody", guess, None)


@pytest.mark.parametrize("password", ["", "x" * 1025, "\ud800"])
async def test_an_impossible_password_is_refused_or_wrong(counting: CountingPool, password: str) -> None:
    passwords = Passwords(counting)
    with pytest.raises(InvalidInput):
        await passwords.hash(password)
    assert not await passwords.verify("user", password, None)
    assert counting.asked == 0


@pytest.mark.parametrize(
    "stored", ["x", "scrypt$15$8$1$AAAA", "md5$15$8$1$AAAA$" + "A" * 43 + "=", "scrypt$40$8$1$AAAA$" + "A" * 43 + "=",
               "scrypt$15$8$1$AAAA$", "scrypt$x$8$1$AAAA$AAAA", "scrypt$15$8$1$AAAA$AAAA", "scrypt$-1$8$1$AAAA$" + "A" * 43 + "="],
)  # fmt: skip
async def test_a_damaged_stored_hash_is_reported_and_never_a_success(
    counting: CountingPool, stored: str
) -> None:
    with pytest.raises(InvalidInput):
        await Passwords(counting).verify("user", "right", stored)
    assert counting.asked == 0


async def test_the_memory_of_verified_passwords_is_bounded(counting: CountingPool) -> None:
    passwords = Passwords(counting, cache=1)
    first, second = await passwords.hash("one"), await passwords.hash("two")
    counting.asked = 0
    for password, stored in (("one", first), ("two", second), ("one", first)):
        assert await passwords.verify("user", password, stored)
    assert counting.asked == 3
