"""The manifest of one point of a backup: what it consists of, signed by the node.

Beside it lies `manifest.sig`: base64 of the Ed25519 signature over the manifest's bytes as they stand.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from events.errors import CorruptRecord, Misconfigured
from node.crypto.keys import SigningKeys
from node.crypto.signed_file import require_signature, signature_of

FORMAT: Final = 1
"""Raised when an older program could not restore the point any more."""

MAX_BYTES: Final = 64 << 20
"""A manifest has some 200 bytes for each segment of 256 MiB; more is no manifest."""

LOG: Final = "log.sqlite"
CONFIGURATION: Final = "node.toml"
BLOBS: Final = "blobs/"
KEYS: Final = "keys/"

_PLACE = re.compile(r"log\.sqlite|node\.toml|(keys|blobs)/[A-Za-z0-9][A-Za-z0-9._-]*")
# What a point may hold: no name leads anywhere else.


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a point.

    `name` is its place below the data folder, `stored` its place in the point's folder or, for `shared` ones,
    in the backup's. `size` and `sha256` (hex) are those of the first `size` bytes: a shared segment file may
    have grown since. `final` tells that the node will never append to it again.
    """

    name: str
    stored: str
    size: int
    sha256: str
    shared: bool = False
    final: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a point is. `at` is in milliseconds; `position` and `hash` (hex) are the copied log's head.

    `checkpoints` say up to where every event of the copied log is answered or parked, by consumer.
    """

    format: int
    software: str
    node: str
    public_key: str
    domain: str
    point: str
    at: int
    position: int
    hash: str
    checkpoints: dict[str, int] = {}
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class _Head(msgspec.Struct):
    """What every format has."""

    format: int
    software: str = "an unnamed program"


def signed(manifest: Manifest, keys: SigningKeys) -> tuple[bytes, bytes]:
    """Serialise and sign; return the contents of `manifest.json` and `manifest.sig`."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    return content, signature_of(content, keys)


def opened(content: bytes, signature: bytes) -> Manifest:
    """Read a manifest whose signature holds and whose key is the named node's.

    Raises Misconfigured for a newer format, CorruptRecord for everything that is not as it was written.
    """
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.format > FORMAT:
            raise Misconfigured(
                f"the backup has format {head.format}, written by {head.software}: install that version "
                f"(this program knows format {FORMAT})"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except Misconfigured:
        raise
    except msgspec.MsgspecError as error:
        raise CorruptRecord("the manifest can't be read", str(error)) from error
    require_signature(content, signature, manifest.public_key, manifest.node)
    if not all(_PLACE.fullmatch(place) for file in manifest.files for place in (file.name, file.stored)):
        raise CorruptRecord("the manifest names a file that no backup has")
    return manifest
