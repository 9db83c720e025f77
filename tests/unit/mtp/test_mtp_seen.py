"""The memory of lookups: survives a restart, forgets what is over, stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.errors import Conflict, StorageUnavailable
from events.log.clock import VirtualClock
from node.mtp import seen
from node.mtp.seen import ENTRY_BYTES, SeenLookups


def test_a_signature_counts_once_for_each_peer(tmp_path: Path) -> None:
    clock = VirtualClock()
    memory = SeenLookups(tmp_path / "seen", clock, 600)
    memory.require_new("a.example", b"s", clock.now())
    memory.require_new("b.example", b"s", clock.now())
    with pytest.raises(Conflict):
        memory.require_new("a.example", b"s", clock.now())
    with pytest.raises(Conflict):
        SeenLookups(tmp_path / "seen", clock, 600).require_new("a.example", b"s", clock.now())


def test_a_torn_end_of_the_file_is_cut_off(tmp_path: Path) -> None:
    clock, file = VirtualClock(), tmp_path / "seen"
    memory = SeenLookups(file, clock, 600)
    for number in range(3):
        memory.require_new("a.example", bytes([number]), clock.now())
    file.write_bytes(file.read_bytes()[:-5])
    again = SeenLookups(file, clock, 600)
    assert file.stat().st_size == 2 * ENTRY_BYTES
    again.require_new("a.example", b"\2", clock.now())
    with pytest.raises(Conflict):
        SeenLookups(file, clock, 600).require_new("a.example", b"\2", clock.now())


def test_what_is_over_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "COMPACT_ENTRIES", 10)
    clock, file = VirtualClock(), tmp_path / "seen"
    memory = SeenLookups(file, clock, 600)
    for number in range(100):
        clock.advance(100_000)
        memory.require_new("a.example", bytes([number]), clock.now())
    assert len(memory._seen) <= 20
    assert file.stat().st_size <= 20 * ENTRY_BYTES


def test_a_disk_that_fails_refuses_the_lookup(tmp_path: Path) -> None:
    clock = VirtualClock()
    memory = SeenLookups(tmp_path / "seen", clock, 600)
    (tmp_path / "seen").unlink()
    (tmp_path / "seen").mkdir()
    with pytest.raises(StorageUnavailable):
        memory.require_new("a.example", b"s", clock.now())


def test_without_a_window_nothing_is_remembered(tmp_path: Path) -> None:
    clock = VirtualClock()
    memory = SeenLookups(tmp_path / "seen", clock, 0)
    for _ in range(2):
        memory.require_new("a.example", b"s", clock.now())
