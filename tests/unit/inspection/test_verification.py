"""Whatever is done to a log's file, `verify` names the first position at which it shows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events.attestation import CheckpointSigned
from events.errors import Conflict, InvalidInput, StorageUnavailable
from events.log.chain import Row
from events.log.clock import VirtualClock
from events.log.codec import Codec
from events.log.log import Origin, Write
from events.log.reading import LogReader
from events.log.sqlite_log import SqliteLog
from node.attestation import Attestor, file_content, objection, read_file, signed
from node.crypto.keys import ServerKeys
from node.settings import LogSettings
from node.verification import LogReport, compare_with_kept, verify_log
from tests.factories import folder_created
from tests.tampering import rewrite, rows_of, tamper

KEYS = ServerKeys(b"n" * 32, 0)
THIEF = ServerKeys(b"t" * 32, 0)
TEST = Origin(actor="test")
TRUSTED = [KEYS.public_key]


async def fill(log: SqliteLog, count: int = 10) -> None:
    for number in range(count):
        event = folder_created(f"f{number}", f"Folder {number}")
        await log.append(Write(f"mailbox-{number % 2}", (event,)), origin=TEST)


def attestor(log: SqliteLog, clock: VirtualClock, keys: ServerKeys = KEYS, **settings: float) -> Attestor:
    return Attestor(log, keys, "alpha.example", clock, LogSettings(**settings))  # type: ignore[arg-type]


def verified(path: Path) -> LogReport:
    with LogReader.open(path) as reader:
        return verify_log(reader, TRUSTED)


def compared(path: Path, kept: CheckpointSigned) -> str:
    with LogReader.open(path) as reader:
        return compare_with_kept(reader, kept, TRUSTED, verify_log(reader, TRUSTED).sound)


async def test_a_sound_log_is_sound_and_attested_up_to_its_last_checkpoint(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    await attestor(log, clock).sign()
    await fill(log, 3)
    report = verified(path)
    assert (report.bad, report.sound) == (None, 14)
    assert (report.checkpoints, report.attested, report.attested_at) == (1, 10, clock.now())


@pytest.mark.parametrize(
    ("damage", "position"),
    [
        ("UPDATE events SET state = x'90' WHERE position = 4", 4),
        ("UPDATE events SET state = 7 WHERE position = 4", 4),
        ("UPDATE events SET topic = 'FolderRemoved' WHERE position = 5", 5),
        ("UPDATE events SET topic = CAST(x'ff41' AS TEXT) WHERE position = 5", 5),
        ("UPDATE events SET originator_id = 'mailbox-9' WHERE position = 6", 6),
        ("UPDATE events SET originator_version = 99 WHERE position = 7", 7),
        ("UPDATE events SET originator_version = -1 WHERE position = 7", 7),
        ("UPDATE events SET event_id = randomblob(16) WHERE position = 8", 8),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 2", 2),
        ("DELETE FROM events WHERE position = 3", 3),
        ("DELETE FROM events WHERE position = 1", 1),
        ("DELETE FROM events WHERE position > 8", 9),
        ("UPDATE events SET position = 99 WHERE position = 10", 10),
        (
            "INSERT INTO events SELECT 11, originator_id, 77, topic, randomblob(16), hash, state "  # noqa: ISC004
            "FROM events WHERE position = 5",
            11,
        ),
    ],
)
async def test_damage_is_named_by_the_first_position_where_it_shows(
    log: SqliteLog, path: Path, damage: str, position: int
) -> None:
    await fill(log)
    await log.close()
    tamper(path, damage)
    report = verified(path)
    assert (report.bad, report.sound) == (position, position - 1)
    assert report.problem


async def test_two_swapped_records_are_found_at_the_first_of_them(log: SqliteLog, path: Path) -> None:
    await fill(log)
    await log.close()
    tamper(
        path,
        "UPDATE events SET position = 100 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 6",
        "UPDATE events SET position = 6 WHERE position = 100",
    )
    assert verified(path).bad == 4


async def test_a_record_inserted_between_others_is_found(log: SqliteLog, path: Path) -> None:
    await fill(log)
    await log.close()
    tamper(
        path,
        "UPDATE events SET position = position + 1000 WHERE position > 5",
        "UPDATE events SET position = position - 999 WHERE position > 1000",
        "INSERT INTO events SELECT 6, originator_id, 77, topic, randomblob(16), hash, state FROM events "
        "WHERE position = 5",
    )
    assert verified(path).bad == 6


async def test_a_file_that_sqlite_can_not_read_is_a_finding_and_no_accident(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(log)
    with LogReader.open(path) as reader:
        monkeypatch.setattr(reader, "pages", _unreadable)
        report = verify_log(reader, TRUSTED)
    assert report.bad == 1
    assert "read" in report.problem


def _unreadable(**_: object) -> list[list[Row]]:
    raise StorageUnavailable("the log cannot be read now", "database disk image is malformed")


# Somebody who can compute hashes.


def renamed(row: Row) -> Row:
    """Put other words into what was recorded at position 3."""
    return row._replace(state=row.state.replace(b"Folder 2", b"Forged 2")) if row.position == 3 else row


async def test_a_rewritten_log_contradicts_the_checkpoints_that_were_kept_in_it(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    await attestor(log, clock).sign()
    await fill(log)
    await log.close()
    rewrite(path, renamed)
    report = verified(path)
    assert report.bad == 11
    assert "rewritten" in report.problem
    assert report.attested == 0


async def test_a_rewritten_log_without_its_checkpoints_contradicts_the_one_kept_elsewhere(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    kept = await attestor(log, clock).sign()
    await fill(log)
    await log.close()
    assert compared(path, kept) == ""
    rewrite(path, lambda row: renamed(row) if row.topic != "CheckpointSigned" else None)
    report = verified(path)
    assert (report.bad, report.checkpoints) == (None, 0)
    assert "rewritten" in compared(path, kept)


async def test_a_truncated_log_contradicts_the_checkpoint_kept_elsewhere(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    kept = await attestor(log, clock).sign()
    await log.close()
    rewrite(path, lambda row: row if row.position < 8 else None)
    assert verified(path).bad is None
    assert "cut off" in compared(path, kept)


async def test_a_truncated_log_betrays_itself_by_the_positions_that_were_given(
    log: SqliteLog, path: Path
) -> None:
    await fill(log)
    await log.close()
    rewrite(path, lambda row: row if row.position < 8 else None, keep_sequence=True)
    assert verified(path).bad == 8


async def test_a_checkpoint_before_a_damage_is_still_proven_and_one_behind_it_is_not(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    before = await attestor(log, clock).sign()
    await fill(log)
    behind = await attestor(log, clock).sign()
    await log.close()
    tamper(path, "UPDATE events SET state = x'90' WHERE position = 15")
    assert compared(path, before) == ""
    assert "damaged" in compared(path, behind)


async def test_a_checkpoint_signed_by_another_key_is_found(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    await attestor(log, clock, THIEF).sign()
    report = verified(path)
    assert report.bad == 11
    assert "not this node" in report.problem
    with LogReader.open(path) as reader:
        assert verify_log(reader, [*TRUSTED, THIEF.public_key]).bad is None


async def test_a_checkpoint_about_what_comes_after_it_is_found(
    log: SqliteLog, clock: VirtualClock, path: Path
) -> None:
    await fill(log)
    digest = rows_of(path)[4].hash
    await log.append(Write("checkpoints", (signed(KEYS, "alpha.example", 99, digest, 1),)), origin=TEST)
    assert "does not follow" in verified(path).problem


@pytest.mark.parametrize(
    "members",
    [
        {"position": 9},
        {"hash": "00" * 32},
        {"at": 5},
        {"domain": "beta.example"},
        {"node": str(THIEF.did)},
        {"public_key": file_content(signed(THIEF, "alpha.example", 1, b"", 1))["public_key"]},
        {"signature": "AAAA"},
        {"signature": "A" * 86 + "=="},
    ],
)
def test_no_member_of_a_checkpoint_can_be_changed(members: dict[str, object]) -> None:
    checkpoint = signed(KEYS, "alpha.example", 5, b"h" * 32, 1_760_000_000_000)
    assert objection(checkpoint, TRUSTED) == objection(checkpoint, []) == ""
    assert objection(msgspec.structs.replace(checkpoint, **members), TRUSTED)
    assert objection(msgspec.structs.replace(checkpoint, **members), [])


# When it is due.


async def newest(log: SqliteLog) -> object:
    (record,) = await log.read(log.head - 1, 1)
    return record.event


async def test_a_checkpoint_is_due_after_so_many_events(log: SqliteLog, clock: VirtualClock) -> None:
    signer = attestor(log, clock, checkpoint_events=5)
    await fill(log, 4)
    await signer.look()
    assert log.head == 4
    await fill(log, 1)
    await signer.look()
    checkpoint = await newest(log)
    assert isinstance(checkpoint, CheckpointSigned)
    assert checkpoint.position == 5
    await signer.look()
    assert log.head == 6


async def test_a_checkpoint_is_due_after_so_long_if_anything_is_new(
    log: SqliteLog, clock: VirtualClock
) -> None:
    signer = attestor(log, clock, checkpoint_hours=2.0)
    clock.advance(10 * 3_600_000)
    await signer.look()
    assert log.head == 0
    await fill(log, 1)
    await signer.look()
    assert isinstance(await newest(log), CheckpointSigned)
    clock.advance(10 * 3_600_000)
    await signer.look()
    assert log.head == 2
    await fill(log, 1)
    await signer.look()
    assert log.head == 4


async def test_an_empty_log_is_not_signed_and_a_signed_one_not_again(
    log: SqliteLog, clock: VirtualClock
) -> None:
    signer = attestor(log, clock)
    with pytest.raises(Conflict):
        await signer.sign()
    assert await signer.try_to_sign() is None
    await fill(log, 1)
    assert await signer.try_to_sign() == 2
    assert await signer.try_to_sign() is None
    assert await signer.sign() == await signer.sign()
    assert log.head == 2


async def test_events_that_came_while_it_was_signed_are_still_to_be_signed(
    log: SqliteLog, clock: VirtualClock
) -> None:
    signer = attestor(log, clock, checkpoint_events=3)
    await fill(log, 3)
    await signer.sign()
    await fill(log, 2)
    await signer.look()
    assert log.head == 6
    await fill(log, 1)
    await signer.look()
    assert log.head == 8


# The file.


def test_a_kept_file_says_what_was_signed(tmp_path: Path) -> None:
    checkpoint = signed(KEYS, "alpha.example", 5, b"h" * 32, 1)
    file = tmp_path / "checkpoint.json"
    file.write_bytes(msgspec.json.encode(file_content(checkpoint)))
    assert read_file(file) == checkpoint


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"type": "mailio_log_checkpoint"}', b"\xff", b"{" * 9999]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "checkpoint.json"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="log checkpoint"):
        read_file(file)


def test_the_event_survives_the_log() -> None:
    checkpoint = signed(KEYS, "alpha.example", 5, b"h" * 32, 1)
    payload, as_read = Codec().payload(checkpoint)
    assert payload
    assert as_read == checkpoint
