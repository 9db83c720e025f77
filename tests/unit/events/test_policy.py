"""The consent policy, rule by rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.policy import SET_ASIDE_MOST, Case, Folder, Reason, Standing, Transport, Verdict, judge


def case(**facts: object) -> Case:
    defaults: dict[str, object] = {"transport": Transport.SMTP, "answered": True, "quota": 1000}
    return Case(**{**defaults, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "reason", "folder"),
    [
        ({"standing": Standing.ACCEPTED, "authenticated": True}, Reason.HANDSHAKE_ACCEPTED, Folder.INBOX),
        ({"standing": Standing.ACCEPTED}, Reason.HANDSHAKE_ACCEPTED_UNVERIFIED, Folder.INBOX),
        ({"standing": Standing.REVOKED}, Reason.SENDER_REVOKED, Folder.SPAM),
        ({"standing": Standing.REQUEST, "received": 9}, Reason.HANDSHAKE_REQUESTED, Folder.HANDSHAKE),
        (
            {"standing": Standing.ACCEPTED, "authenticated": False},
            Reason.HANDSHAKE_NOT_AUTHENTIC,
            Folder.OTHER,
        ),
        (
            {"standing": Standing.ACCEPTED, "level_met": False},
            Reason.HANDSHAKE_LEVEL_TOO_LOW,
            Folder.HANDSHAKE,
        ),
        (
            {"standing": Standing.ACCEPTED, "frequency_minutes": 60, "quiet_ms": 3_599_999},
            Reason.FREQUENCY_EXCEEDED,
            Folder.OTHER,
        ),
        (
            {"standing": Standing.ACCEPTED, "frequency_minutes": 60, "quiet_ms": 3_600_000},
            Reason.HANDSHAKE_ACCEPTED_UNVERIFIED,
            Folder.INBOX,
        ),
        (
            {"standing": Standing.ACCEPTED, "frequency_minutes": 60},
            Reason.HANDSHAKE_ACCEPTED_UNVERIFIED,
            Folder.INBOX,
        ),
        (
            {"standing": Standing.ACCEPTED, "frequency_minutes": 60, "quiet_ms": -1},
            Reason.HANDSHAKE_ACCEPTED_UNVERIFIED,
            Folder.INBOX,
        ),
        ({"spam": True, "standing": Standing.ACCEPTED}, Reason.SPAM_VERDICT, Folder.SPAM),
        ({"own": True, "received": 9}, Reason.OWN_MESSAGE, Folder.INBOX),
        ({"sent": 1, "received": 9}, Reason.CORRESPONDENT, Folder.INBOX),
        ({}, Reason.FIRST_CONTACT, Folder.INBOX),
        ({"received": 3, "interest": 1}, Reason.OFTEN_READ, Folder.GOODREADS),
        ({"received": 4, "interest": 1}, Reason.SELDOM_READ, Folder.OTHER),
        ({"received": 1}, Reason.SELDOM_READ, Folder.OTHER),
    ],
)
def test_each_rule_files_with_its_own_reason(facts: dict[str, Any], reason: Reason, folder: Folder) -> None:
    assert judge(case(**facts)) == Verdict(reason, folder)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"exists": False}, Reason.NO_SUCH_MAILBOX),
        ({"enabled": False}, Reason.MAILBOX_DISABLED),
        ({"standing": Standing.REVOKED}, Reason.SENDER_REVOKED),
        ({"used": 900, "size": 101}, Reason.MAILBOX_FULL),
        (
            {
                "standing": Standing.ACCEPTED,
                "frequency_minutes": 60,
                "quiet_ms": 0,
                "set_aside": SET_ASIDE_MOST,
            },
            Reason.FREQUENCY_EXCEEDED,
        ),
    ],
)
def test_a_sender_who_still_waits_is_refused_with_a_reason(facts: dict[str, Any], reason: Reason) -> None:
    verdict = judge(case(answered=False, **facts))
    assert verdict.refused
    assert verdict.reason is reason


def test_a_mailbox_takes_a_message_that_fits_to_the_byte() -> None:
    assert not judge(case(answered=False, used=900, size=100)).refused


CASES = st.fixed_dictionaries(
    {
        "answered": st.booleans(),
        "exists": st.booleans(),
        "enabled": st.booleans(),
        "standing": st.sampled_from(Standing),
        "authenticated": st.sampled_from([None, True, False]),
        "spam": st.booleans(),
        "own": st.booleans(),
        "used": st.integers(0, 2000),
        "sent": st.integers(0, 2),
        "received": st.integers(0, 9),
        "interest": st.integers(0, 9),
        "level_met": st.booleans(),
        "frequency_minutes": st.sampled_from([0, 60]),
        "quiet_ms": st.none() | st.integers(-1, 4_000_000),
        "set_aside": st.integers(0, 12),
    }
)


@given(CASES)
def test_every_transport_gets_the_same_verdict(facts: dict[str, Any]) -> None:
    verdicts = {judge(case(transport=transport, **facts)) for transport in Transport}
    assert len(verdicts) == 1


@given(CASES)
def test_an_inbox_opened_by_a_handshake_means_that_all_its_terms_are_met(facts: dict[str, Any]) -> None:
    verdict = judge(case(**facts))
    if verdict.reason in {Reason.HANDSHAKE_ACCEPTED, Reason.HANDSHAKE_ACCEPTED_UNVERIFIED}:
        assert facts["standing"] is Standing.ACCEPTED
        assert facts["authenticated"] is not False
        assert facts["level_met"]
        in_time = (
            facts["quiet_ms"] is None or not 0 <= facts["quiet_ms"] < facts["frequency_minutes"] * 60_000
        )
        assert in_time
        assert (verdict.reason is Reason.HANDSHAKE_ACCEPTED) == (facts["authenticated"] is True)


@given(CASES)
def test_what_was_taken_responsibility_for_is_never_refused(facts: dict[str, Any]) -> None:
    assert not judge(case(**facts | {"answered": True})).refused


@given(
    exists=st.booleans(),
    enabled=st.booleans(),
    standing=st.sampled_from(Standing),
    spam=st.booleans(),
    used=st.integers(0, 2000),
    received=st.integers(0, 50),
)
def test_what_was_accepted_is_always_filed(**facts: object) -> None:
    assert judge(case(answered=True, **facts)).folder is not None


@given(
    authenticated=st.sampled_from([None, True, False]),
    own=st.booleans(),
    sent=st.integers(0, 5),
    received=st.integers(0, 5),
)
def test_a_revoked_sender_never_reaches_the_inbox(**facts: object) -> None:
    assert judge(case(standing=Standing.REVOKED, **facts)).folder is Folder.SPAM
