"""Opening an account and logging in by key, logging out, finding somebody (wire spec 1.9 to 1.11)."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from events.errors import Conflict, Forbidden, NotFound, Unauthenticated
from events.identity import email_local_part, normalise_email
from node.accounts import Registration
from node.api.cookies import TokenCookie
from node.api.rate import Cost
from node.api.request_data import Text
from node.api.route import Auth, Call, Reply, Route, client
from node.core import Core
from node.crypto.base64_text import from_base64
from node.crypto.credentials import issuer_of, verify_registration_credential
from node.crypto.keys import SIGNATURE_BYTES, public_key_from_base64

RESERVED: Final = frozenset(
    (
        "abuse", "admin", "administrator", "hostmaster", "info", "mailer-daemon", "no-reply", "noc",
        "noreply", "postmaster", "root", "security", "support", "webmaster",
    )
)  # fmt: skip
"""Local parts that speak for a domain (RFC 2142) or seem to: only the operator gives them away (S13)."""


class KeyProof(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A nonce signed with the user's key: `signatureBase64` is Ed25519 over its letters."""

    mailio_address: Text
    nonce: Text
    ed25519_signing_public_key_base64: Text = msgspec.field(name="ed25519SigningPublicKeyBase64")
    signature_base64: Text
    email: str = ""


class RegisterRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A `KeyProof` and what an account needs besides (wire spec section 1.10)."""

    email: Text
    mailio_address: Text
    nonce: Text
    ed25519_signing_public_key_base64: Text = msgspec.field(name="ed25519SigningPublicKeyBase64")
    signature_base64: Text
    database_password: Text
    x25519_public_key_base64: Text = msgspec.field(name="x25519PublicKeyBase64")


class Token(msgspec.Struct, frozen=True):
    """A client token."""

    token: str


class NonceAnswer(msgspec.Struct, frozen=True):
    """A challenge; `created` is in milliseconds."""

    nonce: str
    created: int


class DeletedNonce(msgspec.Struct, frozen=True):
    """A challenge that nobody can answer any more."""

    id: str = msgspec.field(name="_id")
    nonce: str


class FindQuery(msgspec.Struct, frozen=True, rename="camel"):
    """Whom to find: both must name the same account."""

    email: Text
    email_hash: Text


class FoundAddress(msgspec.Struct, frozen=True):
    """The Mailio address behind an email."""

    address: str


class Message(msgspec.Struct, frozen=True):
    """A word of confirmation."""

    message: str


class AccountRoutes:
    """Routes around having an account and being logged in."""

    def __init__(self, core: Core, cookie: TokenCookie) -> None:
        self._core = core
        self._accounts = core.accounts
        self._cookie = cookie

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [*self._public(), *self._own()]

    def _public(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/nonce",
                summary="A challenge to sign; it can be answered once, within five minutes",
                tag="accounts",
                handler=self.nonce,
                answer=NonceAnswer,
                cost=Cost.NONCE,
            ),
            Route(
                method="POST",
                path="/api/v1/register",
                summary="Open an account with a signed challenge",
                tag="accounts",
                handler=self.register,
                body=RegisterRequest,
                answer=Token,
                refusals=(401, 409),
                cost=Cost.COSTLY,
            ),
            Route(
                method="POST",
                path="/api/v1/login",
                summary="Log in with a signed challenge",
                tag="accounts",
                handler=self.login,
                body=KeyProof,
                answer=Token,
                refusals=(401, 404),
            ),
            Route(
                method="GET",
                path="/api/v1/findaddress",
                summary="The address behind an email, for those who know the email and its hash",
                tag="accounts",
                handler=self.find,
                query=FindQuery,
                answer=FoundAddress,
                refusals=(404,),
                cost=Cost.COSTLY,
            ),
        ]

    def _own(self) -> list[Route]:
        return [
            Route(
                method="DELETE",
                path="/api/v1/nonce/{nonce}",
                summary="Withdraw a challenge",
                tag="accounts",
                handler=self.delete_nonce,
                answer=DeletedNonce,
                auth=Auth.TOKEN,
                refusals=(404,),
            ),
            Route(
                method="GET",
                path="/api/v1/logout",
                summary="Revoke the token of this request and clear the cookie",
                tag="accounts",
                handler=self.log_out,
                answer=Message,
                auth=Auth.TOKEN,
            ),
        ]

    async def nonce(self, _: Call[None, None]) -> NonceAnswer:
        """Issue a challenge."""
        issued = self._accounts.nonces.issue()
        return NonceAnswer(issued.nonce, issued.created)

    async def register(self, call: Call[None, RegisterRequest]) -> Reply:
        """Open an account. Raises Forbidden while registration is closed, Unauthenticated, Conflict."""
        require_open(self._core)
        body = call.body
        key = public_key_from_base64(body.ed25519_signing_public_key_base64)
        agreement = public_key_from_base64(body.x25519_public_key_base64)
        address = body.mailio_address.lower()
        await self._prove(address, key, body.nonce, body.signature_base64)
        require_free_name(body.email)
        registration = Registration(
            email=body.email,
            signing_key=key,
            agreement_key=agreement,
            database_password=body.database_password,
        )
        await self._accounts.open(registration, client(address))
        token = self._accounts.issue_token(address, key, body.nonce)
        return Reply(Token(token), self._cookie.log_in(token, self._core.clock.now()))

    async def login(self, call: Call[None, KeyProof]) -> Token:
        """Issue a token. Whoever can't prove the key learns nothing about the account.

        Raises Unauthenticated; after the proof NotFound, Forbidden.
        """
        body = call.body
        key = public_key_from_base64(body.ed25519_signing_public_key_base64)
        address = body.mailio_address.lower()
        await self._prove(address, key, body.nonce, body.signature_base64)
        await self._accounts.require_enabled(address)
        await self._require_credential(address)
        return Token(self._accounts.issue_token(address, key, body.nonce))

    async def _prove(self, address: str, key: bytes, nonce: str, signature: str) -> None:
        raw = from_base64(signature, length=SIGNATURE_BYTES, limit=128)
        await self._accounts.prove_nonce(address, key, nonce, raw)

    async def _require_credential(self, address: str) -> None:
        """Require the credential that registration issued (wire spec section 1.10). Raises Forbidden."""
        keys = self._core.keys
        issued = await self._core.directory.credentials(address)
        if not issued:
            raise Forbidden("no credential was issued to this account")
        verify_registration_credential(issued[0], address, *issuer_of(issued[0], keys.known))

    async def find(self, call: Call[FindQuery, None]) -> FoundAddress:
        """Find an address; every miss reads the same (wire spec section 10.3, S13). Raises NotFound."""
        entry = await self._core.directory.by_email(call.query.email)
        stored = entry.email_hash if entry else ""
        same = hmac.compare_digest(stored.encode(), call.query.email_hash.encode())
        if entry is None or not entry.enabled or not same:
            raise NotFound("email not found")
        return FoundAddress(entry.address)

    async def delete_nonce(self, call: Call[None, None]) -> DeletedNonce:
        """Use a challenge up. Raises NotFound."""
        nonce = call.path("nonce")
        try:
            self._accounts.nonces.take(nonce)
        except Unauthenticated as error:
            raise NotFound("nonce not found", error.public) from None
        return DeletedNonce(nonce, nonce)

    async def log_out(self, call: Call[None, None]) -> Reply:
        """Revoke the token for the rest of its life: a copy of it is of no use either."""
        assert call.claims is not None
        await self._accounts.log_out(call.claims)
        return Reply(Message("logged out"), self._cookie.log_out())


def require_free_name(email: str) -> None:
    """Raise Conflict for a name that is the operator's to give, InvalidInput for no email."""
    if email_local_part(normalise_email(email)) in RESERVED:
        raise Conflict("this name is reserved")


def require_open(core: Core) -> None:
    """Raise Forbidden when only the operator makes accounts."""
    if not core.settings.node.registration:
        raise Forbidden("registration is closed")
