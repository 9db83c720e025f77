"""What an archive of an account consists of.

manifest.json    what this is, and size and SHA-256 of every member; `manifest.sig` beside it signs it
README.txt       the same in words
events.jsonl     one recorded event a line, oldest first
mbox/….mbox      the mails by folder, for any mail program
blobs/<sha256>   what the events name: raw mails, documents, attachments
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from events import account, handshake, mailbox
from events.errors import CorruptRecord, Misconfigured
from events.mail import STREAM as MAIL_STREAM
from node.crypto.keys import SigningKeys
from node.crypto.signed_file import require_signature, signature_of

FORMAT: Final = 1
"""Raised when an older program could not import the archive any more."""

KIND: Final = "mailio-account"

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
README: Final = "README.txt"
EVENTS: Final = "events.jsonl"
BLOBS: Final = "blobs/"

MAX_MANIFEST: Final = 64 << 20
"""Bytes of a manifest: some 150 for each blob, so 400,000 of them."""

MAX_EVENTS: Final = 300_000
"""Events of one archive. All are appended in one transaction, which holds other writers for some seconds."""

MAX_LINE: Final = 32 << 20
"""Bytes of one line of events: a record has 16 MiB at most, and JSON is longer than MessagePack."""

_MEMBER = re.compile(
    r"README\.txt|events\.jsonl|mbox/[A-Za-z0-9][A-Za-z0-9._-]{0,79}\.mbox|blobs/[0-9a-f]{64}"
)


class Member(msgspec.Struct, frozen=True):
    """One file of an archive."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an archive says of itself. `at` is in milliseconds, `position` how far the log had come."""

    kind: str
    format: int
    software: str
    node: str
    public_key: str
    domain: str
    address: str
    email: str
    at: int
    position: int
    events: int
    members: tuple[Member, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event. All but the last three is as in the log that it comes from.

    `event` are its members, with blobs named by the SHA-256 of what they hold here.
    """

    position: int
    stream: str
    version: int
    id: str
    at: int
    actor: str
    correlation: str
    causation: str
    software: str
    imported: str = ""
    hash: str = ""
    type: str
    event: msgspec.Raw


class _Head(msgspec.Struct):
    kind: str
    format: int
    software: str = "an unnamed program"


def streams_of(address: str) -> tuple[str, str, str]:
    """Names of the three streams that are one account's alone."""
    return account.stream(address), mailbox.stream(address), handshake.stream(address)


def is_mail_stream(name: str) -> bool:
    """Whether a stream is that of one accepted mail."""
    return name.startswith(MAIL_STREAM)


def signed(manifest: Manifest, keys: SigningKeys) -> tuple[bytes, bytes]:
    """Serialise and sign; return the contents of manifest and signature."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    return content, signature_of(content, keys)


def opened(content: bytes, signature: bytes) -> Manifest:
    """Read a manifest whose signature holds and whose members can be what an archive has.

    Raises Misconfigured for a newer format, CorruptRecord for everything else that is not right.
    """
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.kind != KIND:
            raise CorruptRecord("this is no archive of an account", head.kind[:80])
        if head.format > FORMAT:
            raise Misconfigured(f"the archive has format {head.format}: install {head.software[:80]}")
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptRecord("the manifest can't be read", str(error)) from error
    require_signature(content, signature, manifest.public_key, manifest.node)
    names = [member.name for member in manifest.members]
    if len(set(names)) != len(names) or not all(map(_MEMBER.fullmatch, names)):
        raise CorruptRecord("the manifest names a file that no archive has, or one twice")
    for member in manifest.members:
        if member.size < 0 or (member.name.startswith(BLOBS) and member.name != BLOBS + member.sha256):
            raise CorruptRecord("the manifest contradicts itself", member.name)
    return manifest
