"""Registration and login by passkey, and coming back with a token (wire spec sections 1.12 and 1.13)."""

from __future__ import annotations

from typing import Any

import msgspec

from events import account
from events.account import Account, UsePasskey
from events.errors import Conflict, Forbidden, NotFound
from events.identity import email_domain, normalise_email
from node.accounts import Registration
from node.api.accounts import Token, require_free_name, require_open
from node.api.cookies import TokenCookie
from node.api.rate import Cost
from node.api.request_data import Text
from node.api.route import Auth, Call, Reply, Route, client
from node.core import Core
from node.crypto.base64_text import from_base64, from_base64url, to_base64, to_base64url
from node.crypto.passkeys import PasskeyCredential, Passkeys

Json = dict[str, Any]
"""An object of the WebAuthn standard's form, checked by `node.crypto.passkeys`."""


class OptionsQuery(msgspec.Struct, frozen=True):
    """For whom a passkey is to be made."""

    email: Text
    address: Text


class PasskeyRegistrationRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The authenticator's answer, and the keys and secrets of the account to open."""

    attestation_response: Json
    smart_key_payload: Json


class Session(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client needs to go on: its token ("" when it has one already) and its smart key."""

    jws_token: str
    encrypted_smart_key_base64: str
    smart_key_password_part: str
    email: str
    did_document: Json | None


class PasskeyRoutes:
    """The two ceremonies, and the smart key that belongs to them."""

    def __init__(self, core: Core, cookie: TokenCookie) -> None:
        self._core = core
        self._cookie = cookie
        self._passkeys = Passkeys(core.clock, core.settings.node.web_domain)

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [*self._registration(), *self._login()]

    def _registration(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/webauthn/registration_options",
                summary="Creation options for the passkey of a new account",
                tag="passkeys",
                handler=self.registration_options,
                query=OptionsQuery,
                answer=Json,
                refusals=(409,),
                cost=Cost.COSTLY,
            ),
            Route(
                method="POST",
                path="/api/v1/webauthn/registration_verify",
                summary="Open an account with a passkey",
                tag="passkeys",
                handler=self.registration_verify,
                body=PasskeyRegistrationRequest,
                answer=Token,
                refusals=(409,),
                cost=Cost.COSTLY,
            ),
        ]

    def _login(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/webauthn/login_options",
                summary="Request options for a login by passkey",
                tag="passkeys",
                handler=self.login_options,
                answer=Json,
            ),
            Route(
                method="POST",
                path="/api/v1/webauthn/login_verify",
                summary="Log in by passkey",
                tag="passkeys",
                handler=self.login_verify,
                body=Json,
                answer=Session,
            ),
            Route(
                method="GET",
                path="/api/v1/verify_cookie",
                summary="Go on with the session of a token",
                tag="passkeys",
                handler=self.verify_cookie,
                answer=Session,
                auth=Auth.TOKEN,
            ),
        ]

    async def registration_options(self, call: Call[OptionsQuery, None]) -> Json:
        """Give creation options. Raises InvalidInput, Forbidden, Conflict."""
        require_open(self._core)
        options = self._passkeys.registration_options(call.query.email, call.query.address)
        self._require_possible(call.query.email)
        if await self._core.directory.by_email(call.query.email):
            raise Conflict("email already exists")
        return options

    def _require_possible(self, email: str) -> None:
        require_free_name(email)
        if email_domain(normalise_email(email)) not in self._core.settings.node.email_domains:
            raise Forbidden("domain not supported. check configuration")

    async def registration_verify(self, call: Call[None, PasskeyRegistrationRequest]) -> Reply:
        """Open the account. Raises InvalidInput, Forbidden, Conflict."""
        require_open(self._core)
        answer = {
            "attestationResponse": call.body.attestation_response,
            "smartKeyPayload": call.body.smart_key_payload,
        }
        verified = self._passkeys.finish_registration(answer)
        self._require_possible(verified.email)
        smart_key = account.SmartKey(
            encrypted=verified.smart_key.smart_key_encrypted,
            password_share=verified.smart_key.password_share,
            pre_rotated_key=verified.smart_key.pre_rotated_mailio_key,
        )
        registration = Registration(
            email=verified.email,
            signing_key=verified.ed25519_public_key,
            agreement_key=verified.x25519_public_key,
            database_password=verified.smart_key.database_password,
            passkey=_to_stored(verified.credential),
            smart_key=smart_key,
        )
        await self._core.accounts.open(registration, client(verified.address))
        token = self._core.accounts.issue_token(
            verified.address, verified.ed25519_public_key, verified.challenge
        )
        return Reply(Token(token), self._cookie.log_in(token, self._core.clock.now()))

    async def login_options(self, _: Call[None, None]) -> Json:
        """Give request options."""
        return self._passkeys.login_options()

    async def login_verify(self, call: Call[None, Json]) -> Reply:
        """Verify an assertion; its counter is in the log before the token is issued.

        Raises InvalidInput, and Forbidden for everything that does not hold, with one text for an unknown
        account and a wrong signature.
        """
        assertion = self._passkeys.open_login(call.body)
        state = await self._known(assertion.address)
        stored = state.passkeys.values() if state else ()
        used = self._passkeys.finish_login(assertion, [_from_stored(passkey) for passkey in stored])
        assert state is not None
        session = await self._session(state)
        command = UsePasskey(to_base64url(used.id), used.sign_count)
        await self._core.accounts.execute(assertion.address, command, client(assertion.address))
        token = self._issue(state, assertion.challenge)
        headers = self._cookie.log_in(token, self._core.clock.now())
        return Reply(msgspec.structs.replace(session, jws_token=token), headers)

    async def verify_cookie(self, call: Call[None, None]) -> Session:
        """Return the smart key of a session. Raises Forbidden when the account has none."""
        session = await self._session(await self._core.accounts.state(call.address))
        return msgspec.structs.replace(session, did_document=None)

    async def _known(self, address: str) -> Account | None:
        """Return an account's state; nobody's actor is woken for an address that has no account."""
        if await self._core.directory.by_address(address) is None:
            return None
        return await self._core.accounts.state(address)

    async def _session(self, state: Account) -> Session:
        """Require all that a client needs. Raises Forbidden."""
        try:
            await self._core.accounts.require_enabled(state.address)
        except NotFound as error:
            raise Forbidden("login failed", error.public) from None
        document = await self._core.directory.did_document(state.address)
        if state.smart_key is None or state.opened is None or document is None:
            raise Forbidden("smartkey not found")
        return Session(
            jws_token="",
            encrypted_smart_key_base64=state.smart_key.encrypted,
            smart_key_password_part=state.smart_key.password_share,
            email=state.opened.email,
            did_document=document,
        )

    def _issue(self, state: Account, challenge: str) -> str:
        assert state.opened is not None
        key = from_base64(state.opened.signing_key, length=32)
        return self._core.accounts.issue_token(state.address, key, challenge)


def _to_stored(credential: PasskeyCredential) -> account.Passkey:
    return account.Passkey(
        id=to_base64url(credential.id),
        public_key=to_base64(credential.public_key),
        sign_count=credential.sign_count,
        transports=credential.transports,
        aaguid=credential.aaguid,
        backed_up=credential.backed_up,
    )


def _from_stored(passkey: account.Passkey) -> PasskeyCredential:
    return PasskeyCredential(
        id=from_base64url(passkey.id),
        public_key=from_base64(passkey.public_key),
        sign_count=passkey.sign_count,
        transports=passkey.transports,
        aaguid=passkey.aaguid,
        backed_up=passkey.backed_up,
    )
