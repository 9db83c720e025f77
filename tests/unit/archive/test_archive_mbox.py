"""One mail as it stands in an mbox file, whatever strangers and clients called things."""

from __future__ import annotations

import email
import re

import msgspec
import pytest

from node.archive.mbox import Placed, entry, file_name

RAW = b"From: a@b.example\r\nSubject: x\r\n\r\nFrom me\r\n>From you\r\nfrom them\r\n"
PLACED = Placed(
    id="1", folder="inbox", reason="accepted", sender="a@b.example", at=1_700_000_000_000, read=True
)


def test_lines_that_look_like_the_next_mail_are_quoted_so_that_it_can_be_undone() -> None:
    text = entry(RAW, PLACED)
    assert text.count(b"\nFrom ") == 0
    undone = re.sub(rb"^>(>*From )", rb"\1", text.partition(b"\n")[2], flags=re.MULTILINE)
    assert undone.endswith(RAW.replace(b"\r\n", b"\n") + b"\n")


def test_it_begins_with_sender_and_time_and_says_where_it_was() -> None:
    text = entry(RAW, PLACED)
    assert text.startswith(b"From a@b.example Tue Nov 14 22:13:20 2023\n")
    found = email.message_from_bytes(text.partition(b"\n")[2])
    assert (found["X-Mailio-Folder"], found["X-Mailio-Reason"], found["Status"]) == (
        "inbox",
        "accepted",
        "RO",
    )


@pytest.mark.parametrize("folder", ["in\r\nX-Evil: 1", "a\nFrom x", "Größe", "x" * 100_000, "\x00\x1b[2J"])
def test_a_folder_of_any_name_stays_in_its_header(folder: str) -> None:
    text = entry(RAW, msgspec.structs.replace(PLACED, folder=folder))
    found = email.message_from_bytes(text.partition(b"\n")[2])
    assert found["X-Evil"] is None
    assert found["Subject"] == "x"
    assert len(text) < 2_000


@pytest.mark.parametrize("sender", ["", "a b@c", "a@b\nFrom c", "ü@b.example", "x" * 300])
def test_a_sender_that_would_break_the_first_line_does_not_stand_in_it(sender: str) -> None:
    text = entry(RAW, msgspec.structs.replace(PLACED, sender=sender))
    assert text.startswith(b"From MAILER-DAEMON ")


@pytest.mark.parametrize(
    "folder", ["../../etc/passwd", "", ".", "a/b", "Größe", "x" * 1_000, "-rf", "con\x00"]
)
def test_a_folder_of_any_name_is_a_harmless_file(folder: str) -> None:
    name = file_name(folder)
    assert re.fullmatch(r"mbox/[A-Za-z0-9][A-Za-z0-9._-]{0,79}\.mbox", name)
    assert file_name("inbox") == "mbox/inbox.mbox"


def test_folders_whose_names_look_alike_get_files_of_their_own() -> None:
    assert len({file_name(folder) for folder in ("a/b", "a_b", "a b", "a?b")}) == 4
