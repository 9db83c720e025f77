"""The handshake book."""

from hypothesis import given
from hypothesis import strategies as st

from events.consent import Consent
from events.handshake import (
    Book,
    ForgetHandshake,
    HandshakeAccepted,
    HandshakeForgotten,
    HandshakeRevoked,
    HandshakeUnchanged,
    RecordHandshake,
    Terms,
    decide,
    evolve,
    initial,
)
from events.policy import Standing

UNCHANGED = [HandshakeUnchanged(id="id")]


def after(*commands: object) -> Book:
    book = initial("0xowner")
    for command in commands:
        for event in decide(book, command):  # type: ignore[arg-type]
            book = evolve(book, event)
    return book


def record(status: str, created: int = 1, id_: str = "id") -> RecordHandshake:
    return RecordHandshake(Terms(id=id_, status=status, created=created))


def test_an_accepted_sender_stands_in_the_book() -> None:
    assert after(record("accepted")).standing(["id"]) is Standing.ACCEPTED


def test_nobody_stands_in_an_empty_book() -> None:
    assert after().standing(["id"]) is Standing.UNKNOWN


def test_a_later_revocation_wins() -> None:
    assert after(record("accepted", 1), record("revoked", 2)).standing(["id"]) is Standing.REVOKED


def test_an_older_document_of_a_device_that_was_offline_does_not_undo_a_revocation() -> None:
    book = after(record("revoked", 2))
    assert decide(book, record("accepted", 1)) == UNCHANGED


def test_saying_the_same_again_changes_nothing() -> None:
    book = after(record("accepted"))
    assert decide(book, record("accepted")) == UNCHANGED


def test_a_status_change_with_the_same_time_counts() -> None:
    book = after(record("accepted", 5))
    assert isinstance(decide(book, record("revoked", 5))[0], HandshakeRevoked)


def test_a_forgotten_sender_is_a_stranger() -> None:
    assert after(record("accepted"), ForgetHandshake("id")).standing(["id"]) is Standing.UNKNOWN


def test_forgetting_a_stranger_changes_nothing() -> None:
    assert decide(after(), ForgetHandshake("id")) == UNCHANGED


def test_status_notfound_removes_an_entry() -> None:
    assert decide(after(record("accepted")), record("notfound")) == [HandshakeForgotten(id="id")]


def test_a_revocation_under_any_name_of_the_sender_wins() -> None:
    book = after(record("revoked", id_="a"), record("accepted", id_="b"), record("request", id_="c"))
    assert book.standing(["x", "b", "a"]) is Standing.REVOKED
    assert book.standing(["c", "b"]) is Standing.ACCEPTED
    assert book.standing(["c"]) is Standing.REQUEST


def test_an_exact_name_beats_the_domain_and_the_domain_beats_an_unanswered_request() -> None:
    book = after(
        record("accepted", id_="yes"),
        record("revoked", id_="no"),
        record("request", id_="asked"),
        record("accepted", id_="@good"),
        record("revoked", id_="@bad"),
    )
    assert book.consent(["yes"], domain="@bad").standing is Standing.ACCEPTED
    assert book.consent(["no"], domain="@good").standing is Standing.REVOKED
    assert book.consent(["asked"], domain="@good").standing is Standing.ACCEPTED
    assert book.consent(["asked"], domain="@bad").standing is Standing.REVOKED
    assert book.consent(["other"], domain="@good").whole_domain
    assert book.consent(["other"], domain="@else").standing is Standing.UNKNOWN


def test_a_name_that_others_may_bear_can_only_shut_out() -> None:
    book = after(record("accepted", id_="0xfriend"), record("revoked", id_="0xpest"))
    assert book.consent(["did"], against=["0xfriend"]).standing is Standing.UNKNOWN
    assert book.consent(["did"], against=["0xpest"]).standing is Standing.REVOKED


def test_what_is_found_comes_with_its_terms() -> None:
    terms = Terms(id="id", status="accepted", level="poh", type="signup", subtype=5, frequency_minutes=60)
    assert after(RecordHandshake(terms)).consent(["id"]) == Consent(
        standing=Standing.ACCEPTED,
        handshake="id",
        level="poh",
        type="signup",
        subtype=5,
        frequency_minutes=60,
    )


def hashed(status: str) -> RecordHandshake:
    return RecordHandshake(Terms(id="h", status=status, by_email_hash=True))


def test_an_email_hash_is_asked_for_only_where_it_could_change_the_answer() -> None:
    stranger = Consent()
    let_in = Consent(standing=Standing.ACCEPTED, handshake="id")
    by_domain = Consent(standing=Standing.ACCEPTED, handshake="d", whole_domain=True)
    shut_out = Consent(standing=Standing.REVOKED, handshake="id")
    asked = (stranger, let_in, by_domain, shut_out)
    plain, lets_in, shuts_out = after(record("accepted")), after(hashed("accepted")), after(hashed("revoked"))
    assert [plain.may_say_more_by_hash(one) for one in asked] == [False, False, False, False]
    assert [lets_in.may_say_more_by_hash(one) for one in asked] == [True, False, True, False]
    assert [shuts_out.may_say_more_by_hash(one) for one in asked] == [True, True, True, False]
    assert not after(hashed("revoked"), ForgetHandshake("h")).may_say_more_by_hash(stranger)


STATUS = st.sampled_from(["accepted", "revoked", "request"])
DOCUMENTS = st.lists(st.tuples(st.sampled_from("ab"), STATUS, st.integers(0, 9)), max_size=12)


@given(DOCUMENTS)
def test_the_book_agrees_with_a_ten_line_model(documents: list[tuple[str, str, int]]) -> None:
    model: dict[str, tuple[int, str]] = {}
    book = initial("0xowner")
    for id_, status, created in documents:
        if created >= model.get(id_, (-1, ""))[0]:
            model[id_] = (created, status)
        for event in decide(book, record(status, created, id_)):
            book = evolve(book, event)
    assert {id_: entry.status for id_, entry in book.entries.items()} == {
        id_: status for id_, (_, status) in model.items()
    }


def test_the_event_keeps_all_terms() -> None:
    terms = Terms(id="id", status="accepted", level="poh", frequency_minutes=60, created=3)
    assert decide(initial("0x"), RecordHandshake(terms)) == [HandshakeAccepted(terms=terms)]
