"""Signed checkpoints: "at this position the log had this hash", says the node. Pure.

The hash chain shows that a record was changed, but not that the whole log was: who rewrites it can compute a
new chain. They can't sign for the node, and they can't change a checkpoint that is kept elsewhere.
"""

from __future__ import annotations

from typing import Final

from events.event import Event

STREAM: Final = "checkpoints"

_FORM: Final = "mailio log checkpoint 1"


class CheckpointSigned(Event, frozen=True, kw_only=True):
    """The node vouches for its log up to `position`, whose record has the `hash` (64 hex digits).

    `at` is in milliseconds, `node` the DID of the signing key and `domain` the server's name. `public_key`
    (32 bytes) and `signature` (Ed25519, 64 bytes, over `signed_bytes`) are base64.
    """

    position: int
    hash: str
    at: int
    node: str
    domain: str
    public_key: str
    signature: str


def signed_bytes(*, position: int, hash: str, at: int, node: str, domain: str) -> bytes:  # noqa: A002
    """Return what is signed: a line for the form and one for each member, ended by line feeds."""
    return f"{_FORM}\n{node}\n{domain}\n{position}\n{hash}\n{at}\n".encode()
