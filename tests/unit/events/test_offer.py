"""Handshake offers: single-use, expiring, bounded, and the same message may come twice."""

from __future__ import annotations

import contextlib
import hmac
from typing import Any

import pytest

from events import offer
from events.errors import Conflict, Forbidden, NotFound
from events.handshake import Book, decide, evolve, initial
from events.offer import (
    MOST_REMEMBERED,
    REMEMBERED_MS,
    HandshakeOffered,
    MakeOffer,
    OfferRedeemed,
    OfferWithdrawn,
    RedeemOffer,
    WithdrawOffer,
    nonce_digest,
)

OWNER = "0x" + "a" * 40
NONCE = "abcdefghijklmnop"
DIGEST = nonce_digest(OWNER, NONCE)
HOUR = 3_600_000
BOB = "did:web:mio.beta.example#0x" + "b" * 40
EVE = "did:web:mio.evil.example#0x" + "e" * 40


def make(digest: str = DIGEST, at: int = 0, most: int = 20) -> MakeOffer:
    return MakeOffer(digest, at, HOUR, most)


def redeem(
    digest: str = DIGEST, who: str = BOB, message: str = "m1", at: int = 1, **more: int
) -> RedeemOffer:
    return RedeemOffer(digest, who, message, at, **more)


def after(*commands: Any) -> Book:
    book = initial(OWNER)
    for command in commands:
        for event in decide(book, command):
            book = evolve(book, event)
    return book


def test_an_offer_is_used_once_and_the_event_names_the_message() -> None:
    assert decide(after(make()), redeem()) == [
        OfferRedeemed(digest=DIGEST, requester=BOB, message="m1", redeemed_at=1)
    ]


def test_the_same_message_delivered_again_counts_again_and_changes_nothing() -> None:
    used = after(make(), redeem())
    assert decide(used, redeem(at=2)) == []
    assert decide(used, redeem(at=2 * HOUR)) == [], "also after the offer has expired"


@pytest.mark.parametrize(
    "again",
    [
        redeem(message="m2"),
        redeem(who=EVE),
        redeem(who=EVE, message="m2"),
        redeem(digest=nonce_digest(OWNER, "qqqqqqqqqqqqqqqq")),
        redeem(digest=nonce_digest("0x" + "c" * 40, NONCE)),
        redeem(digest=""),
        redeem(digest="0" * 64),
        redeem(digest=DIGEST[:-1]),
        redeem(digest=DIGEST.upper()),
    ],
)
def test_an_offer_that_was_used_counts_for_nobody_else(again: RedeemOffer) -> None:
    with pytest.raises(Forbidden) as wrong:
        decide(after(make(), redeem()), again)
    with pytest.raises(Forbidden) as unknown:
        decide(after(), again)
    assert str(wrong.value) == str(unknown.value), "the reasons can't be told apart"


def test_an_offer_expires() -> None:
    assert decide(after(make()), redeem(at=HOUR - 1))
    with pytest.raises(Forbidden):
        decide(after(make()), redeem(at=HOUR))


def test_an_offer_from_before_a_restore_does_not_count() -> None:
    with pytest.raises(Forbidden):
        decide(after(make(at=4)), redeem(at=9, not_before=5))
    assert decide(after(make(at=5)), redeem(at=9, not_before=5))


def test_a_withdrawn_offer_is_gone() -> None:
    book = after(make(), WithdrawOffer(DIGEST[:16], 1))
    with pytest.raises(Forbidden):
        decide(book, redeem())
    with pytest.raises(NotFound):
        decide(book, WithdrawOffer(DIGEST[:16], 1))


def test_what_was_used_can_no_longer_be_withdrawn() -> None:
    with pytest.raises(NotFound):
        decide(after(make(), redeem()), WithdrawOffer(DIGEST[:16], 1))


def test_only_so_many_offers_are_open_at_a_time() -> None:
    made = [make(nonce_digest(OWNER, str(n)), n, most=3) for n in range(4)]
    with pytest.raises(Conflict):
        decide(after(*made[:3]), made[3])
    used = redeem(made[0].digest, at=3)
    assert decide(after(*made[:3], used), made[3]), "a used one makes room"
    late = make(nonce_digest(OWNER, "late"), HOUR, most=3)
    assert decide(after(*made[:3]), late), "an expired one makes room"


def test_a_book_remembers_a_bounded_number_of_offers_and_never_forgets_open_ones() -> None:
    book = after(make(at=HOUR // 2))
    for n in range(2 * MOST_REMEMBERED):
        digest = nonce_digest(OWNER, str(n))
        for command in (make(digest, HOUR // 2), redeem(digest, at=HOUR // 2 + 1)):
            for event in decide(book, command):
                book = evolve(book, event)
    assert len(book.offers) == MOST_REMEMBERED
    assert DIGEST in offer.open_offers(book.offers, HOUR)


def test_even_an_archive_full_of_offers_makes_no_larger_book() -> None:
    book = initial(OWNER)
    for n in range(2 * MOST_REMEMBERED):
        book = evolve(
            book, HandshakeOffered(digest=nonce_digest(OWNER, str(n)), offered_at=n, expires_at=HOUR)
        )
    assert len(book.offers) == MOST_REMEMBERED
    assert nonce_digest(OWNER, str(2 * MOST_REMEMBERED - 1)) in book.offers


def test_a_used_offer_is_remembered_longer_than_senders_try() -> None:
    book = after(make(), redeem(at=1), make(nonce_digest(OWNER, "x"), REMEMBERED_MS))
    assert DIGEST in book.offers
    assert DIGEST not in after(make(), redeem(at=1), make(nonce_digest(OWNER, "x"), REMEMBERED_MS + 1)).offers


def test_every_attempt_compares_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: no book, an empty one, one with many offers, a right and a wrong nonce."""
    compared: list[int] = []
    real = hmac.compare_digest

    def count(one: bytes, other: bytes) -> bool:
        compared[-1] += 1
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", count)
    many = after(make(), *(make(nonce_digest(OWNER, str(n))) for n in range(10)))
    for book, command in (
        (after(), redeem()),
        (many, redeem()),
        (many, redeem("x")),
        (after(make()), redeem("x")),
    ):
        compared.append(0)
        with contextlib.suppress(Forbidden):
            decide(book, command)
    assert compared == [MOST_REMEMBERED] * 4


def test_the_log_never_holds_a_nonce() -> None:
    events = [
        HandshakeOffered(digest=DIGEST, offered_at=0, expires_at=HOUR),
        OfferRedeemed(digest=DIGEST, requester=BOB, message="m", redeemed_at=1),
        OfferWithdrawn(digest=DIGEST),
    ]
    assert NONCE not in repr(events)
