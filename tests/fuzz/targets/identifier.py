"""Invariant: an identifier is refused, or read into a form that reads back as itself (DID, email, database name)."""

from __future__ import annotations

from collections.abc import Callable

from events.errors import InvalidInput
from events.identity import (
    Did,
    email_domain,
    handshake_ids,
    normalise_domain,
    normalise_email,
    strip_identifier,
    userdb_name,
    userdb_owner,
)

SEEDS = [
    b"did:mailio:0x446f4461302935ad8387d0349b726bf7dbbc5118",
    b"did:web:mio.alpha.example:0x446f4461302935ad8387d0349b726bf7dbbc5118#master",
    b"did:web:localhost%3A8080:x",
    "J\u00dcRGEN+tag@M\u00dcNCHEN.example".encode(),
    b"userdb-3078343436663434363133303239333561643833383764303334396237323662663764626263353131 38",
    b"Name <a@b.example>",
]


def one(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    _stable(text, lambda each: str(Did.parse(each)))
    _stable(text, normalise_email)
    _stable(text, normalise_domain)
    _stable(text, lambda each: userdb_name(userdb_owner(each)))
    strip_identifier(text)
    handshake_ids("0x" + "a" * 40, did=text)


def _stable(text: str, read: Callable[[str], str]) -> None:
    try:
        once = read(text)
    except InvalidInput:
        return
    assert read(once) == once
    if read is normalise_email:
        assert email_domain(once) == once.rpartition("@")[2]
        assert once.isprintable()
