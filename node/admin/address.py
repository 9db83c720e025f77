"""Where the operator's socket is: known to the door and its clients, which need nothing else of the node."""

from __future__ import annotations

from pathlib import Path


def socket_path(data: Path) -> Path:
    """Where the daemon of a data folder listens."""
    return data / "admin.sock"
