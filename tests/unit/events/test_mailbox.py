"""The mailbox aggregate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import Conflict, InvalidInput, LimitExceeded, MailboxFull, NotFound
from events.identity import DAY_MS
from events.mailbox import (
    MAX_FOLDER_NAME,
    MAX_FOLDERS,
    CreateFolder,
    DocumentDraft,
    DocumentWritten,
    FileMessage,
    FolderRenamed,
    InterestShown,
    Mailbox,
    MessageFiled,
    MessageSent,
    RemoveFolder,
    RenameFolder,
    ShowInterest,
    WriteDocuments,
    decide,
    evolve,
    initial,
)
from events.policy import Folder, Reason, Standing, Transport


def after(*commands: object) -> Mailbox:
    state = initial("0xowner")
    for command in commands:
        for event in decide(state, command):  # type: ignore[arg-type]
            state = evolve(state, event)
    return state


def message(
    number: int = 1, sender: str = "bob@beta.example", size: int = 10, **facts: object
) -> FileMessage:
    known: dict[str, object] = {"standing": Standing.UNKNOWN, "transport": Transport.SMTP}
    return FileMessage(
        id=f"id{number}", mail=f"m{number}", sender=sender, document="b", size=size, filed_at=5,
        **{**known, **facts},  # type: ignore[arg-type]
    )  # fmt: skip


def draft(size: int = 10, replaced: int = 0, id_: str = "doc") -> DocumentDraft:
    return DocumentDraft(id=id_, revisions=("1-a",), kind="own", size=size, replaced=replaced)


def filed(state: Mailbox, command: FileMessage) -> MessageFiled:
    (event,) = decide(state, command)
    assert isinstance(event, MessageFiled)
    return event


def test_a_first_message_goes_to_the_inbox_and_counts() -> None:
    event = filed(after(), message())
    assert (event.folder, event.reason) == (Folder.INBOX, Reason.FIRST_CONTACT)
    assert after(message(size=700)).used == event.size + 690


def test_a_second_message_of_an_unread_sender_goes_to_other() -> None:
    assert filed(after(message(1)), message(2)).folder is Folder.OTHER


def test_a_sender_whose_messages_are_read_goes_to_goodreads() -> None:
    state = after(message(1), ShowInterest("bob@beta.example", "id1"))
    assert filed(state, message(2)).folder is Folder.GOODREADS


def test_interest_in_one_message_counts_once() -> None:
    state = after(message(1), ShowInterest("bob@beta.example", "id1"))
    assert decide(state, ShowInterest("bob@beta.example", "id1")) == []
    assert decide(state, ShowInterest("bob@beta.example", "id2")) == [
        InterestShown(sender="bob@beta.example", message="id2")
    ]


def test_an_accepted_message_is_filed_even_when_the_mailbox_is_full() -> None:
    assert filed(after(message(1, size=10**12)), message(2, sender="new@x.example")).folder is Folder.INBOX


def test_what_devices_write_counts_against_the_quota_and_deleting_frees_it() -> None:
    state = after(WriteDocuments((draft(100),), at=1, quota=150))
    assert state.used == 100
    with pytest.raises(MailboxFull):
        decide(state, WriteDocuments((draft(51),), at=1, quota=150))
    assert after(WriteDocuments((draft(100),), at=1), WriteDocuments((draft(1, 100),), at=2)).used == 1


def test_a_batch_that_frees_more_than_it_takes_passes_on_a_full_mailbox() -> None:
    state = after(WriteDocuments((draft(200),), at=1))
    events = decide(state, WriteDocuments((draft(10, 200), draft(50, id_="b")), at=2, quota=100))
    assert [type(event) for event in events] == [DocumentWritten, DocumentWritten]


def test_a_batch_beyond_the_quota_changes_nothing() -> None:
    with pytest.raises(MailboxFull):
        decide(after(), WriteDocuments((draft(60), draft(60, id_="b")), at=1, quota=100))


def test_folders_are_made_renamed_and_removed() -> None:
    state = after(CreateFolder("f", "Trips", 1), RenameFolder("f", " Journeys ", 2))
    assert state.folders == {"f": "Journeys"}
    assert after(CreateFolder("f", "Trips", 1), RemoveFolder("f", 0)).folders == {}


@pytest.mark.parametrize("name", ["", "   ", "a\x1b[31m", "x" * (MAX_FOLDER_NAME + 1)])
def test_a_folder_name_must_be_short_and_printable(name: str) -> None:
    with pytest.raises(InvalidInput):
        decide(after(), CreateFolder("f", name, 1))


@pytest.mark.parametrize("name", ["inbox", "INBOX", "Trips"])
def test_a_folder_name_must_be_new(name: str) -> None:
    with pytest.raises(Conflict):
        decide(after(CreateFolder("f", "Trips", 1)), CreateFolder("g", name, 1))


def test_a_folder_with_messages_is_not_removed() -> None:
    with pytest.raises(Conflict):
        decide(after(CreateFolder("f", "Trips", 1)), RemoveFolder("f", 3))


def test_the_systems_folders_stay() -> None:
    with pytest.raises(Conflict):
        decide(after(), RemoveFolder("inbox", 0))


def test_an_unknown_folder_is_not_found() -> None:
    with pytest.raises(NotFound):
        decide(after(), RenameFolder("f", "x", 1))


def test_renaming_to_the_same_name_is_no_event() -> None:
    state = after(CreateFolder("f", "Trips", 1))
    assert decide(state, RenameFolder("f", "Trips", 2)) == []
    assert decide(state, RenameFolder("f", "Journeys", 2)) == [FolderRenamed(id="f", name="Journeys", at=2)]


def test_folders_are_bounded() -> None:
    state = after(*(CreateFolder(f"f{n}", f"Folder {n}", 1) for n in range(MAX_FOLDERS)))
    with pytest.raises(LimitExceeded):
        decide(state, CreateFolder("one more", "One more", 1))


@given(st.lists(st.tuples(st.sampled_from(["a@x.example", "b@x.example"]), st.integers(1, 100)), max_size=20))
def test_totals_agree_with_a_plain_sum(mails: list[tuple[str, int]]) -> None:
    state = after(*(message(n, sender, size) for n, (sender, size) in enumerate(mails)))
    assert sum(size for _, size in mails) <= state.used <= sum(size + 100 for _, size in mails)
    for sender in ("a@x.example", "b@x.example"):
        assert state.correspondent(sender).received == sum(1 for s, _ in mails if s == sender)


def sent(*recipients: str, at: int) -> MessageSent:
    return MessageSent(id="f" * 64, recipients=recipients, intent="message", sent_at=at)


def test_what_was_sent_counts_for_each_recipient_and_once_for_the_day() -> None:
    state, day = initial("0xowner"), 20_000 * DAY_MS
    bob = "0x" + "b0" * 20
    for event in (
        sent(f"did:web:mio.beta.example#{bob}", "friend@beta.example", at=day),
        sent(f"did:web:mio.gamma.example#{bob}", at=day + DAY_MS - 1),
    ):
        state = evolve(state, event)
    assert (state.sent_to(bob), state.sent_to("friend@beta.example"), state.sent_to("0x" + "b1" * 20)) == (
        2,
        1,
        0,
    )
    assert (state.sent_on(day + 5), state.sent_on(day + DAY_MS), state.sent_on(day - 1)) == (2, 0, 0)
    state = evolve(state, sent("friend@beta.example", at=day + DAY_MS))
    assert (state.sent_on(day + DAY_MS), state.sent_on(day)) == (1, 0)
