"""Sealed payloads: what an event says about a person is encrypted under that person's key.

In a record's state (`events.log.codec`) the payload is then a MessagePack binary in place of a map: an
envelope that only a `Sealer` can open. It is bound to its place, so that no record can be passed off as
another: type, schema, event id and stream go into the authenticated data. The chain of hashes covers the
envelope and is verified without any key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

_BINARIES: Final = frozenset((0xC4, 0xC5, 0xC6))
# First byte of a MessagePack binary (bin 8, bin 16, bin 32); that of a map is another.

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(bytes).decode


class SealBroken(Exception):
    """An envelope is not what was sealed, or was sealed for another place. The text says what is wrong."""


class Sealer(Protocol):
    """Seals and opens envelopes with the keys of one vault."""

    @property
    def vault(self) -> str:
        """Identity of the vault: a log is bound to the one it was written with."""

    def seal(self, plain: bytes, owners: Sequence[str], bound: bytes) -> bytes:
        """Encrypt for the owners (Mailio addresses), each of whose keys will open it.

        Raises Gone when none of them is left: their keys were destroyed.
        """

    def open(self, envelope: bytes, bound: bytes) -> bytes | None:
        """Return what was sealed, None when the keys of all owners were destroyed.

        Raises SealBroken, also when the vault never had such a key.
        """


def bound_to(stream: str, topic: str, schema: int, event_id: bytes) -> bytes:
    """Return what an envelope is bound to: where it stands, and as what."""
    return b"%b%b\0%d\0%b" % (event_id, topic.encode(), schema, stream.encode())


def packed(envelope: bytes) -> bytes:
    """Return the envelope as the payload of a record."""
    return _encode(envelope)


def is_sealed(payload: msgspec.Raw) -> bool:
    """Whether the payload of a record is an envelope, not the members themselves."""
    return memoryview(payload)[0] in _BINARIES


def unpacked(payload: msgspec.Raw) -> bytes:
    """Return the envelope in a sealed payload. Raises msgspec.MsgspecError."""
    return _decode(payload)
