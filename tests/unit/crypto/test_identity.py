"""Addresses, DIDs, ids and e-mail addresses as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidInput
from events.identity import (
    Did,
    email_domain,
    email_local_part,
    handshake_id,
    handshake_ids,
    interest_percent,
    is_address,
    is_email_hash,
    mailio_address,
    mailio_did,
    mapping_id,
    normalise_domain,
    normalise_email,
    strip_identifier,
    userdb_name,
    userdb_owner,
    web_did,
)

ADDRESS = "0x446f4461302935ad8387d0349b726bf7dbbc5118"


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_an_address_is_derived_from_32_bytes_only(length: int) -> None:
    with pytest.raises(InvalidInput):
        mailio_address(bytes(length))


@given(st.binary(min_size=32, max_size=32))
def test_every_derived_address_has_the_form_and_a_database(key: bytes) -> None:
    address = mailio_address(key)
    assert is_address(address)
    assert address == address.lower()
    assert userdb_owner(userdb_name(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        ADDRESS + "\n",
        ADDRESS[:-1],
        ADDRESS + "0",
        "0X" + ADDRESS[2:],
        ADDRESS[2:],
        "0x" + "\u0661" * 40,
    ],
)
def test_what_looks_almost_like_an_address_is_none(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    "database",
    ["", "userdb-", "userdb-30", "_users", "userdb-" + "00" * 42, "userdb-" + ADDRESS.encode().hex() + "00",
     userdb_name(ADDRESS).upper(), userdb_name(ADDRESS.upper().replace("0X", "0x")), userdb_name(ADDRESS) + "\n",
     "userdb-../" + ADDRESS.encode().hex()],
)  # fmt: skip
def test_no_other_name_is_a_user_database(database: str) -> None:
    with pytest.raises(InvalidInput):
        userdb_owner(database)


def test_the_three_forms_of_a_did_name_host_and_address() -> None:
    between = web_did("mio.alpha.example", ADDRESS)
    assert (between.host, between.address, str(between)) == (
        "mio.alpha.example",
        ADDRESS,
        f"did:web:mio.alpha.example#{ADDRESS}",
    )
    receipt = Did.parse(f"did:web:mio.alpha.example:{ADDRESS}")
    assert (receipt.host, receipt.address) == ("mio.alpha.example", ADDRESS)
    own = mailio_did(ADDRESS, "master")
    assert (own.host, own.address, str(own)) == ("", ADDRESS, f"did:mailio:{ADDRESS}#master")
    assert Did.parse(f"did:web:localhost:8080#{ADDRESS}").host == "localhost:8080"
    assert Did.parse("#master") == Did("", "", "master")
    assert str(Did.parse("#master")) == "#master"


@given(st.text(max_size=80))
def test_any_text_is_a_did_that_reads_back_or_is_refused(text: str) -> None:
    try:
        did = Did.parse(text)
    except InvalidInput:
        return
    assert Did.parse(str(did)) == did


@pytest.mark.parametrize(
    "text",
    ["", "#", "did", "did:", "did:web", "did:web:", "did::x", "DID:web:x", "mailto:a:b", "did:web: x", "did:web:x\n", "did:we b:x",
     "did:web:x#a\x00", "did:web:" + "x" * 600, "did:web:b\u00fccher.example#a", "did:web:#" + ADDRESS],
)  # fmt: skip
def test_what_is_no_did_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Did.parse(text)


def test_nothing_separates_owner_and_sender_in_a_handshake_id() -> None:
    assert handshake_id("a", "bc") == handshake_id("ab", "c"), (
        "which is why owner addresses are checked for their form"
    )
    assert handshake_id(ADDRESS, "Carol@x") != handshake_id(ADDRESS, "carol@x")


def test_handshakes_are_probed_in_the_order_of_the_specification_without_repeats() -> None:
    ids = handshake_ids(ADDRESS, did="did:web:h#0x1", address="0x1", email="Carol@X.example", email_hash="h")
    assert ids == [
        handshake_id(ADDRESS, sender)
        for sender in ("did:web:h#0x1", "0x1", "Carol@X.example", "carol@x.example", "h")
    ]
    assert len(handshake_ids(ADDRESS, email="carol@x.example")) == 1
    assert handshake_ids(ADDRESS) == []


@pytest.mark.parametrize(
    "text", ["", "!", "A" * 43, "A" * 43 + "=", "A" * 42 + "B=", "A" * 44, "\u00e4" * 44]
)
def test_an_email_hash_is_base64_of_32_bytes(text: str) -> None:
    expected = text == "A" * 43 + "="
    assert is_email_hash(text) is expected
    if not expected:
        with pytest.raises(InvalidInput):
            mapping_id(text)


@pytest.mark.parametrize(
    ("identifier", "bare"),
    [("did:mailio:0x1", "did:mailio:0x1"), ("Name <>", ""), ("<a@b>", "a@b"), (" a@b ", "a@b"), ("A@B", "A@B"),
     ('"x <y@z>" <a@b>', "a@b"), ("did:web:h#0xAB", "0xAB")],
)  # fmt: skip
def test_identifiers_are_reduced_to_what_is_counted(identifier: str, bare: str) -> None:
    assert strip_identifier(identifier) == bare


@pytest.mark.parametrize(
    ("interest", "received", "percent"),
    [
        (0, 0, 0),
        (1, 0, 0),
        (0, 5, 0),
        (5, 5, 100),
        (7, 100, 7),
        (1, 3, 34),
        (2, 3, 67),
        (29, 100, 29),
        (57, 100, 57),
        (1, 1000, 1),
    ],
)
def test_interest_is_rounded_up_and_exact_at_whole_percents(
    interest: int, received: int, percent: int
) -> None:
    assert interest_percent(interest, received) == percent


@pytest.mark.parametrize(
    ("email", "normal"),
    [("Alice@Alpha.Example", "alice@alpha.example"), (" a+b@x.example ", "a+b@x.example"), ("a@b\u00fccher.example", "a@xn--bcher-kva.example"),
     ("a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"), ("\u00dcber@x.example", "\u00fcber@x.example"), ("a@localhost", "a@localhost"),
     ("a@x.example.", "a@x.example"), ("o'neil/x=y@x.example", "o'neil/x=y@x.example"), ("a@b\u3002example", "a@b.example")],
)  # fmt: skip
def test_email_addresses_have_one_form(email: str, normal: str) -> None:
    assert normalise_email(email) == normal
    assert normalise_email(normal) == normal


@pytest.mark.parametrize(
    "email",
    ["", "@", "a@", "@b", "a", "a b@x.example", "a@x example", "a@@x.example", ".a@x.example", "a.@x.example", "a..b@x.example",
     '"a b"@x.example', "a@[127.0.0.1]", "a@-x.example", "a@x-.example", "a@x..example", "a@.example", "Name <a@x.example>",
     "a\r\nRCPT TO:<b>@x.example", "a\x00@x.example", "a@x.example\x00", "a@x_y.example", "a@" + "x" * 64 + ".example",
     "a" * 65 + "@x.example", "\u00fc" * 33 + "@x.example", "a@" + "x." * 130 + "example", "a@stra\u00dfe.example",
     "a@x\u200d.example", "a@xn--\u00fc.example", "a,b@x.example", "a:b@x.example", "a@x/y.example", "a@b\x85.example", "a\u0085b@x.example", "\ud800@x.example", "a@\udc80.example"],
)  # fmt: skip
def test_what_is_no_email_address_is_refused(email: str) -> None:
    with pytest.raises(InvalidInput):
        normalise_email(email)


@given(st.text(max_size=60))
def test_any_text_is_normalised_once_and_for_all_or_refused(text: str) -> None:
    try:
        normal = normalise_email(f"{text}@x.example")
    except InvalidInput:
        return
    assert normalise_email(normal) == normal
    assert not set(normal) & set('<>"\r\n\0 ')


def test_a_long_domain_costs_no_time() -> None:
    with pytest.raises(InvalidInput):
        normalise_domain("\u00fc" * 100_000)


def test_an_email_splits_at_its_last_at_sign() -> None:
    assert (email_local_part("a@b@c"), email_domain("a@b@c"), email_domain("nobody")) == ("a@b", "c", "")


@pytest.mark.parametrize("hidden", ["\u0378", "\u200b", "\u202e", "\ue000", "\ufeff"])
def test_an_email_with_characters_that_nobody_sees_is_none(hidden: str) -> None:
    with pytest.raises(InvalidInput):
        normalise_email(f"al{hidden}ice@alpha.example")
