"""How far each consumer of the log has come, in one small file that may be lost without harm."""

from __future__ import annotations

from pathlib import Path

import msgspec

from events.errors import StorageUnavailable
from events.log import failpoints


class FileCheckpoints:
    """A `CheckpointStore` in one JSON file, replaced whole.

    It is not synced: after a power loss an older checkpoint means that finished work is looked at again
    and recognised as done.
    """

    def __init__(self, path: Path) -> None:
        """Keep the checkpoints in `path`; an unreadable file counts as empty.

        What a death in the middle of a replacement left beside it goes. Raises StorageUnavailable.
        """
        self._path = path
        self._aside = path.with_suffix(".new")
        try:
            self._aside.unlink(missing_ok=True)
            self._positions = read_checkpoints(path)
        except OSError as error:
            raise StorageUnavailable("storage is not available now", f"{path}: {error}") from error

    async def load(self, name: str) -> int:
        """Return the position last saved under this name, 0 for a new one."""
        return self._positions.get(name, 0)

    @failpoints.after("checkpoint-moved")
    async def save(self, name: str, position: int) -> None:
        """Keep the position."""
        self._positions[name] = position
        self._written_aside().replace(self._path)

    @failpoints.after("checkpoint-written")
    def _written_aside(self) -> Path:
        self._aside.write_bytes(msgspec.json.encode(self._positions))
        return self._aside


def read_checkpoints(path: Path) -> dict[str, int]:
    """Return all positions by name; none when the file is missing or has no such content. Raises OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
