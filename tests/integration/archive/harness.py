"""Two nodes without doors, an account on the first, and archives that were tampered with."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from events.mail import Recipient
from node.archive.content import EVENTS, MANIFEST, SIGNATURE, Manifest, Member, signed
from node.archive.exporting import Exported, export
from node.archive.importing import imported
from node.core import Core
from node.crypto.base64_text import to_base64
from node.crypto.keys import SigningKeys, UserKeys
from tests.integration.backup.harness import FACTS, FRIEND, Place, nobody_watches, open_account

OWNER = "someone@alpha.example"
OTHER = "other@alpha.example"

Members = dict[str, bytes]


def mail(subject: str, text: str = "Hello") -> bytes:
    """A message with a file and with a line that mbox has to quote."""
    return (
        f"From: {FRIEND}\r\nTo: {OWNER}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\nFrom here on: {subject}\r\n"
        ">From there\r\n"
        "--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=numbers.csv\r\n\r\n"
        f"1,{subject}\r\n--b--\r\n"
    ).encode()


async def deliver(core: Core, raw: bytes, *addresses: tuple[str, str]) -> None:
    """Take a mail for (address, email) pairs and have it filed."""
    to = tuple(Recipient(address, email) for address, email in addresses)
    await core.acceptance.accept(FACTS, FRIEND, to, raw)
    await settled(core)


async def settled(core: Core) -> None:
    await core.dispatcher.reached(core.log.head)
    for view in ("userdb", "directory"):
        await core.views.reached(view, core.log.head)


async def filled(core: Core) -> UserKeys:
    """Open the owner's account and another, with mails of their own and one to both; return the owner's keys."""
    keys, other = await open_account(core, OWNER), await open_account(core, OTHER)
    await deliver(core, mail("one"), (keys.address, OWNER))
    await deliver(core, mail("two", "Größe"), (keys.address, OWNER), (other.address, OTHER))
    await deliver(core, mail("not theirs"), (other.address, OTHER))
    return keys


def write_archive(place: Place, file: Path, name: str = OWNER) -> Exported:
    return export(place.settings, name, file, nobody_watches)


async def bring_in(core: Core, file: Path, email: str = "", node: str = "") -> dict[str, Any]:
    """Import and return the result."""
    last: dict[str, Any] = {}
    async for told in imported(core, file, email, node):
        last = told
    return last


def members_of(file: Path) -> Members:
    """All members of an archive by name, read by the standard library."""
    with tarfile.open(file) as tape:
        found = {}
        for member in tape:
            content = tape.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
        return found


def lines_of(members: Members) -> list[dict[str, Any]]:
    """The events of an archive."""
    return [json.loads(line) for line in members[EVENTS].splitlines()]


def resigned(members: Members, keys: SigningKeys | None = None, **changes: Any) -> Members:
    """Let a manifest say what the members are now, signed by a stranger's node."""
    keys = keys or UserKeys.generate()
    known = msgspec.json.decode(members[MANIFEST], type=Manifest)
    listed = tuple(
        Member(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in members.items()
        if not name.startswith("manifest")
    )
    told = {
        "node": keys.address,
        "public_key": to_base64(keys.public_key),
        "members": listed,
        "events": members[EVENTS].count(b"\n"),
    } | changes
    content, signature = signed(msgspec.structs.replace(known, **told), keys)
    return {MANIFEST: content, SIGNATURE: signature} | {
        name: content for name, content in members.items() if not name.startswith("manifest")
    }


def with_events(members: Members, change: Callable[[list[dict[str, Any]]], None]) -> Members:
    """Change the events and sign anew."""
    lines = lines_of(members)
    change(lines)
    return resigned(members | {EVENTS: b"".join(json.dumps(line).encode() + b"\n" for line in lines)})


def packed(members: Members, *more: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Write members as a tar file, then any others."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tape:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
        for info, content in more:
            tape.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(content: bytes) -> bytes:
    return gzip.compress(content)
