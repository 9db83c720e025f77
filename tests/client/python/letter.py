"""The content of a message: written and signed by its author, read by nobody on the way.

A JWE alone says nothing about its author: everybody can encrypt to a public key. So the letter is signed first
(compact JWS, RFC 7515, Ed25519 by RFC 9864) and names its recipients; one that is passed on to somebody else does
not hold there. The signer's key stands in the JWS: its address must be the one in `from`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from tests.client.python.contact import address_in
from tests.client.python.encoding import from_base64url, from_json, to_base64url, to_json
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys, address_of, public_jwk

CONTENT_TYPE: Final = "application/didcomm-signed+json"
ALGORITHM: Final = "Ed25519"


@dataclass(frozen=True)
class Enclosure:
    """An attachment as the letter tells about it; `id` finds the sealed bytes, `key` opens them."""

    id: str
    key: str
    filename: str
    contentType: str  # noqa: N815 - the member's name
    length: int


@dataclass(frozen=True)
class Letter:
    """What was written. `from_` and `to` are `did:web` texts, `created` is in milliseconds."""

    from_: str
    to: tuple[str, ...]
    created: int
    subject: str = ""
    text: str = ""
    html: str = ""
    enclosures: tuple[Enclosure, ...] = field(default=())


def sign_letter(letter: Letter, keys: Keys) -> bytes:
    """Return the signed letter: what is encrypted."""
    header = {"alg": ALGORITHM, "jwk": keys.signing_jwk().as_dict(private=False)}
    content = {
        "from": letter.from_,
        "to": list(letter.to),
        "created": letter.created,
        "subject": letter.subject,
        "bodyText": letter.text,
        "bodyHtml": letter.html,
        "attachments": [asdict(one) for one in letter.enclosures],
    }
    signed = jws.serialize_compact(header, to_json(content), keys.signing_jwk(), algorithms=[ALGORITHM])
    return signed.encode()


def read_letter(signed: bytes, sender: str, recipients: tuple[str, ...]) -> Letter:
    """Check who signed it, and that it was written by `sender` to these `recipients`. Raises Refused."""
    try:
        text = signed.decode("ascii")
        key = _signer(text, sender)
        content = from_json(jws.deserialize_compact(text, key, algorithms=[ALGORITHM]).payload)
    except (JoseError, ValueError):
        raise Refused("the letter's signature is wrong") from None
    letter = _letter(content)
    if letter.from_ != sender:
        raise Refused("the letter was written by somebody else")
    if set(letter.to) != set(recipients):
        raise Refused("the letter was written to somebody else")
    return letter


def _signer(text: str, sender: str) -> Any:
    """Return the key in the JWS if it is the sender's."""
    header = from_json(from_base64url(text.partition(".")[0]))
    match header:
        case {"alg": "Ed25519", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}, **more} if not more:
            key = from_base64url(x)
        case _:
            raise Refused("the letter is not signed as letters are")
    if len(key) != 32 or address_of(key) != address_in(sender):
        raise Refused("the letter is signed by somebody else")
    return public_jwk("Ed25519", key)


def _letter(content: object) -> Letter:
    match content:
        case {
            "from": str(author),
            "to": list(to),
            "created": int(created),
            "subject": str(subject),
            "bodyText": str(text),
            "bodyHtml": str(html),
            "attachments": list(attachments),
        } if all(isinstance(one, str) for one in to):
            enclosures = tuple(_enclosure(one) for one in attachments)
            return Letter(author, tuple(to), created, subject, text, html, enclosures)
    raise Refused("this is not a letter")


def _enclosure(content: object) -> Enclosure:
    match content:
        case {
            "id": str(one),
            "key": str(key),
            "filename": str(name),
            "contentType": str(kind),
            "length": int(length),
        }:
            return Enclosure(one, key, name, kind, length)
    raise Refused("this is not a letter")


def key_text(key: bytes) -> str:
    """Write an attachment's key as letters have it."""
    return to_base64url(key)
