"""The past as it was, and what changed in between, with the event that did it."""

from __future__ import annotations

from typing import Any

import pytest

from events.errors import CorruptRecord, NotFound
from events.event import Event
from events.handshake import HandshakeAccepted, HandshakeForgotten, HandshakeRevoked, Terms
from events.identity import handshake_id
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.reading import LogReader
from events.log.sqlite_log import SqliteLog
from events.parking import ReactionParked, ReactionRetried
from node.inspection.differences import Difference, difference
from node.inspection.people import Owner, owner_of
from node.inspection.states import Past, parked_state, state_of
from tests.factories import (
    EMAIL,
    OTHER,
    OWNER,
    SENDER,
    Blobs,
    account_disabled,
    account_opened,
    document_written,
    email_claimed,
    folder_created,
    folder_removed,
    folder_renamed,
    interest_shown,
    message_filed,
    password_changed,
    profile_changed,
    stream_of,
)
from tests.tampering import tamper

BLOBS = Blobs()
HANDSHAKE = handshake_id(OWNER, SENDER)


def terms(status: str, created: int = 1) -> Terms:
    return Terms(id=HANDSHAKE, status=status, created=created)


async def happen(log: SqliteLog, *events: Event, actor: str = "test") -> int:
    """Append events of `OWNER`, each where it belongs; return the position of the last."""
    for event in events:
        handshake = type(event).__name__.startswith("Handshake")
        stream = f"handshake-{OWNER}" if handshake else stream_of(event)
        await log.append(Write(stream, (event,)), origin=Origin(actor=actor))
    return log.head


def at(reader: LogReader, codec: Codec, position: int) -> dict[str, Any]:
    return state_of(Owner(OWNER, EMAIL), Past(reader, codec, position))


async def test_a_state_is_folded_up_to_its_position_and_not_further(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    opened = await happen(log, account_opened(), email_claimed())
    filed = await happen(log, message_filed(BLOBS, size=100), folder_created())
    later = await happen(
        log, message_filed(BLOBS, size=50), folder_renamed(), account_disabled(), HandshakeAccepted(terms=terms("accepted"))
    )  # fmt: skip
    assert at(reader, codec, 0)["account"] == {"exists": False}
    assert at(reader, codec, opened)["mailbox"]["filed"] == 0
    then, now = at(reader, codec, filed), at(reader, codec, later)
    assert (then["mailbox"]["usedBytes"], now["mailbox"]["usedBytes"]) == (100, 150)
    assert (then["mailbox"]["folders"], now["mailbox"]["folders"]) == ({"f1": "Family"}, {"f1": "Friends"})
    assert (then["account"]["enabled"], now["account"]["enabled"]) == (True, False)
    assert then["handshake"] == {}
    assert now["handshake"][HANDSHAKE] == {
        "standing": "accepted", "sender": SENDER, "created": 1, "byEmailHash": False,
    }  # fmt: skip
    assert list(state_of(Owner(OWNER), Past(reader, codec, later), ("handshake",))) == ["handshake"]


async def test_no_secret_of_an_account_is_shown(log: SqliteLog, reader: LogReader, codec: Codec) -> None:
    await happen(log, account_opened(password_hash="scrypt-of-secret"), password_changed("other-scrypt"))
    shown = str(at(reader, codec, log.head))
    assert "scrypt" not in shown
    assert at(reader, codec, log.head)["account"]["password"] is True


async def test_an_owner_is_found_by_email_or_address(log: SqliteLog, reader: LogReader, codec: Codec) -> None:
    await happen(log, email_claimed())
    assert owner_of("Someone@ALPHA.example", reader, codec) == Owner(OWNER, EMAIL)
    assert owner_of(OTHER.upper().replace("X", "x"), reader, codec) == Owner(OTHER)
    with pytest.raises(NotFound, match=r"nobody@alpha\.example"):
        owner_of("nobody@alpha.example", reader, codec)


async def test_what_was_parked_is_a_state_too(log: SqliteLog, reader: LogReader, codec: Codec) -> None:
    parked = ReactionParked(
        consumer="mail", kind="mailbox", key=OWNER, position=7, event_id="ab", reason="no blob", attempts=5
    )
    await log.append(Write("parked", (parked,)), origin=Origin(actor="dispatcher"))
    await log.append(Write("parked", (ReactionRetried(id=parked.id),)), origin=Origin(actor="operator"))
    assert parked_state(Past(reader, codec, 1)) == {
        f"mail:7:mailbox:{OWNER}": {"position": 7, "reason": "no blob", "attempts": 5}
    }
    assert parked_state(Past(reader, codec, 2)) == {}


async def test_a_state_with_a_record_that_can_not_be_read_is_refused_with_its_position(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    await happen(log, folder_created("a", "A"), folder_created("b", "B"))
    tamper(reader.path, "UPDATE events SET state = x'90' WHERE position = 2")
    assert at(reader, codec, 1)["mailbox"]["folders"] == {"a": "A"}
    with pytest.raises(CorruptRecord, match="position 2"):
        at(reader, codec, 2)


def between(reader: LogReader, codec: Codec, first: int, last: int) -> Difference:
    return difference(Owner(OWNER), Past(reader, codec, first), Past(reader, codec, last))


def changes(found: Difference) -> dict[str, tuple[Any, Any, int | None]]:
    return {"/".join(each.path): (each.before, each.after, each.by) for each in found.changes}


async def test_a_difference_names_every_value_with_the_last_event_on_it(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    first = await happen(log, account_opened(), message_filed(BLOBS, size=100), folder_created())
    await happen(log, message_filed(BLOBS, size=50), account_disabled(), folder_removed())
    last = await happen(log, HandshakeRevoked(terms=terms("revoked")), interest_shown(message="m"))
    found = changes(between(reader, codec, first, last))
    assert found == {
        "account/enabled": (True, False, 5),
        f"handshake/{HANDSHAKE}/standing": (None, "revoked", 7),
        f"handshake/{HANDSHAKE}/sender": (None, SENDER, 7),
        f"handshake/{HANDSHAKE}/created": (None, 1, 7),
        f"handshake/{HANDSHAKE}/byEmailHash": (None, False, 7),
        "mailbox/usedBytes": (100, 150, 4),
        "mailbox/filed": (1, 2, 4),
        "mailbox/folders/f1": ("Family", None, 6),
        f"mailbox/correspondents/{SENDER}/received": (1, 2, 8),
        f"mailbox/correspondents/{SENDER}/readWithInterest": (0, 1, 8),
    }


async def test_a_difference_tells_what_happened_to_each_document(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    filed = message_filed(BLOBS, id="m1")
    first = await happen(log, message_filed(BLOBS, id="untouched"), filed)
    written = {"id": "m1", "kind": "message", "device": "192.0.2.7 Phone"}
    await happen(log, document_written(BLOBS, "2-a", "1-x", folder="inbox", read=True, **written))
    await happen(log, document_written(BLOBS, "3-a", "2-a", folder="archive", read=True, **written))
    middle = log.head
    last = await happen(
        log, document_written(BLOBS, "4-a", "3-a", deleted=True, **written), actor=f"client/{OWNER}"
    )
    (touched,) = between(reader, codec, first, middle).documents
    assert touched.id == "m1"
    assert touched.before == {"kind": "message", "folder": "inbox", "reason": "first_contact"}
    assert touched.after == {"kind": "message", "folder": "archive", "read": True, "rev": "3-a"}
    assert [deed.text for deed in touched.deeds] == [
        "marked as read by 192.0.2.7 Phone",
        "moved from inbox to archive by 192.0.2.7 Phone",
    ]
    (touched,) = between(reader, codec, middle, last).documents
    assert (touched.before, touched.after) == (
        {"kind": "message", "folder": "archive", "read": True, "rev": "3-a"}, None,
    )  # fmt: skip
    assert [(deed.position, deed.actor, deed.text) for deed in touched.deeds] == [
        (last, f"client/{OWNER}", "deleted by 192.0.2.7 Phone")
    ]


async def test_what_is_about_no_document_is_told_as_well(
    log: SqliteLog, reader: LogReader, codec: Codec
) -> None:
    first = await happen(log, account_opened(), HandshakeAccepted(terms=terms("accepted")))
    last = await happen(log, profile_changed({"phone": "1"}), HandshakeForgotten(id=HANDSHAKE))
    found = between(reader, codec, first, last)
    assert [deed.type for deed in found.others] == ["ProfileChanged", "HandshakeForgotten"]
    assert changes(found)["account/profile/phone"] == (None, "1", 3)
    assert changes(found)[f"handshake/{HANDSHAKE}/standing"] == ("accepted", None, 4)


async def test_nothing_in_between_is_no_difference(log: SqliteLog, reader: LogReader, codec: Codec) -> None:
    place = await happen(log, account_opened(), message_filed(BLOBS))
    found = between(reader, codec, place, place)
    assert (found.changes, found.documents, found.others) == ([], [], [])
