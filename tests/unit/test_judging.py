"""What an answer means, and how long a peer may ask us to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.attempt import Cause, Verdict
from node.discovery.answers import DnsUnavailable
from node.discovery.documents import Doubt, InvalidDocument
from node.discovery.fetch import Fetched, FetchFailed
from node.discovery.targets import FetchRefused, Refusal
from node.mtp.judging import MAX_ASKED_MS, TEXT, asked_pause, of_error, of_status

NOW = 1_760_000_000_000


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("120", 120_000),
        ("", 0),
        ("-5", 0),
        ("1e9", 0),
        ("99999999999999999999", MAX_ASKED_MS),
        ("Thu, 09 Oct 2025 08:54:20 GMT", 60_000),
        ("Thu, 09 Oct 2020 08:54:20 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_ASKED_MS),
        ("soon", 0),
        ("\u0663", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_longer_than_a_week(text: str, pause: int) -> None:
    assert asked_pause(text, NOW) == pause


@given(st.text(max_size=60))
def test_no_header_breaks_the_sender(text: str) -> None:
    assert 0 <= asked_pause(text, NOW) <= MAX_ASKED_MS


@given(st.integers(300, 999), st.binary(max_size=300), st.text(max_size=20))
def test_every_status_has_a_judgement_with_a_printable_text(status: int, body: bytes, header: str) -> None:
    outcome = of_status(Fetched(status, "application/json", body, header), NOW)
    assert outcome is not None
    assert outcome.text.isprintable()
    assert len(outcome.text) <= TEXT
    assert outcome.code[0] == ("5" if outcome.verdict is Verdict.FINAL else "4")
    assert (outcome.cause is None) == (outcome.verdict is Verdict.FINAL)


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (FetchFailed("the other host can't be reached"), Cause.UNREACHABLE, "4.4.1"),
        (DnsUnavailable("DNS gave no answer"), Cause.UNREACHABLE, "4.4.3"),
        (FetchRefused(Refusal.PRIVATE), Cause.REFUSED, "4.4.4"),
        (FetchRefused(Refusal.REDIRECT), Cause.REFUSED, "4.4.4"),
        (InvalidDocument(Doubt.ELSEWHERE), Cause.REFUSED, "4.4.4"),
    ],
)
def test_what_goes_wrong_before_an_answer_is_tried_again(error: Exception, cause: Cause, code: str) -> None:
    outcome = of_error(error)  # type: ignore[arg-type]
    assert not outcome.answered, "the peer has said nothing"
    assert (outcome.verdict, outcome.cause, outcome.code) == (Verdict.LATER, cause, code)
