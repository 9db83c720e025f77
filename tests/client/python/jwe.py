"""JWE for several recipients in the one form that passes the reference server (wire spec 5.2, 5.3).

ECDH-ES+A256KW and A256GCM (RFC 7518) with keys on X25519 (RFC 8037). Whatever says how to decrypt stands in
`protected`; a recipient's header has `kid` and `epk` and nothing else, since the reference server drops the rest.
`aad` names sender and recipients: without it, whoever carries a message could take recipients away unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwe
from joserfc.errors import JoseError

from tests.client.python.encoding import from_base64url, from_json, to_base64url, to_json
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys, public_jwk

ALGORITHM: Final = "ECDH-ES+A256KW"
CONTENT: Final = "A256GCM"
ALLOWED: Final = [ALGORITHM, CONTENT]
TYPE: Final = "application/didcomm-encrypted+json"

MEMBERS: Final = frozenset({"aad", "ciphertext", "iv", "recipients", "tag", "protected"})
PROTECTED: Final = frozenset({"typ", "alg", "enc", "cty"})
EPK: Final = frozenset({"x", "crv", "kty"})


@dataclass(frozen=True)
class Opened:
    """The plaintext, its content type, who it says it is from, and for whom it was encrypted."""

    plaintext: bytes
    content_type: str
    sender: str
    recipients: tuple[str, ...]


def seal(plaintext: bytes, content_type: str, sender: str, recipients: Mapping[str, bytes]) -> dict[str, Any]:
    """Encrypt for `recipients`: their `did:web` each with its X25519 key (32 bytes)."""
    protected = {"typ": TYPE, "alg": ALGORITHM, "enc": CONTENT, "cty": content_type}
    message = jwe.GeneralJSONEncryption(protected, plaintext, aad=_aad(sender, list(recipients)))
    for kid, key in recipients.items():
        message.add_recipient({"kid": kid}, public_jwk("X25519", key))
    return dict(jwe.encrypt_json(message, None, algorithms=ALLOWED))


def open_sealed(sealed: object, kid: str, keys: Keys, sender: str) -> Opened:
    """Decrypt as the recipient `kid` what `sender` (the message's `from`) wrote. Raises Refused."""
    body = _checked(sealed)
    protected = _protected(body["protected"])
    kids = tuple(recipient["header"]["kid"] for recipient in body["recipients"])
    if from_base64url(body["aad"]) != _aad(sender, kids):
        raise Refused("sender or recipients are not those that the message was encrypted with")
    if kids.count(kid) != 1:
        raise Refused("the message is not encrypted for this key")
    mine = body | {"recipients": [body["recipients"][kids.index(kid)]]}
    try:
        plaintext = jwe.decrypt_json(mine, keys.agreement_jwk(), algorithms=ALLOWED).plaintext  # type: ignore[arg-type]
    except (JoseError, ValueError):
        raise Refused("the message can't be decrypted: it was changed, or it is for another key") from None
    return Opened(plaintext or b"", protected["cty"], sender, kids)


def _aad(sender: str, kids: Sequence[str]) -> bytes:
    return to_json({"from": sender, "to": list(kids)})


def _protected(text: str) -> dict[str, str]:
    """Read the protected header: these algorithms, these members, in one spelling."""
    header = from_json(from_base64url(text))
    if not isinstance(header, dict) or header.keys() != PROTECTED:
        raise Refused("the protected header has other members than it may")
    if to_base64url(to_json(header)) != text or not all(isinstance(one, str) for one in header.values()):
        raise Refused("the protected header is not in its one spelling")
    if (header["alg"], header["enc"], header["typ"]) != (ALGORITHM, CONTENT, TYPE):
        raise Refused("the message is encrypted in a way that is not taken")
    return header


def _checked(sealed: object) -> dict[str, Any]:
    """See that nothing is there but what section 5.2 names; each text in its one spelling."""
    if not isinstance(sealed, dict) or sealed.keys() != MEMBERS:
        raise Refused("not a JWE of the form that Mailio messages have")
    for name in ("ciphertext", "iv", "tag"):
        from_base64url(sealed[name])
    if not isinstance(sealed["recipients"], list) or not sealed["recipients"]:
        raise Refused("the JWE has no recipients")
    for recipient in sealed["recipients"]:
        match recipient:
            case {
                "encrypted_key": str(key),
                "header": {"kid": str(), "epk": {"x": str(), **epk}, **more},
                **rest,
            }:
                if more or rest or {"x", *epk} != EPK:
                    raise Refused("a recipient of the JWE has other members than it may")
                from_base64url(key)
            case _:
                raise Refused("a recipient of the JWE is not of the form that Mailio messages have")
    return sealed
