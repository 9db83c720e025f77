"""The envelope's boxes of MIR-6: a content key in a NaCl box, references to contents under that key.

`boxSharedKey` is base64 of nonce (24 bytes) and crypto_box (X25519, XSalsa20, Poly1305) of a 32-byte key.
`contentRef` and `attachmentRefs` are base64 of nonce and crypto_secretbox of a `ContentRef` under that key. MIR-6
leaves the second form open; this is its first sentence on sealing, applied to both. The reference server has
none of it; it is here for who reads stores of that form.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any

from nacl.exceptions import CryptoError
from nacl.public import Box, PublicKey
from nacl.secret import SecretBox

from tests.client.python.encoding import from_json, to_json
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys


def new_shared_key() -> bytes:
    """Draw the 32-byte key of one envelope."""
    return secrets.token_bytes(SecretBox.KEY_SIZE)


def box_key(shared_key: bytes, mine: Keys, theirs: bytes) -> str:
    """Return `boxSharedKey` for the X25519 key `theirs`."""
    return base64.b64encode(bytes(Box(mine.box, PublicKey(theirs)).encrypt(shared_key))).decode()


def unbox_key(text: str, mine: Keys, theirs: bytes) -> bytes:
    """Open `boxSharedKey` from who has the X25519 key `theirs`. Raises Refused."""
    try:
        return Box(mine.box, PublicKey(theirs)).decrypt(base64.b64decode(text, validate=True))
    except (CryptoError, binascii.Error, ValueError):
        raise Refused("the box is not what was sealed, or not for this key") from None


def seal_reference(reference: dict[str, Any], shared_key: bytes) -> str:
    """Return `contentRef` or one of `attachmentRefs`; `reference` has the members of MIR-6's `ContentRef`."""
    return base64.b64encode(bytes(SecretBox(shared_key).encrypt(to_json(reference)))).decode()


def open_reference(text: str, shared_key: bytes) -> dict[str, Any]:
    """Open a reference. Raises Refused."""
    try:
        content = from_json(SecretBox(shared_key).decrypt(base64.b64decode(text, validate=True)))
    except (CryptoError, binascii.Error, ValueError):
        raise Refused("the reference is not what was sealed") from None
    if not isinstance(content, dict) or not isinstance(content.get("reference"), str):
        raise Refused("this is not a reference")
    return content
