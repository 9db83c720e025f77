"""Terms of handshakes: levels, purposes, and what counts where several authors wrote one message."""

import pytest

from events.consent import Consent, Demands, Level, SignupMinutes, SignupPurpose, consent_of_all
from events.policy import Standing


def accepted(**terms: object) -> Consent:
    return Consent(standing=Standing.ACCEPTED, **terms)  # type: ignore[arg-type]


def test_levels_are_ordered_and_an_unknown_one_is_worth_nothing() -> None:
    assert [level.rank for level in Level] == [0, 1, 2, 3]
    demands = Demands(minimum_level=Level.RECAPTCHA)
    met = [demands.met_by(accepted(level=text)) for text in ("none", "new", "recaptchaV3", "poh", "personal")]
    assert met == [False, False, True, True, True]
    assert Demands().met_by(accepted(level="new"))


@pytest.mark.parametrize(
    ("terms", "minutes"),
    [
        ({"type": "signup", "subtype": 4}, 60),
        ({"type": "signup", "subtype": 4, "frequency_minutes": 5}, 5),
        ({"type": "user", "subtype": 4}, 0),
        ({"type": "user", "frequency_minutes": 5}, 5),
        ({"type": "signup", "subtype": 0}, 7),
        ({"type": "signup", "subtype": 99}, 7),
        ({"type": "signup", "subtype": 5}, 0),
    ],
)
def test_the_owners_frequency_comes_before_the_nodes(terms: dict[str, object], minutes: int) -> None:
    demands = Demands(signup_minutes=SignupMinutes(promotion=60, other=7))
    assert demands.minutes(accepted(**terms)) == minutes


def test_only_an_accepted_sender_has_a_limit() -> None:
    revoked = Consent(standing=Standing.REVOKED, frequency_minutes=5)
    assert Demands().minutes(revoked) == 0


def test_there_is_a_setting_for_each_purpose() -> None:
    assert {purpose.name.lower() for purpose in SignupPurpose} == set(SignupMinutes.__struct_fields__)


def test_of_several_accepted_authors_the_strictest_terms_count() -> None:
    one = accepted(handshake="a", level="personal", frequency_minutes=60)
    other = accepted(handshake="b", level="none", frequency_minutes=5)
    both = consent_of_all([one, other])
    assert (both.handshake, both.frequency_minutes, both.level) == ("a", 60, "none")


def test_one_author_who_is_not_accepted_decides() -> None:
    stranger, revoked = Consent(), Consent(standing=Standing.REVOKED, handshake="r")
    assert consent_of_all([accepted(), stranger]).standing is Standing.UNKNOWN
    assert consent_of_all([accepted(), stranger, revoked]).handshake == "r"
    assert consent_of_all([]) == Consent()
