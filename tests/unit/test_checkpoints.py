"""The file of checkpoints: replaced whole, lost without harm, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.errors import StorageUnavailable
from node.storage.checkpoints import FileCheckpoints, read_checkpoints


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.json"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_what_was_saved_is_there_after_a_restart(path: Path) -> None:
    await FileCheckpoints(path).save("dispatcher", 7)
    assert await FileCheckpoints(path).load("dispatcher") == 7
    assert await FileCheckpoints(path).load("another") == 0


@pytest.mark.parametrize("content", [b"", b'{"dispatcher": 7', b"[]", b'{"dispatcher": "seven"}'])
async def test_a_file_that_cannot_be_read_counts_as_empty(path: Path, content: bytes) -> None:
    assert read_checkpoints(_written(path, content)) == {}
    assert await FileCheckpoints(path).load("dispatcher") == 0


async def test_what_a_death_in_the_middle_of_saving_left_is_gone_after_the_next_start(path: Path) -> None:
    await FileCheckpoints(path).save("dispatcher", 7)
    aside = _written(path.with_suffix(".new"), b'{"dispatcher": 8}')
    assert await FileCheckpoints(path).load("dispatcher") == 7
    assert not aside.exists()


def test_a_reader_beside_the_node_leaves_a_file_alone_that_is_being_written(path: Path) -> None:
    aside = path.with_suffix(".new")
    aside.write_bytes(b"{}")
    assert read_checkpoints(path) == {}
    assert aside.exists()


@pytest.mark.parametrize("name", ["checkpoints.json", "checkpoints.new"])
def test_a_disk_that_fails_at_start_is_told_as_such(path: Path, name: str) -> None:
    """A folder in the file's place fails as a broken disk does: it can neither be read nor removed as a file."""
    path.with_name(name).mkdir()
    with pytest.raises(StorageUnavailable) as told:
        FileCheckpoints(path)
    assert name in str(told.value.private)
