"""The stores of a node opened for reading, beside a running daemon or without one: log, blobs, keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from events.errors import Misconfigured
from events.log.clock import SystemClock
from events.log.codec import Codec
from events.log.sqlite_log import SqliteLog, bound_vault
from node.crypto.envelope import Envelopes
from node.crypto.vault import Vault, vault_path
from node.storage.reading import BlobReader
from node.storage.sealed import SealedReader


class ReadOnlyStores:
    """What can be read of a node: sealed records and blobs are opened with the keys that are left."""

    def __init__(self, data: Path, software: str, vault: Vault | None) -> None:
        """Use `reading` instead."""
        self._vault = vault
        self._data = data
        codec = Codec(sealer=Envelopes(vault) if vault else None)
        self.log = SqliteLog.open(data / "log.sqlite", SystemClock(), software, readonly=True, codec=codec)

    def open_blobs(self) -> SealedReader:
        """Open the blobs; whoever opens them closes them. Raises StorageUnavailable when there are none."""
        envelopes = Envelopes(self._vault, named=True) if self._vault else None
        return SealedReader(BlobReader.open(self._data / "blobs"), envelopes)


@asynccontextmanager
async def reading(data: Path, software: str) -> AsyncIterator[ReadOnlyStores]:
    """Open the stores of a data folder for a block. `software` is named in what goes wrong.

    Raises Misconfigured when there is no log, or the vault is not the one that the log is sealed with.
    """
    path = data / "log.sqlite"
    if not path.exists():
        raise Misconfigured(f"{data}: there is no log here: has a node run with this configuration?")
    vault = Vault.open_read_only(vault_path(data), bound_vault(path))
    try:
        stores = ReadOnlyStores(data, software, vault)
        try:
            yield stores
        finally:
            await stores.log.close()
    finally:
        if vault is not None:
            vault.close()
