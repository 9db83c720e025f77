"""One daemon per store: a locked file beside it, which says who."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from events.errors import Misconfigured


class Ownership:
    """Holds `<store>.lock` until released; the kernel releases it when the process dies, however it dies."""

    def __init__(self, store: Path) -> None:
        """Take the lock. Raises Misconfigured when another holds it or the folder can't be written."""
        self._path = store.with_name(store.name + ".lock")
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured(f"cannot write beside {store}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise Misconfigured(
                f"another daemon (pid {holder}) uses {store}: stop it or choose another data folder"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one have the store. The file stays: removing it would race with its next opener."""
        os.close(self._file)
