"""Verifiable credentials: the registration credential and the domain linkage credential.

The proof is an attached JWS over the CBOR of the credential without its proof, dates as integer
seconds (wire spec section 1.6). Verification compares the whole content with what was signed, which
the reference implementation does not do (section 10.3, S17).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from events.errors import Forbidden, InvalidInput, MailioError
from events.identity import mailio_address, mailio_did
from node.crypto.cbor import decode, differences, encode
from node.crypto.jws import sign_compact, verify_compact
from node.crypto.keys import ServerKeys

CREDENTIALS_CONTEXT: Final = "https://www.w3.org/2018/credentials/v1"
LINKAGE_CONTEXT: Final = "https://identity.foundation/.well-known/did-configuration/v1"

MAX_CREDENTIAL_CBOR: Final = 8_192
"""Bytes; a registration credential has about 600."""

_DATES = frozenset({"issuanceDate", "expirationDate", "approvalDate", "created"})
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class RegistrationCredential(msgspec.Struct, frozen=True):
    """What a verified registration credential says: this user is registered for these domains."""

    id: str
    user_address: str
    issuer_address: str
    domains: tuple[str, ...]


def credential_id(user_address: str, server_address: str) -> str:
    """Compute the id of a registration credential: 64 hex digits."""
    joined = f"{mailio_did(user_address)}{mailio_did(server_address)}"
    return hashlib.sha256(joined.encode()).hexdigest()


def issue_registration_credential(
    user_address: str, server_domain: str, keys: ServerKeys, now: int
) -> dict[str, Any]:
    """Issue, at `now` (ms), the credential that the user is registered at this server."""
    user, at = str(mailio_did(user_address)), rfc3339(now)
    identifier = credential_id(user_address, keys.address)
    application = {"id": user, "domains": [server_domain], "approvalDate": at}
    unsigned = {
        "@context": [CREDENTIALS_CONTEXT],
        "id": identifier,
        "type": ["VerifiableCredential", "MailioAppCredential"],
        "issuer": str(keys.did),
        "issuanceDate": at,
        "credentialSubject": {"id": user, "authorizedApplication": application},
        "credentialStatus": {
            "id": f"{server_domain}/api/v1/credentials/{identifier}",
            "type": "CredentialStatusList2017",
        },
    }
    return _with_proof(unsigned, keys, at)


def domain_linkage_credential(keys: ServerKeys, domain: str) -> dict[str, Any]:
    """Issue the credential that links the server's DID with its domain, dated as the key file."""
    did, at = str(keys.did), rfc3339(keys.created)
    unsigned = {
        "@context": [CREDENTIALS_CONTEXT, LINKAGE_CONTEXT],
        "type": ["VerifiableCredential", "DomainLinkageCredential"],
        "issuer": did,
        "issuanceDate": at,
        "credentialSubject": {"id": did, "origin": f"https://{domain}"},
    }
    return _with_proof(unsigned, keys, at)


def verify_credential(credential: dict[str, Any], issuer_address: str, issuer_key: bytes) -> None:
    """Check issuer, proof, and that the signed content is the whole credential.

    Raises Forbidden, or InvalidInput when it is not even a credential.
    """
    match credential:
        case {"issuer": str(issuer), "proof": {"jws": str(jws), "verificationMethod": str(method), **_rest}}:
            pass
        case _:
            raise InvalidInput("invalid credential", "no issuer or no proof")
    if issuer != str(mailio_did(issuer_address)) or method != issuer:
        raise Forbidden("invalid credential", "issued by somebody else")
    try:
        signed = decode(verify_compact(jws, issuer_key), limit=MAX_CREDENTIAL_CBOR)
    except MailioError as error:
        raise Forbidden("invalid credential", f"proof: {error}") from None
    stated = {name: value for name, value in credential.items() if name != "proof"}
    changed = next(differences(signed, _with_second_dates(stated)), None)
    if changed is not None:
        raise Forbidden("invalid credential", f"differs from what was signed in {changed or 'everything'}")


def issuer_of(credential: dict[str, Any], keys: Sequence[bytes]) -> tuple[str, bytes]:
    """Return address and key of the issuer, which should be one of `keys`; if it is none, the first of them.

    A server issued a credential by the key that it had then, and its DID follows from that.
    """
    addresses = [mailio_address(key) for key in keys]
    named = [str(mailio_did(address)) for address in addresses]
    place = named.index(credential["issuer"]) if credential.get("issuer") in named else 0
    return addresses[place], keys[place]


def verify_registration_credential(
    credential: dict[str, Any], user_address: str, issuer_address: str, issuer_key: bytes
) -> RegistrationCredential:
    """Check that this is the registration credential of `user_address`. Raises Forbidden, InvalidInput."""
    verify_credential(credential, issuer_address, issuer_key)
    user = str(mailio_did(user_address))
    match credential:
        case {
            "id": str(identifier),
            "type": ["VerifiableCredential", "MailioAppCredential"],
            "credentialSubject": {
                "id": str(subject),
                "authorizedApplication": {"id": str(holder), "domains": [*domains]},
            },
        } if subject == holder == user and identifier == credential_id(user_address, issuer_address):
            return RegistrationCredential(identifier, user_address, issuer_address, tuple(map(str, domains)))
    raise Forbidden("invalid credential", f"is not the registration credential of {user_address}")


def rfc3339(at: int) -> str:
    """Write milliseconds as RFC 3339 in UTC, the fraction without trailing zeros."""
    seconds, millis = divmod(at, 1000)
    fraction = f".{millis:03d}".rstrip("0") if millis else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def unix_seconds(text: str) -> int:
    """Whole seconds of an RFC 3339 time with up to nine fraction digits. Raises InvalidInput."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise InvalidInput("invalid date")
    try:
        return int(datetime.fromisoformat(found[1] + found[3]).timestamp())
    except ValueError:
        raise InvalidInput("invalid date") from None


def _with_proof(unsigned: dict[str, Any], keys: ServerKeys, at: str) -> dict[str, Any]:
    """Sign, and put the proof where the reference server's member order has it: before the status."""
    proof = {
        "type": "Ed25519VerificationKey2020",
        "created": at,
        "proofPurpose": "assertionMethod",
        "verificationMethod": str(keys.did),
        "jws": sign_compact(encode(_with_second_dates(unsigned)), keys),
    }
    status = {"credentialStatus": unsigned["credentialStatus"]} if "credentialStatus" in unsigned else {}
    return {**{name: unsigned[name] for name in unsigned if name not in status}, "proof": proof, **status}


def _with_second_dates(value: Any) -> Any:
    """Copy the credential with its dates as integer seconds, the form in which they are signed."""
    if not isinstance(value, dict):
        return value
    return {
        name: unix_seconds(member)
        if name in _DATES and isinstance(member, str)
        else _with_second_dates(member)
        for name, member in value.items()
    }
