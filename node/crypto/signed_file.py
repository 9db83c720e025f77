"""A file and its signature beside it: base64 of Ed25519 over the bytes as they stand."""

from __future__ import annotations

from events.errors import CorruptRecord, MailioError
from events.identity import mailio_address
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.keys import KEY_BYTES, SIGNATURE_BYTES, SigningKeys, verify_signature


def signature_of(content: bytes, keys: SigningKeys) -> bytes:
    """Return the content of the signature's file."""
    return to_base64(keys.sign(content)).encode() + b"\n"


def require_signature(content: bytes, signature: bytes, public_key: str, address: str) -> None:
    """Require that `public_key` (base64) belongs to the node `address` and has signed the content.

    Raises CorruptRecord.
    """
    try:
        key = from_base64(public_key, length=KEY_BYTES)
        mark = from_base64(signature.decode("ascii").strip(), length=SIGNATURE_BYTES)
    except (UnicodeDecodeError, MailioError) as error:
        raise CorruptRecord("the manifest's signature can't be read", str(error)) from error
    if mailio_address(key) != address or not verify_signature(key, content, mark):
        raise CorruptRecord("the manifest's signature does not hold", address[:80])
