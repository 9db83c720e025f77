"""Passkeys: WebAuthn registration and login on py_webauthn, without I/O (wire spec section 1.12).

py_webauthn is imported at the first ceremony: it brings X.509 and ASN.1, a tenth of the time of a start.

The API layer looks accounts up and stores what is returned. Differences from the reference server
(wire spec section 10.3, S12): the address must follow from the submitted key, a session ends at its
first use, the sign count is checked and handed back to be stored. Sessions are kept by challenge, so
that nobody can end another's registration by asking for options with the same address.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from events.errors import Conflict, Forbidden, InvalidInput, MailioError
from events.identity import is_address, mailio_address, normalise_email
from events.log.log import Clock
from node.crypto.base64_text import from_base64, from_base64url, to_base64url
from node.crypto.keys import SIGNATURE_BYTES, public_key_from_base64, verify_signature
from node.crypto.single_use import DEFAULT_CAPACITY, LIFETIME_MS, Missing, SingleUse

RELYING_PARTY_NAME: Final = "Mailio e-Mail"
CHALLENGE_BYTES: Final = 32

ALGORITHMS: Final = (-7, -35, -36, -257, -258, -259, -37, -38, -39, -8)
"""COSE algorithms offered, best first: ES256 … EdDSA, in the order today's clients see."""

MAX_MEMBER: Final = 65_536
"""Characters of one member of a request: attestation objects reach a few thousand."""

MAX_CREDENTIAL_ID: Final = 1_023
"""Bytes (WebAuthn level 3, section 5.8.3)."""

# What the library raises on hostile input beside its own errors: those of the parsers under it.
_PARSER_ERRORS = (
    UnsupportedAlgorithm, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
    EOFError,
)  # fmt: skip


class PasskeyCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A registered authenticator as it is stored. `public_key` is the COSE key; ids are raw bytes."""

    id: bytes
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...] = ()
    aaguid: str = ""
    backed_up: bool = False


class SmartKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`smartKeyPayload` of a registration: opaque client secrets, and the user's public keys."""

    smart_key_encrypted: str
    pre_rotated_mailio_key: str
    address: str
    password_share: str
    database_password: str
    email: str
    primary_ed25519_public_key: str = msgspec.field(name="primaryEd25519PublicKey")
    primary_x25519_public_key: str = msgspec.field(name="primaryX25519PublicKey")
    challenge_signature: str
    challenge: str


class PasskeyRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """A verified registration: what an account is made from. `challenge` becomes the token's `jti`."""

    address: str
    email: str
    ed25519_public_key: bytes
    x25519_public_key: bytes
    smart_key: SmartKey
    credential: PasskeyCredential
    challenge: str


class Assertion(msgspec.Struct, frozen=True, kw_only=True):
    """A login answer whose session is used up but whose signature is not verified yet."""

    address: str
    credential_id: bytes
    challenge: str
    body: dict[str, Any]


class _Registering(msgspec.Struct, frozen=True):
    address: str
    email: str


class _ClientData(msgspec.Struct, rename="camel"):
    challenge: str
    cross_origin: bool = False


def random_challenge() -> bytes:
    """Draw a challenge from the operating system's generator."""
    return secrets.token_bytes(CHALLENGE_BYTES)


class Passkeys:
    """The two ceremonies of one relying party, with the sessions between their halves."""

    def __init__(
        self,
        clock: Clock,
        web_domain: str,
        capacity: int = DEFAULT_CAPACITY,
        challenge: Callable[[], bytes] = random_challenge,
    ) -> None:
        """Serve the web client at `web_domain`, which is the relying party's id."""
        self._domain = web_domain
        self._rp_id = web_domain.partition(":")[0]
        self._origin = f"{'http' if 'localhost' in web_domain else 'https'}://{web_domain}"
        self._draw = challenge
        self._registering: SingleUse[_Registering] = SingleUse(clock, LIFETIME_MS, capacity)
        self._logging_in: SingleUse[None] = SingleUse(clock, LIFETIME_MS, capacity)

    def registration_options(self, email: str, address: str) -> dict[str, Any]:
        """Creation options for a new account, without a `publicKey` wrapper. Raises InvalidInput.

        Whether the e-mail address is free (409) is the API layer's question.
        """
        if not is_address(address):
            raise InvalidInput("invalid mailio address")
        name = normalise_email(email)
        challenge = to_base64url(self._draw())
        self._registering.put(challenge, _Registering(address.lower(), name))
        return {
            "rp": {"name": RELYING_PARTY_NAME, "id": self._rp_id},
            "user": {
                "name": name,
                "displayName": name.partition("@")[0],
                "id": to_base64url(address.lower().encode()),
            },
            "challenge": challenge,
            "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in ALGORITHMS],
            "timeout": LIFETIME_MS,
            "authenticatorSelection": {
                "authenticatorAttachment": "platform",
                "requireResidentKey": True,
                "userVerification": "required",
            },
        }

    def finish_registration(self, body: object) -> PasskeyRegistration:
        """Verify the body of `registration_verify`; its session is used up in any case.

        Raises InvalidInput for a malformed body, Forbidden with the texts of section 1.12, Conflict
        when the session was for another e-mail address.
        """
        attestation, key = _registration_body(body)
        session = self._registering.take(key.challenge)
        if isinstance(session, Missing):
            raise Forbidden("session not found", session.value)
        signing, agreement = _submitted_keys(key, session)
        email = normalise_email(key.email)
        if email != session.email:
            raise Conflict("email is not the one of the session")
        credential = self._verify_attestation(attestation, key.challenge)
        return PasskeyRegistration(
            address=session.address,
            email=email,
            ed25519_public_key=signing,
            x25519_public_key=agreement,
            smart_key=key,
            credential=credential,
            challenge=key.challenge,
        )

    def login_options(self) -> dict[str, Any]:
        """Request options for a login with any discoverable passkey of this relying party."""
        challenge = to_base64url(self._draw())
        self._logging_in.put(challenge, None)
        return {
            "challenge": challenge,
            "timeout": LIFETIME_MS,
            "rpId": self._rp_id,
            "userVerification": "required",
        }

    def open_login(self, body: object) -> Assertion:
        """Read a login answer and use its session up. Raises InvalidInput, Forbidden.

        The address is what the authenticator claims; `finish_login` proves it.
        """
        assertion = _bounded_object(body)
        response = assertion.get("response")
        if not isinstance(response, dict) or response.get("userHandle") is None:
            raise InvalidInput("invalid assertion", "no response or no userHandle")
        challenge = _client_data(response).challenge
        session = self._logging_in.take(challenge)
        if isinstance(session, Missing):
            raise Forbidden("session not found", session.value)
        address = from_base64url(response["userHandle"], limit=128).decode("latin-1")
        if not is_address(address):
            raise Forbidden("login failed", "userHandle is not an address")
        identifier = from_base64url(assertion.get("rawId"), limit=2 * MAX_CREDENTIAL_ID)
        return Assertion(
            address=address.lower(), credential_id=identifier, challenge=challenge, body=assertion
        )

    def finish_login(
        self, assertion: Assertion, credentials: Sequence[PasskeyCredential]
    ) -> PasskeyCredential:
        """Verify the assertion against the account's stored credentials.

        Returns the credential with its new sign count, to be stored. Raises Forbidden; also when there
        is no such credential, so that an unknown account looks like a wrong signature.
        """
        known = next((one for one in credentials if one.id == assertion.credential_id), None)
        if known is None:
            raise Forbidden("login failed", "no such credential")
        import webauthn
        from webauthn.helpers.exceptions import WebAuthnException

        try:
            verified = webauthn.verify_authentication_response(
                credential=assertion.body,
                expected_challenge=from_base64url(assertion.challenge),
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                credential_public_key=known.public_key,
                credential_current_sign_count=known.sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, *_PARSER_ERRORS) as error:
            raise Forbidden("login failed", f"{type(error).__name__}: {error}"[:300]) from None
        return msgspec.structs.replace(
            known, sign_count=verified.new_sign_count, backed_up=verified.credential_backed_up
        )

    def _verify_attestation(self, attestation: dict[str, Any], challenge: str) -> PasskeyCredential:
        import webauthn
        from webauthn.helpers.cose import COSEAlgorithmIdentifier
        from webauthn.helpers.exceptions import WebAuthnException

        _client_data(attestation.get("response"))
        # py_webauthn knows no P-384 (-35).
        supported = [COSEAlgorithmIdentifier(alg) for alg in ALGORITHMS if alg != -35]
        try:
            verified = webauthn.verify_registration_response(
                credential=attestation,
                expected_challenge=from_base64url(challenge),
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                require_user_verification=True,
                supported_pub_key_algs=supported,
            )
        except (WebAuthnException, *_PARSER_ERRORS) as error:
            raise Forbidden("registration failed", f"{type(error).__name__}: {error}"[:300]) from None
        if len(verified.credential_id) > MAX_CREDENTIAL_ID:
            raise Forbidden("registration failed", "credential id too long")
        return PasskeyCredential(
            id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            transports=_transports(attestation),
            aaguid=verified.aaguid,
            backed_up=verified.credential_backed_up,
        )


def _registration_body(body: object) -> tuple[dict[str, Any], SmartKey]:
    match body:
        case {"attestationResponse": dict(attestation), "smartKeyPayload": dict(payload)}:
            pass
        case _:
            raise InvalidInput("invalid registration", "attestationResponse or smartKeyPayload is missing")
    _bounded_object(attestation)
    try:
        key = msgspec.convert(_bounded_object(payload), SmartKey)
    except msgspec.ValidationError as error:
        raise InvalidInput("invalid registration", str(error)) from None
    if not all(msgspec.structs.astuple(key)):
        raise InvalidInput("invalid registration", "a member of smartKeyPayload is empty")
    return attestation, key


def _submitted_keys(key: SmartKey, session: _Registering) -> tuple[bytes, bytes]:
    """Return the user's two public keys after proof of the first; the address must follow from it."""
    signing = public_key_from_base64(key.primary_ed25519_public_key)
    agreement = public_key_from_base64(key.primary_x25519_public_key)
    if key.address.lower() != session.address or mailio_address(signing) != session.address:
        raise Forbidden("invalid mailio address", "address does not follow from the submitted key")
    try:
        signature = from_base64(key.challenge_signature, length=SIGNATURE_BYTES, limit=128)
    except MailioError as error:
        raise Forbidden("invalid challenge signature", str(error)) from None
    # Over the ASCII text of the challenge, not its bytes.
    if not verify_signature(signing, key.challenge.encode(), signature):
        raise Forbidden("invalid challenge signature")
    return signing, agreement


def _client_data(response: object) -> _ClientData:
    """Read what the browser says it did; a ceremony inside somebody else's frame is refused."""
    match response:
        case {"clientDataJSON": str(text)}:
            raw = from_base64url(text, limit=MAX_MEMBER)
        case _:
            raise InvalidInput("invalid response", "clientDataJSON is missing")
    try:
        data = msgspec.json.decode(raw, type=_ClientData)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidInput("invalid response", "clientDataJSON is malformed") from None
    if data.cross_origin:
        raise Forbidden("login failed", "cross-origin ceremony")
    return data


def _transports(attestation: dict[str, Any]) -> tuple[str, ...]:
    found = attestation["response"].get("transports")
    return tuple(str(name)[:32] for name in found[:8]) if isinstance(found, list) else ()


def _bounded_object(body: object) -> dict[str, Any]:
    """Require a JSON object whose texts, one level down too, are no longer than any real one."""
    if not isinstance(body, dict):
        raise InvalidInput("invalid request", "not an object")
    response = body.get("response")
    nested = response if isinstance(response, dict) else {}
    for value in [*body.values(), *nested.values()]:
        if isinstance(value, str) and len(value) > MAX_MEMBER:
            raise InvalidInput("invalid request", "a member is too long")
    return body
