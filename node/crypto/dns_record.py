"""The TXT record by which a domain publishes its server key: text only, no queries.

Wire spec section 2.1. Stricter than the reference server where that costs no honest peer anything:
the version tag must stand first, the key type must be ed25519, and several records that name
different keys are refused instead of taking whichever the resolver put first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from events.errors import InvalidInput
from node.crypto.base64_text import to_base64
from node.crypto.keys import public_key_from_base64

SELECTOR: Final = "mailio._mailiokey"
VERSION_TAG: Final = "v=MAILIO1"
MAX_RECORD: Final = 1_024
"""Characters of a record's joined strings; a proper one has 74."""


def record_name(domain: str) -> str:
    """Owner name of the record."""
    return f"{SELECTOR}.{domain}"


def record_text(public_key: bytes) -> str:
    """Text of the record for a 32-byte Ed25519 key."""
    return f"{VERSION_TAG}; k=ed25519; p={to_base64(public_key)}"


def zone_line(domain: str, public_key: bytes) -> str:
    """Line for a zone file, columns separated by tabs."""
    return f'{record_name(domain)}.\tIN\tTXT\t"{record_text(public_key)}"'


def parse_record(text: str) -> bytes:
    """Return the 32-byte key of one record. Raises InvalidInput when it is malformed."""
    if len(text) > MAX_RECORD:
        raise InvalidInput("malformed Mailio DNS record", "too long")
    version, kind, key = [*(part.strip() for part in text.split(";", 3)), "", "", ""][:3]
    if version != VERSION_TAG or kind != "k=ed25519" or not key.startswith("p="):
        raise InvalidInput("malformed Mailio DNS record", "want v=MAILIO1; k=ed25519; p=<key>, in this order")
    return public_key_from_base64(key.removeprefix("p="))


def key_of_records(texts: Iterable[str]) -> bytes | None:
    """Return the key that the TXT records of a name give (strings joined), None if none is Mailio's.

    Raises InvalidInput for a malformed record, which is not the same as none, and for two keys.
    """
    keys = {parse_record(text) for text in texts if VERSION_TAG in text}
    if len(keys) > 1:
        raise InvalidInput("malformed Mailio DNS record", "records with different keys")
    return keys.pop() if keys else None
