"""What the embedded stores keep beside their files: a bounded write-ahead log, remembered documents and blobs."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from events.errors import StorageUnavailable
from node.storage.recent import Recent
from projections.stores import embedded
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Change


def change(seq: int, generation: int = 1, size: int = 10, id: str = "d") -> Change:  # noqa: A002
    revisions = tuple(f"{number}-{number:032x}" for number in range(generation, 0, -1))
    return Change(database="db", id=id, seq=seq, revisions=revisions, body=b'{"x":"%s"}' % (b"x" * size))


@pytest.mark.parametrize("size", [10, embedded.SMALL_BYTES + 1])
async def test_the_write_ahead_log_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    bound = 4 * (embedded.SMALL_BYTES + 1)
    monkeypatch.setattr(embedded, "WAL_BYTES", bound)
    store = EmbeddedStore.open(tmp_path / "v")
    log = f"{(tmp_path / 'v').resolve()}-wal"
    lengths = []
    for seq in range(1, 121):
        await store.write([change(seq, size=size, id=f"d{seq}")], seq, 1)
        lengths.append(os.path.getsize(log))  # noqa: ASYNC240, PTH202 - a test waits for nobody
    assert max(lengths) < 2 * bound + size
    assert any(later < earlier for earlier, later in pairwise(lengths))
    await store.close()
    store = EmbeddedStore.open(tmp_path / "v")
    assert (await store.info("db")).doc_count == 120
    await store.close()


async def test_a_remembered_document_is_forgotten_when_it_changes_or_the_store_closes(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path / "v")
    assert await store.get("db", "d") is None
    for generation in (1, 2, 3):
        await store.write([change(generation, generation)], generation, 1)
        for _ in range(2):
            found = await store.get("db", "d")
            assert found is not None
            assert found.winner.rev.startswith(f"{generation}-")
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.get("db", "d")


async def test_a_bounded_number_of_documents_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "KNOWN_DOCUMENTS", 5)
    store = EmbeddedStore.open(tmp_path / "v")
    await store.write([change(seq, id=f"d{seq}") for seq in range(1, 21)], 20, 1)
    for seq in range(1, 21):
        found = await store.get("db", f"d{seq}")
        assert found is not None
        assert found.seq == seq
    assert len(store._known) == 5
    await store.close()


def test_recent_blobs_leave_in_the_order_they_came_when_there_are_too_many_bytes() -> None:
    recent = Recent(limit=10, longest=6)
    for name, body in (("a", b"1234"), ("b", b"1234"), ("b", b"1234"), ("long", b"1234567"), ("c", b"123")):
        recent.keep(name, body)
    assert [recent.get(name) for name in ("a", "b", "long", "c")] == [None, b"1234", None, b"123"]
