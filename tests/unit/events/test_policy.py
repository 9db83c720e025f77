"""The consent policy, rule by rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.policy import Case, Folder, Reason, Standing, Transport, Verdict, judge


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
    ],
)
def test_a_sender_who_still_waits_is_refused_with_a_reason(facts: dict[str, Any], reason: Reason) -> None:
    verdict = judge(case(answered=False, **facts))
    assert verdict.refused
    assert verdict.reason is reason


def test_a_mailbox_takes_a_message_that_fits_to_the_byte() -> None:
    assert not judge(case(answered=False, used=900, size=100)).refused


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("standing", list(Standing))
def test_every_transport_gets_the_same_verdict(transport: Transport, standing: Standing) -> None:
    verdict = judge(case(transport=transport, standing=standing))
    assert verdict == judge(case(transport=Transport.MTP, standing=standing))


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
