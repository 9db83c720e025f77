"""A node whose door for peers is open, and somebody on it whom peers write to."""

from __future__ import annotations

from tests.integration.mtp.conftest import alice, receiver

__all__ = ["alice", "receiver"]
