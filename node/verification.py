"""Verifying the log: every hash, every signed checkpoint, and one that was kept elsewhere."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from events.attestation import CheckpointSigned
from events.errors import CorruptRecord, MailioError
from events.log.chain import GENESIS, Row, record_hash
from events.log.codec import Codec
from events.log.reading import LogReader
from node.attestation import objection, read_file
from node.crypto.keys import load_server_keys, public_key_from_base64
from node.settings import Settings

Show = Callable[[int, int], None]
"""Told (records done, records in all)."""


class LogReport(msgspec.Struct, kw_only=True):
    """What a verification found.

    All is well up to `sound`; `bad` is the first position that is not, `problem` says what is wrong there.
    `attested` is the position up to which a signed checkpoint vouches for the history, 0 for none;
    `checkpoints` counts the good ones.
    """

    sound: int = 0
    bad: int | None = None
    problem: str = ""
    attested: int = 0
    attested_at: int = 0
    checkpoints: int = 0


def trusted_keys(settings: Settings) -> list[bytes]:
    """Return the public keys that this node signs and signed with; none when its key file is not here.

    Raises Misconfigured when the key file, or a key in the settings, is none.
    """
    path = settings.node.data / "keys" / "server.json"
    keys = list(load_server_keys(path).known) if path.exists() else []
    return keys + [public_key_from_base64(text) for text in settings.log.former_keys]


def nobody(done: int, total: int) -> None:
    """Show nothing."""


def verify_log(reader: LogReader, trusted: Collection[bytes], show: Show = nobody) -> LogReport:
    """Check every record and every checkpoint up to the first that is bad."""
    report = LogReport()
    check = _Check(reader, trusted, report)
    try:
        head = reader.head.position
        for page in reader.pages(upto=head):
            for row in page:
                check.record(row)
                if report.bad is not None:
                    return report
            show(report.sound, head)
    except MailioError as error:
        check.found(report.sound + 1, str(error))
        return report
    if reader.given > max(report.sound, head):
        gone = f"positions up to {reader.given} were given, and the newest records are gone"
        check.found(report.sound + 1, gone)
    return report


class _Check:
    """Goes along the log; `report` says how far, and stops growing at the first bad record."""

    def __init__(self, reader: LogReader, trusted: Collection[bytes], report: LogReport) -> None:
        self._reader = reader
        self._trusted = trusted
        self._report = report
        self._previous = GENESIS
        self._codec = Codec()

    def record(self, row: Row) -> None:
        """Look at the record behind those that were sound."""
        due = self._report.sound + 1
        if row.position != due:
            self.found(due, f"the record is missing; the next one is at position {row.position}")
        elif _digest(self._previous, row) != row.hash:
            self.found(due, "the record is not what was written there")
        else:
            self._previous = row.hash
            if row.topic == CheckpointSigned.__name__:
                self._checkpoint(row)
            if self._report.bad is None:
                self._report.sound = due

    def found(self, position: int, problem: str) -> None:
        """Note the first bad position."""
        self._report.bad, self._report.problem = position, problem

    def _checkpoint(self, row: Row) -> None:
        """Look at a signed checkpoint in the log, whose record itself is sound."""
        report = self._report
        try:
            checkpoint = self._codec.decode(row).event
        except MailioError as error:
            self.found(row.position, str(error))
            return
        assert isinstance(checkpoint, CheckpointSigned)
        problem = objection(checkpoint, self._trusted) or self._contradiction(checkpoint, row.position)
        if problem:
            self.found(row.position, f"the signed checkpoint there can't be believed: {problem}")
            return
        report.checkpoints += 1
        report.attested, report.attested_at = checkpoint.position, checkpoint.at

    def _contradiction(self, checkpoint: CheckpointSigned, position: int) -> str:
        if not 0 < checkpoint.position < position:
            return f"it is about position {checkpoint.position}, which it does not follow"
        if _hash_at(self._reader, checkpoint.position) != checkpoint.hash:
            return f"another history was signed up to position {checkpoint.position}: the log was rewritten"
        return ""


def _digest(previous: bytes, row: Row) -> bytes:
    """Compute a record's hash; no hash where a column holds what never was written there."""
    try:
        return record_hash(previous, *row[:6])
    except (TypeError, AttributeError, ValueError, struct.error):
        return b""


def _hash_at(reader: LogReader, position: int) -> str:
    found = reader.hash_at(position)
    return found.hex() if found is not None else ""


def compare_with_kept(
    reader: LogReader, checkpoint: CheckpointSigned, trusted: Collection[bytes], sound: int
) -> str:
    """Say how the log differs from the history of a checkpoint kept elsewhere; "" when it contains it.

    `sound` is the position up to which the chain was verified.
    """
    if problem := objection(checkpoint, trusted):
        return f"the checkpoint can't be believed: {problem}"
    position = checkpoint.position
    end = reader.head.position
    if end < position:
        return f"the log was cut off: it ends at position {end}, the checkpoint is of {position}"
    if _hash_at(reader, position) != checkpoint.hash:
        return f"the log was rewritten: up to position {position} it is not the history that was signed"
    if sound < position:
        return f"the log is damaged before position {position}, of which the checkpoint is"
    return ""


def verified(settings: Settings, kept: Sequence[Path] = (), show: Show = nobody) -> dict[str, Any]:
    """Verify the log of a node and compare it with checkpoints that were kept; the report is JSON.

    Raises Misconfigured, InvalidInput for a file that is no checkpoint.
    """
    outside = [(path, read_file(path)) for path in kept]
    trusted = trusted_keys(settings)
    try:
        opened = LogReader.open(settings.node.data / "log.sqlite")
    except CorruptRecord as error:
        unread = [_compared(path, checkpoint, "the log can't be read") for path, checkpoint in outside]
        return _told(LogReport(), str(error), unread)
    with opened as reader:
        report = verify_log(reader, trusted, show)
        compared = [
            _compared(path, checkpoint, compare_with_kept(reader, checkpoint, trusted, report.sound))
            for path, checkpoint in outside
        ]
    return _told(report, "" if report.bad is None else _bad(report), compared)


def _compared(path: Path, checkpoint: CheckpointSigned, problem: str) -> dict[str, Any]:
    return {"file": str(path), "position": checkpoint.position, "problem": problem}


def _told(report: LogReport, problem: str, compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "events": report.sound,
        "log": problem or "every hash is right",
        "firstBad": report.bad,
        "checkpoints": report.checkpoints,
        "attested": report.attested,
        "attestedAt": report.attested_at,
        "kept": compared,
        "logDamaged": bool(problem) or any(each["problem"] for each in compared),
    }


def _bad(report: LogReport) -> str:
    return f"the first bad record is at position {report.bad}: {report.problem}"
