"""The account aggregate."""

import pytest

from events.account import (
    Account,
    AccountDisabled,
    AccountOpened,
    AddPasskey,
    ChangeProfile,
    DisableAccount,
    EnableAccount,
    OpenAccount,
    Passkey,
    RevokeToken,
    UsePasskey,
    decide,
    email_stream,
    evolve,
    initial,
)
from events.errors import Conflict, Forbidden, InvalidInput, NotFound

OPENED = AccountOpened(
    address="0xa", email="a@x.example", email_hash="h", signing_key="k", agreement_key="k",
    did_document="{}", credential="{}", password_hash="p", opened_at=1,
)  # fmt: skip
PASSKEY = Passkey(id="pk", public_key="k", sign_count=5)


def after(*commands: object) -> Account:
    state = initial("0xa")
    for command in commands:
        for event in decide(state, command):  # type: ignore[arg-type]
            state = evolve(state, event)
    return state


def test_an_opened_account_is_enabled() -> None:
    assert after(OpenAccount(opened=OPENED)).enabled


def test_an_account_is_opened_once() -> None:
    with pytest.raises(Conflict):
        decide(after(OpenAccount(opened=OPENED)), OpenAccount(opened=OPENED))


def test_nothing_can_be_done_to_an_account_that_nobody_opened() -> None:
    with pytest.raises(NotFound):
        decide(after(), DisableAccount())


def test_disabling_twice_is_one_event() -> None:
    state = after(OpenAccount(opened=OPENED))
    assert decide(state, DisableAccount("why")) == [AccountDisabled(reason="why")]
    assert decide(after(OpenAccount(opened=OPENED), DisableAccount()), DisableAccount()) == []


def test_a_disabled_account_can_be_enabled_again() -> None:
    assert after(OpenAccount(opened=OPENED), DisableAccount(), EnableAccount()).enabled


def test_a_passkey_counter_must_grow() -> None:
    state = after(OpenAccount(opened=OPENED, passkey=PASSKEY), UsePasskey("pk", 6))
    assert state.passkeys["pk"].sign_count == 6
    with pytest.raises(Forbidden):
        decide(state, UsePasskey("pk", 6))


def test_a_passkey_without_a_counter_may_be_used_again() -> None:
    silent = Passkey(id="pk", public_key="k", sign_count=0)
    state = after(OpenAccount(opened=OPENED, passkey=silent), UsePasskey("pk", 0))
    assert len(decide(state, UsePasskey("pk", 0))) == 1


def test_a_passkey_is_added_once() -> None:
    with pytest.raises(Conflict):
        decide(after(OpenAccount(opened=OPENED, passkey=PASSKEY)), AddPasskey(PASSKEY))


def test_a_profile_has_only_known_members_of_bounded_length() -> None:
    state = after(OpenAccount(opened=OPENED))
    with pytest.raises(InvalidInput):
        decide(state, ChangeProfile({"enabled": "true"}, {}, 1))
    with pytest.raises(InvalidInput):
        decide(state, ChangeProfile({"phone": "1" * 5000}, {}, 1))


def test_empty_texts_leave_a_profile() -> None:
    state = after(OpenAccount(opened=OPENED), ChangeProfile({"phone": "", "company": "M"}, {}, 1))
    assert state.profile == {"company": "M"}


def test_a_revoked_token_stays_revoked_and_an_expired_one_is_no_event() -> None:
    state = after(OpenAccount(opened=OPENED), RevokeToken("t", 100, 50))
    assert "t" in state.revoked
    assert decide(state, RevokeToken("t", 100, 50)) == []
    assert decide(state, RevokeToken("old", 40, 50)) == []


def test_two_emails_have_two_streams() -> None:
    assert email_stream("a@x.example") != email_stream("b@x.example")
