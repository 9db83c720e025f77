"""Sealed records: only the right key reads them, in their own place; without it the chain still holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events.account import AccountErased
from events.errors import CorruptRecord, Gone, Misconfigured
from events.event import EVENT_TYPES, Erased, Event, Metadata
from events.log.chain import Row
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog, bound_vault
from events.mail import MailAccepted, Recipient
from events.mailbox import MessageFiled
from events.parking import ReactionDropped, ReactionParked
from events.subjects import subjects
from events.view import ViewEventRetried
from node.crypto.envelope import Envelopes
from node.crypto.vault import Vault
from tests.factories import (
    EMAIL,
    OTHER,
    OWNER,
    Blobs,
    account_opened,
    email_claimed,
    interest_shown,
    message_filed,
)

META = Metadata(id="01" * 16, at=5, actor="smtp", correlation="02" * 16, software="9.9")
STREAM = f"mailbox-{OWNER}"
ORIGIN = Origin(actor="test")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "keys" / "vault.sqlite")


@pytest.fixture
def codec(vault: Vault) -> Codec:
    return Codec(sealer=Envelopes(vault))


def erase(vault: Vault, owner: str = OWNER) -> None:
    vault.condemn(owner)
    vault.destroy(owner)


def filed() -> MessageFiled:
    return message_filed(Blobs(), sender="distinctive@beta.example")


def accepted(*owners: str) -> MailAccepted:
    recipients = tuple(Recipient(owner, EMAIL) for owner in owners)
    return MailAccepted(
        transport="smtp", blob="b", size=1, recipients=recipients, received_at=1, authors=("a@b.example",)
    )


def parked(key: str) -> ReactionParked:
    return ReactionParked(
        consumer="mail", kind="mailbox", key=key, position=1, event_id="e", reason="why", attempts=1
    )


def row(codec: Codec, event: Event, stream: str, event_id: str = META.id) -> Row:
    payload, _ = codec.payload(event)
    ident = bytes.fromhex(event_id)
    state = codec.encode(codec.sealed(payload, event, stream, ident), event.schema, META)
    return Row(7, stream, 3, type(event).__name__, ident, state, b"h" * 32)


@pytest.mark.parametrize(
    ("stream", "event", "owners"),
    [
        (STREAM, interest_shown(), (OWNER,)),
        (f"account-{OWNER}", account_opened(), (OWNER,)),
        (f"handshake-{OTHER}", interest_shown(), (OTHER,)),
        ("email-cafe", email_claimed(), (OWNER,)),
        ("mail-1", accepted(OWNER, OTHER, OWNER), (OWNER, OTHER)),
        ("parked", parked(OTHER), (OTHER,)),
        ("parked", parked(""), ()),
        ("parked", ReactionDropped(id=f"mail:7:mailbox:{OWNER}", reason="r"), (OWNER,)),
        ("views", ViewEventRetried(view="userdb", position=3), ()),
        (f"account-{OWNER}", AccountErased(address=OWNER), ()),
    ],
)
def test_whom_an_event_is_about(stream: str, event: Event, owners: tuple[str, ...]) -> None:
    assert subjects(stream, event) == owners


def test_a_sealed_record_says_nothing_and_reads_as_it_was(codec: Codec) -> None:
    event = filed()
    stored = row(codec, event, STREAM)
    for text in (b"distinctive", b"sender", b"message-", event.document.encode()):
        assert text not in stored.state
    assert codec.decode(stored).event == event


def test_a_plain_record_of_an_older_program_is_still_read(codec: Codec) -> None:
    event = filed()
    assert codec.decode(row(Codec(), event, STREAM)).event == event


def test_an_event_of_nobody_is_not_sealed(codec: Codec) -> None:
    event = AccountErased(address=OWNER, reason="asked for")
    assert Codec().decode(row(codec, event, f"account-{OWNER}")).event == event


def test_when_the_key_is_gone_the_event_is_erased_and_only_its_type_is_left(
    codec: Codec, vault: Vault
) -> None:
    stored = row(codec, filed(), STREAM)
    erase(vault)
    assert codec.decode(stored).event == Erased(type="MessageFiled")
    with pytest.raises(Gone):
        row(codec, filed(), STREAM)


def test_a_mail_of_two_is_read_until_both_are_erased(codec: Codec, vault: Vault) -> None:
    event = accepted(OWNER, OTHER)
    stored = row(codec, event, "mail-1")
    erase(vault)
    assert codec.decode(stored).event == event
    erase(vault, OTHER)
    assert codec.decode(stored).event == Erased(type="MailAccepted")


def test_nobody_can_append_an_erased_event() -> None:
    assert Erased.__name__ not in EVENT_TYPES


def test_a_tampered_record_is_corrupt_and_never_erased(codec: Codec) -> None:
    stored = row(codec, filed(), STREAM)
    start = len(stored.state) - 200
    for place in range(start, len(stored.state)):
        state = bytearray(stored.state)
        state[place] ^= 0x10
        with pytest.raises(CorruptRecord, match="position 7"):
            codec.decode(stored._replace(state=bytes(state)))


@pytest.mark.parametrize(
    "moved",
    [
        {"stream": f"mailbox-{OTHER}"},
        {"topic": "FolderRemoved"},
        {"event_id": b"\2" * 16},
        {"event_id": None},
    ],
)
def test_a_record_in_the_place_of_another_is_corrupt(codec: Codec, moved: dict[str, object]) -> None:
    stored = row(codec, filed(), STREAM)
    with pytest.raises(CorruptRecord):
        codec.decode(stored._replace(**moved))  # type: ignore[arg-type]


def test_a_record_of_another_schema_is_corrupt(codec: Codec) -> None:
    stored = row(codec, filed(), STREAM)
    state = msgspec.msgpack.decode(stored.state)
    state[0] = 0
    with pytest.raises(CorruptRecord):
        codec.decode(stored._replace(state=msgspec.msgpack.encode(state)))


def test_two_records_can_not_exchange_what_they_say(codec: Codec) -> None:
    one, other = row(codec, filed(), STREAM), row(codec, filed(), STREAM, "05" * 16)
    with pytest.raises(CorruptRecord):
        codec.decode(one._replace(state=other.state))


def test_without_a_vault_a_sealed_record_can_not_be_read(codec: Codec) -> None:
    stored = row(codec, filed(), STREAM)
    with pytest.raises(Misconfigured, match="vault"):
        Codec().decode(stored)


async def test_the_chain_holds_and_the_log_reads_on_when_somebody_is_erased(
    tmp_path: Path, codec: Codec, vault: Vault
) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog.open(path, SystemClock(), "test", codec=codec)
    await log.append(Write(STREAM, (filed(),)), origin=ORIGIN)
    await log.append(Write(f"mailbox-{OTHER}", (filed(),)), origin=ORIGIN)
    erase(vault)
    log.forget_recent()
    assert [type(record.event) for record in await log.read(0)] == [Erased, MessageFiled]
    assert [step.bad async for step in log.verify()] == [None]
    with pytest.raises(Gone):
        await log.append(Write(STREAM, (filed(),)), origin=ORIGIN)
    await log.close()


async def test_a_log_is_bound_to_the_vault_that_it_was_first_sealed_with(
    tmp_path: Path, codec: Codec, vault: Vault
) -> None:
    path = tmp_path / "log.sqlite"
    assert bound_vault(path) == ""
    await SqliteLog.open(path, SystemClock(), "test").close()
    assert bound_vault(path) == ""
    await SqliteLog.open(path, SystemClock(), "test", codec=codec).close()
    assert bound_vault(path) == vault.id
    other = Codec(sealer=Envelopes(Vault.open(tmp_path / "other.sqlite")))
    for readonly in (False, True):
        with pytest.raises(Misconfigured, match=vault.id):
            SqliteLog.open(path, SystemClock(), "test", codec=other, readonly=readonly)
