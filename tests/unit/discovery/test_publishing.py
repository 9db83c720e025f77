"""What a node's domains must publish, and how DNS differs from it."""

from __future__ import annotations

import pytest

from node.crypto.keys import ServerKeys
from node.discovery.answers import Answer, Kind, Outcome
from node.discovery.publishing import OwnNames, State, Wanted, compare, wanted_records, zone_lines
from node.discovery.record import record_text

KEY = ServerKeys(b"\x01" * 32, 0).public_key
OTHER = record_text(ServerKeys(b"\x02" * 32, 0).public_key)
TEXT = record_text(KEY)


def own(server: str = "mio.alpha.example", *domains: str, mail_host: str = "") -> OwnNames:
    return OwnNames(server, domains or ("alpha.example",), mail_host or server, KEY)


def answer(kind: Kind, *values: str, outcome: Outcome | None = None) -> Answer:
    found = Outcome.FOUND if values else Outcome.NO_NAME
    return Answer(
        name="x",
        kind=kind,
        outcome=outcome or found,
        values=values,
        ttl=60,
        reason="SERVFAIL" * (outcome is Outcome.FAILED),
    )


def test_a_server_below_its_email_domain_needs_four_records() -> None:
    assert zone_lines(own()) == [
        "; mio.alpha.example.\t3600\tIN\tA\t<address of this host>",
        f'mailio._mailiokey.mio.alpha.example.\t3600\tIN\tTXT\t"{TEXT}"',
        "mio.alpha.example.\t3600\tIN\tMX\t0 .",
        "alpha.example.\t3600\tIN\tMX\t10 mio.alpha.example.",
    ]


def test_one_name_for_everything_needs_three() -> None:
    assert zone_lines(own("alpha.example", "alpha.example")) == [
        "; alpha.example.\t3600\tIN\tA\t<address of this host>",
        f'mailio._mailiokey.alpha.example.\t3600\tIN\tTXT\t"{TEXT}"',
        "alpha.example.\t3600\tIN\tMX\t10 alpha.example.",
    ]


def test_an_email_domain_elsewhere_is_led_to_the_server() -> None:
    lines = zone_lines(own("node.host.example", "alpha.example", mail_host="mx.host.example"))
    assert "; mx.host.example.\t3600\tIN\tA\t<address of this host>" in lines
    assert lines[-3:] == [
        "alpha.example.\t3600\tIN\tMX\t10 mx.host.example.",
        "mio.alpha.example.\t3600\tIN\tCNAME\tnode.host.example.",
        f'mailio._mailiokey.mio.alpha.example.\t3600\tIN\tTXT\t"{TEXT}"',
    ]


@pytest.mark.parametrize(
    ("server", "forbidden"),
    [
        ("mio.alpha.example", ["alpha.example"]),
        ("mailio.alpha.example", ["alpha.example", "mio.alpha.example"]),
        ("node.host.example", ["alpha.example"]),
        ("alpha.example", []),
    ],
)
def test_no_name_that_is_asked_earlier_may_have_a_key(server: str, forbidden: list[str]) -> None:
    found = [one.name for one in wanted_records(own(server)) if one.forbidden]
    assert found == [f"mailio._mailiokey.{name}" for name in forbidden]


MX = Wanted("alpha.example", "MX", "10 mio.alpha.example", "")
NULL = Wanted("mio.alpha.example", "MX", "0 .", "")
TXT = Wanted("mailio._mailiokey.mio.alpha.example", "TXT", TEXT, "")
NONE = Wanted("mailio._mailiokey.alpha.example", "TXT", "", "", forbidden=True)
ADDRESS = Wanted("mio.alpha.example", "A", "", "")


@pytest.mark.parametrize(
    ("wanted", "published", "state"),
    [
        (MX, ["10 mio.alpha.example"], State.FINE),
        (MX, ["5 mio.alpha.example"], State.FINE),
        (MX, [], State.MISSING),
        (MX, ["10 mx.old.example"], State.DIFFERENT),
        (MX, ["0 ."], State.DIFFERENT),
        (MX, ["10 mio.alpha.example", "10 mx.old.example"], State.EXTRA),
        (MX, ["10 mio.alpha.example", "5 mx.old.example"], State.EXTRA),
        (MX, ["10 mio.alpha.example", "20 backup.example"], State.FINE),
        (NULL, ["0 ."], State.FINE),
        (NULL, ["10 mx.alpha.example"], State.FINE),
        (NULL, [], State.MISSING),
        (TXT, [TEXT], State.FINE),
        (TXT, [TEXT, "google-site-verification=x"], State.FINE),
        (TXT, ["google-site-verification=x"], State.MISSING),
        (TXT, [], State.MISSING),
        (TXT, [OTHER], State.DIFFERENT),
        (TXT, [TEXT.replace("; ", ";")], State.DIFFERENT),
        (TXT, [TEXT[:-1]], State.DIFFERENT),
        (TXT, [TEXT, OTHER], State.EXTRA),
        (NONE, [], State.FINE),
        (NONE, ["v=spf1 -all"], State.FINE),
        (NONE, [TEXT], State.EXTRA),
        (ADDRESS, ["192.0.2.1"], State.FINE),
        (ADDRESS, [], State.MISSING),
    ],
)
def test_what_is_published_is_compared_with_what_is_wanted(
    wanted: Wanted, published: list[str], state: State
) -> None:
    difference = compare(wanted, answer(wanted.kind, *published))
    assert difference.state is state
    assert difference.wrong == bool(difference.advice) == (state is not State.FINE)


def test_no_answer_is_not_a_missing_record() -> None:
    difference = compare(TXT, answer("TXT", outcome=Outcome.FAILED))
    assert difference.state is State.UNKNOWN
    assert difference.advice == "DNS gave no answer (failed SERVFAIL); try again later"
