"""From a letter to the message for `POST /api/v1/senddid`, and from a received document back to the letter.

Wire spec sections 5.2, 5.3, 5.4 and 6.4.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.client.python import jwe
from tests.client.python.attachment import File, SealedFile, seal_file
from tests.client.python.contact import Contact
from tests.client.python.encoding import from_base64, from_json
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys
from tests.client.python.letter import CONTENT_TYPE, Enclosure, Letter, key_text, read_letter, sign_letter

ENCRYPTED: Final = "application/didcomm-encrypted+json"
MAIL: Final = "application/mailio-smtp+json"
"""Type of what came by SMTP; also the content type of such a mail when the node sealed it to its owner."""

ENCRYPTED_SUFFIX: Final = "?enc=1"
"""What clients put behind the link of a sealed attachment (section 6.5)."""


@dataclass(frozen=True)
class Draft:
    """What the user wrote."""

    subject: str = ""
    text: str = ""
    html: str = ""
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Outgoing:
    """A message whose attachments are to be uploaded first: `request(links)` is the body of `senddid`."""

    message: dict[str, Any]
    uploads: tuple[SealedFile, ...]

    def request(self, links: dict[str, str] | None = None, thread: str = "") -> dict[str, Any]:
        """Return the request; `links` has the URL of each upload by its id."""
        links = links or {}
        attachments = [
            {
                "id": one.id,
                "data": {
                    "hash": base64.b64encode(hashlib.md5(one.data, usedforsecurity=False).digest()).decode(),
                    "links": [links[one.id] + ENCRYPTED_SUFFIX],
                },
            }
            for one in self.uploads
        ]
        more = {"attachments": attachments} if attachments else {}
        answers = {"thid": thread, "pthid": thread} if thread else {}
        return {"didCommMessage": self.message | answers | more}


@dataclass(frozen=True)
class Incoming:
    """What a document holds: a letter whose author is proven, or a mail, which proves nothing by itself.

    `mail` is the JSON of wire spec section 5.6. `sealed` tells whether it was encrypted where it was stored.
    """

    letter: Letter | None = None
    mail: dict[str, Any] | None = None
    sealed: bool = True


def compose(draft: Draft, me: Contact, keys: Keys, to: Sequence[Contact], now: int | None = None) -> Outgoing:
    """Seal the files, sign the letter, encrypt it for everybody and for oneself. `now` is in milliseconds."""
    created = int(time.time() * 1000) if now is None else now
    uploads = tuple(seal_file(file.content) for file in draft.files)
    readers = {one.did: one.agreement_key for one in (*to, me)}
    letter = Letter(
        from_=me.did,
        to=tuple(readers),
        created=created,
        subject=draft.subject,
        text=draft.text,
        html=draft.html,
        enclosures=tuple(
            Enclosure(sealed.id, key_text(sealed.key), file.name, file.content_type, len(file.content))
            for file, sealed in zip(draft.files, uploads, strict=True)
        ),
    )
    message = {
        "type": ENCRYPTED,
        "from": me.did,
        "to": list(dict.fromkeys(one.did for one in to)),
        "createdTime": created,
        "intent": "message",
        "body": jwe.seal(sign_letter(letter, keys), CONTENT_TYPE, me.did, readers),
    }
    return Outgoing(message, uploads)


def open_document(document: dict[str, Any], me: Contact, keys: Keys) -> Incoming:
    """Read a document of the user's database (section 6.4). Raises Refused for what is not what it claims."""
    message = document.get("didCommMessage")
    match message:
        case {"type": "application/mailio-smtp+json", "from": str(sender), "body": body}:
            return Incoming(mail=_sealed_mail(body, sender, me, keys))
        case {"type": "application/mailio-smtp+json", "plainBodyBase64": str(text)}:
            return Incoming(mail=_mail(from_base64(text)), sealed=False)
        case {"type": "application/didcomm-encrypted+json", "from": str(sender), "body": body}:
            opened = jwe.open_sealed(body, me.did, keys, sender)
            if opened.content_type != CONTENT_TYPE:
                raise Refused("the message holds something that is not a letter")
            return Incoming(letter=read_letter(opened.plaintext, sender, opened.recipients))
    raise Refused("not a message that can be opened")


def _sealed_mail(body: object, sender: str, me: Contact, keys: Keys) -> dict[str, Any]:
    """Open what the user's own node has sealed: it is from an email address, never from somebody's DID."""
    if sender.startswith("did:"):
        raise Refused("a mail has no DID for a sender")
    opened = jwe.open_sealed(body, me.did, keys, sender)
    if opened.content_type != MAIL:
        raise Refused("the message holds something that is not a mail")
    return _mail(opened.plaintext)


def _mail(content: bytes) -> dict[str, Any]:
    mail = from_json(content)
    if not isinstance(mail, dict):
        raise Refused("the message holds something that is not a mail")
    return mail
