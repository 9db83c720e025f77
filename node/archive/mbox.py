"""Mails as mbox files (the variant mboxrd): one file a folder, for any mail program.

Each message stands behind a `From ` line, as it came in but for line ends (LF) and for lines of `>` and
`From `, which get one more `>`. In front of its own header stand fields that say where it was in the mailbox.
"""

from __future__ import annotations

import hashlib
import re
import time
from email.header import Header
from typing import Final

import msgspec

MAX_NAME: Final = 60
"""Characters of a folder's id that go into the name of its file."""

MAX_FIELD: Final = 200
"""Characters of a header: a client may call a folder what it likes."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_QUOTED = re.compile(rb"^(>*From )", re.MULTILINE)
_SENDER = re.compile(r"[\x21-\x7e]{1,254}")


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a mail was: `at` is when it came in (ms)."""

    id: str
    folder: str
    reason: str
    sender: str
    at: int
    read: bool


def file_name(folder: str) -> str:
    """Name the file of a folder: its id, if that can be a file's name, else one with a digest in it."""
    plain = _UNSAFE.sub("_", folder)[:MAX_NAME].lstrip("._-") or "folder"
    if plain != folder:
        plain = f"{plain}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
    return f"mbox/{plain}.mbox"


def entry(raw: bytes, placed: Placed) -> bytes:
    """Return a message as it stands in an mbox file."""
    sender = placed.sender if _SENDER.fullmatch(placed.sender) else "MAILER-DAEMON"
    moment = time.asctime(time.gmtime(placed.at / 1000))
    fields = {
        "X-Mailio-Id": placed.id,
        "X-Mailio-Folder": placed.folder,
        "X-Mailio-Reason": placed.reason,
        "Status": "RO" if placed.read else "O",
    }
    head = "".join(f"{name}: {_field(text)}\n" for name, text in fields.items())
    body = _QUOTED.sub(rb">\1", raw.replace(b"\r\n", b"\n"))
    end = b"\n" if body.endswith(b"\n") else b"\n\n"
    return f"From {sender} {moment}\n{head}".encode() + body + end


def _field(text: str) -> str:
    """A header's content on one line, bounded, and encoded where it has to be (RFC 2047)."""
    text = text[:MAX_FIELD]
    if text.isascii() and text.isprintable():
        return text
    return Header(text, "utf-8", maxlinelen=0).encode().replace("\n", " ")
