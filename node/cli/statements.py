"""What an owner says about a sender, signed with the keys of a key file (wire spec sections 4.2 to 4.4)."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import msgspec

from events.errors import InvalidInput
from events.identity import Did, domain_name, handshake_id, normalise_email, web_did


class Keys(msgspec.Struct, frozen=True, rename="camel"):
    """What `account add` wrote."""

    address: str
    signing_seed: str
    agreement_seed: str
    database_password: str
    database: str


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is said: the status of a handshake with a sender, and its terms."""

    status: str
    level: str = "none"
    purpose: int = 0
    minutes: int = 0


class _Sender(msgspec.Struct, frozen=True):
    """The text that makes the handshake id, and the members that name the sender."""

    name: str
    members: dict[str, Any]


def signed(keys: Keys, sender: str, statement: Statement, domain: str) -> dict[str, Any]:
    """Make the document in which an owner at `domain` says this of a sender. Raises InvalidInput.

    The sender is an email, `@` and a domain for everybody there, or a `did:web` of a Mailio user.
    """
    from node.crypto.handshakes import handshake_document, sign_handshake
    from node.crypto.keys import UserKeys

    user = UserKeys(base64.b64decode(keys.signing_seed), base64.b64decode(keys.agreement_seed))
    meant = _sender(sender)
    identifier = handshake_id(keys.address, meant.name)
    now = time.time_ns() // 1_000_000
    content = {
        "handshakeId": identifier,
        "originServer": {"domain": domain},
        "status": statement.status,
        "level": statement.level,
        "type": "user",
        "created": now,
        **meant.members,
        **_signup(statement),
    }
    handshake = sign_handshake(content, user)
    return handshake_document(identifier, handshake, str(web_did(domain, keys.address)), now)


def _signup(statement: Statement) -> dict[str, Any]:
    """Return the members that make it a signup handshake, where a purpose or frequency is named."""
    if not (statement.purpose or statement.minutes):
        return {}
    rules = {"signupRules": {"frequencyMinutes": statement.minutes}} if statement.minutes else {}
    return {"type": "signup", "signupSubType": statement.purpose, **rules}


def _sender(text: str) -> _Sender:
    if text.startswith("@"):
        name = domain_name(text[1:])
        if not name:
            raise InvalidInput(f"{text}: @ and a domain, for example @shop.example")
        return _Sender(name, {"type": "server", "originServer": {"domain": name[1:]}})
    if text.startswith("did:"):
        did = Did.parse(text)
        if not (did.host and did.address):
            raise InvalidInput(f"{text}: a DID of a user looks like did:web:mio.beta.example#0x…")
        return _Sender(str(web_did(did.host, did.address)), {"senderMetadata": {"address": did.address}})
    email = normalise_email(text)
    return _Sender(email, {"senderMetadata": {"emailHash": _email_hash(email)}})


def _email_hash(email: str) -> str:
    """Return the hash of wire spec section 1.8."""
    raw = email.encode()
    derived = hashlib.scrypt(raw, salt=raw, n=32_768, r=8, p=1, dklen=32, maxmem=64 * 1024 * 1024)
    return base64.b64encode(derived).decode()
