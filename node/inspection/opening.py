"""The log of a configuration, opened for looking, whether a node runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from events.log.codec import Codec
from events.log.reading import LogReader
from events.log.sqlite_log import bound_vault
from events.types import known_types
from node.crypto.envelope import Envelopes
from node.crypto.vault import Vault, vault_path


@contextmanager
def opened(data: Path) -> Iterator[tuple[LogReader, Codec]]:
    """Open the log below a data folder, and what decodes its records with the keys that are left.

    Raises Misconfigured when there is no log, or the vault is not the one that the log is sealed with.
    """
    path = data / "log.sqlite"
    with LogReader.open(path) as reader:
        vault = Vault.open_read_only(vault_path(data), bound_vault(path))
        try:
            yield reader, Codec(known_types(), sealer=Envelopes(vault) if vault else None)
        finally:
            if vault is not None:
                vault.close()
