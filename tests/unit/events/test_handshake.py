"""The handshake book."""

from hypothesis import given
from hypothesis import strategies as st

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


def test_the_first_identity_that_is_known_decides() -> None:
    book = after(record("revoked", id_="a"), record("accepted", id_="b"))
    assert book.standing(["x", "b", "a"]) is Standing.ACCEPTED


def test_an_email_hash_is_needed_only_when_an_entry_was_made_with_one() -> None:
    plain = after(record("accepted"))
    hashed = after(RecordHandshake(Terms(id="h", status="accepted", by_email_hash=True)))
    assert not plain.needs_email_hash
    assert hashed.needs_email_hash


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
    assert {id_: entry.standing.value for id_, entry in book.entries.items()} == {
        id_: status for id_, (_, status) in model.items()
    }


def test_the_event_keeps_all_terms() -> None:
    terms = Terms(id="id", status="accepted", level="poh", frequency_minutes=60, created=3)
    assert decide(initial("0x"), RecordHandshake(terms)) == [HandshakeAccepted(terms=terms)]
