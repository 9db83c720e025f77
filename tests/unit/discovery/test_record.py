"""The Mailio TXT record: what is read, and every way in which it is refused."""

from __future__ import annotations

import pytest

from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys
from node.discovery.record import (
    Flaw,
    MailioRecord,
    MalformedRecord,
    parse_record,
    read_records,
    record_text,
    zone_line,
)
from tests.vectors.vectors import vector

KEY = ServerKeys(b"\x01" * 32, 0).public_key
OTHER = ServerKeys(b"\x02" * 32, 0).public_key
OURS = record_text(KEY)
P = f"p={to_base64(KEY)}"


@pytest.mark.parametrize(
    "text",
    [
        OURS,
        OURS.replace("; ", ";"),
        OURS.replace("; ", " ;\t "),
        f"{OURS};",
        f"{OURS}; n=later members are not ours to judge; s_2=",
        f" {OURS} ",
    ],
)
def test_a_good_record_gives_its_key(text: str) -> None:
    assert parse_record(text).public_key == KEY


def test_later_members_are_kept_for_whoever_knows_them() -> None:
    assert parse_record(f"{OURS}; n=a=b; x=") == MailioRecord(KEY, (("n", "a=b"), ("x", "")))


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", Flaw.VERSION),
        (f"v=mailio1; k=ed25519; {P}", Flaw.VERSION),
        (f"V=MAILIO1; k=ed25519; {P}", Flaw.VERSION),
        (f"v=MAILIO12; k=ed25519; {P}", Flaw.VERSION),
        (f"v = MAILIO1; k=ed25519; {P}", Flaw.VERSION),
        (f"x; {OURS}", Flaw.VERSION),
        (f"k=ed25519; v=MAILIO1; {P}", Flaw.VERSION),
        ("v=MAILIO1", Flaw.TRUNCATED),
        ("v=MAILIO1;", Flaw.TRUNCATED),
        ("v=MAILIO1; k=ed25519", Flaw.TRUNCATED),
        ("v=MAILIO1; k=ed25519;", Flaw.TRUNCATED),
        (f"v=MAILIO1; {P}; k=ed25519", Flaw.ORDER),
        (f"v=MAILIO1; K=ed25519; {P}", Flaw.ORDER),
        (f"v=MAILIO1; k=ed25519; P{P[1:]}", Flaw.ORDER),
        (f"v=MAILIO1; k=rsa; {P}", Flaw.KEY_TYPE),
        (f"v=MAILIO1; k=Ed25519; {P}", Flaw.KEY_TYPE),
        (f"v=MAILIO1; k=; {P}", Flaw.KEY_TYPE),
        ("v=MAILIO1; k=ed25519; p=", Flaw.KEY_EMPTY),
        (OURS[:-1], Flaw.KEY_ENCODING),
        (OURS[:-5], Flaw.KEY_ENCODING),
        (f"v=MAILIO1; k=ed25519; p= {to_base64(KEY)}", Flaw.KEY_ENCODING),
        (f"v=MAILIO1; k=ed25519; p={'_' * 43}=", Flaw.KEY_ENCODING),
        (f"v=MAILIO1; k=ed25519; p={to_base64(KEY[:31])}", Flaw.KEY_LENGTH),
        (f"v=MAILIO1; k=ed25519; p={to_base64(KEY + KEY)}", Flaw.KEY_LENGTH),
        (f"v=MAILIO1; k=ed25519; p={to_base64(bytes(32))}", Flaw.KEY_POINT),
        (f"v=MAILIO1; k=ed25519; p={to_base64(bytes([1]) + bytes(31))}", Flaw.KEY_POINT),
        (f"{OURS}; {P}", Flaw.TAG_TWICE),
        (f"{OURS}; K=rsa", Flaw.TAG_TWICE),
        (f"{OURS}; n=1; n=2", Flaw.TAG_TWICE),
        (f"{OURS}; words", Flaw.TAG_SYNTAX),
        (f"{OURS}; ; n=1", Flaw.TAG_SYNTAX),
        (f"{OURS}; n=\x1b[31m", Flaw.NOT_TEXT),
        (f"{OURS}; n=é", Flaw.NOT_TEXT),
        (f"{OURS}; n={'x' * 1_024}", Flaw.TOO_LONG),
    ],
)
def test_a_bad_record_is_refused_by_name(text: str, flaw: Flaw) -> None:
    with pytest.raises(MalformedRecord) as refused:
        parse_record(text)
    assert refused.value.flaw is flaw
    assert flaw in refused.value.public


def test_no_record_is_not_a_malformed_one() -> None:
    for texts in ([], ["v=spf1 -all"], [f"v=mailio1; k=ed25519; {P}"], [""]):
        assert read_records(texts).require() is None


def test_the_record_is_found_among_others_and_twice() -> None:
    record = read_records(["v=spf1 -all", OURS, OURS]).require()
    assert record is not None
    assert record.public_key == KEY


@pytest.mark.parametrize(
    "texts",
    [
        [OURS, record_text(OTHER)],
        [record_text(KEY, OTHER)],
        [record_text(KEY, OTHER), record_text(OTHER, KEY)],
        [OURS, record_text(OTHER), "v=spf1 -all", OURS],
    ],
)
def test_a_domain_that_changes_its_key_has_two(texts: list[str]) -> None:
    reading = read_records(texts)
    assert reading.keys == (KEY, OTHER)
    assert reading.flaw is None


@pytest.mark.parametrize(
    "bad",
    [
        "v=MAILIO1; k=ed25519",
        f"v=MAILIO1; k=ed25519; p={to_base64(OTHER[:31])}",
        f"v=MAILIO1; k=ed25519; p={to_base64(OTHER + OTHER)}",
        f"v=MAILIO1; k=rsa; p={to_base64(OTHER)}",
        f"v=MAILIO1; k=ed25519; p={to_base64(bytes(32))}",
    ],
)
def test_a_bad_record_beside_a_good_one_gives_no_key_and_takes_none(bad: str) -> None:
    for texts in ([OURS, bad], [bad, OURS]):
        assert read_records(texts).keys == (KEY,)


@pytest.mark.parametrize("second", ["", "words", to_base64(OTHER[:31]), to_base64(bytes(32)), to_base64(KEY)])
def test_a_bad_second_key_is_none_and_is_told(second: str) -> None:
    reading = read_records([f"{OURS}; p2={second}"])
    assert reading.keys == (KEY,)
    assert reading.seen[0][1] == "a Mailio record; its p2= is no other key"


def test_a_reader_of_one_key_takes_the_first_one_of_a_record() -> None:
    """The reference server splits at `;` and takes the third part (wire spec section 2.1)."""
    parts = [part.strip() for part in record_text(KEY, OTHER).split(";")]
    assert parts[2] == P


@pytest.mark.parametrize(
    ("texts", "flaw"),
    [
        (["v=MAILIO1"], Flaw.TRUNCATED),
        ([f"x {OURS}"], Flaw.VERSION),
        ([OURS] * 17, Flaw.TOO_MANY),
        ([record_text(ServerKeys(bytes([n]) * 32, 0).public_key) for n in range(5)], Flaw.TOO_MANY_KEYS),
    ],
)
def test_records_that_give_no_key_are_not_the_same_as_none(texts: list[str], flaw: Flaw) -> None:
    reading = read_records(texts)
    assert reading.record is None
    with pytest.raises(MalformedRecord) as refused:
        reading.require()
    assert refused.value.flaw is flaw


def test_what_was_seen_is_told_with_what_was_thought_of_it() -> None:
    seen = read_records(["v=spf1 -all", OURS, "v=MAILIO1"]).seen
    assert [remark for _, remark in seen] == [
        "no Mailio record",
        "a Mailio record",
        "malformed: it ends before k= and p= are there",
    ]


def test_what_we_print_is_what_we_read() -> None:
    given, expected = vector("dns-3")
    line = zone_line(given["domain"], KEY)
    assert line.split("\t")[:3] == expected["record"].split("\t")[:3]
    assert parse_record(line.split('"')[1]).public_key == KEY
