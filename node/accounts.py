"""Accounts as the API and the operator's commands use them: open, find, prove, change.

Everything here ends in a command to the account's actor; reading goes through the directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from actors.messages import Execute, Inspect
from events import account
from events.account import (
    Account,
    AccountMoved,
    AccountOpened,
    Command,
    EmailClaimed,
    OpenAccount,
    Passkey,
    SmartKey,
)
from events.errors import Conflict, Forbidden, Gone, NotFound, Unauthenticated, VersionConflict
from events.event import Recorded
from events.identity import email_domain, mailio_address, normalise_email, web_did
from events.log.log import Clock, Origin, Write
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.credentials import issue_registration_credential
from node.crypto.did_documents import ServerEndpoints, user_document
from node.crypto.email_hash import EmailHasher
from node.crypto.jwe import SealTo
from node.crypto.keys import KEY_BYTES, ServerKeys, verify_signature
from node.crypto.nonces import NonceBook
from node.crypto.passwords import Passwords
from node.crypto.tokens import Claims, TokenIssuer
from projections.directory import AccountDirectory, AccountEntry


class Actors(Protocol):
    """Where accounts are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class Keys(Protocol):
    """Where users' keys are kept."""

    def key_of(self, owner: str) -> object:
        """Return a user's key, made durable first if there is none. Raises Gone when it was destroyed."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody brings to open an account. Keys are 32 raw bytes."""

    email: str
    signing_key: bytes
    agreement_key: bytes
    database_password: str
    display_name: str = ""
    passkey: Passkey | None = None
    smart_key: SmartKey | None = None


class Accounts:
    """The accounts of one node."""

    def __init__(
        self,
        *,
        actors: Actors,
        directory: AccountDirectory,
        reached: Callable[[int], Awaitable[None]],
        keys: ServerKeys,
        endpoints: ServerEndpoints,
        email_domains: tuple[str, ...],
        passwords: Passwords,
        hasher: EmailHasher,
        tokens: TokenIssuer,
        nonces: NonceBook,
        clock: Clock,
        vault: Keys,
        restored_at: Callable[[], int] = lambda: 0,
    ) -> None:
        """`reached` waits until the directory has seen a position of the log.

        `restored_at` is when the log came out of a backup (ms, 0: never): what was revoked between the backup
        and that moment is not in it, so no token from before it counts.
        """
        self._restored_at = restored_at
        self._actors = actors
        self.directory = directory
        self._reached = reached
        self._keys = keys
        self._endpoints = endpoints
        self._email_domains = email_domains
        self._passwords = passwords
        self._hasher = hasher
        self._tokens = tokens
        self.nonces = nonces
        self._clock = clock
        self._vault = vault

    async def open(self, registration: Registration, actor: str) -> AccountOpened:
        """Open an account, and return when the directory knows it.

        Raises InvalidInput, Conflict when the email or the key is taken, Busy.
        """
        email = self._own_email(registration.email)
        if await self.directory.by_email(email):
            raise Conflict("user already exists")
        opened = await self._opened(registration, email)
        await self._require_key(opened.address)
        command = OpenAccount(opened=opened, passkey=registration.passkey, smart_key=registration.smart_key)
        claim = Write(
            account.email_stream(email), (EmailClaimed(email=email, address=opened.address),), expected=0
        )
        try:
            await self._execute(opened.address, command, actor, also=(claim,))
        except VersionConflict:
            raise Conflict("user already exists") from None
        return opened

    async def _require_key(self, address: str) -> None:
        """Have the user's key on disk before anything is sealed with it."""
        try:
            await asyncio.to_thread(self._vault.key_of, address)
        except Gone:
            raise Conflict("user already exists", f"{address} was erased") from None

    def _own_email(self, text: str) -> str:
        email = normalise_email(text)
        if email_domain(email) not in self._email_domains:
            raise Conflict("domain not supported", f"this node serves {', '.join(self._email_domains)}")
        return email

    async def _opened(self, registration: Registration, email: str) -> AccountOpened:
        address = mailio_address(registration.signing_key)
        now = self._clock.now()
        document, credential = self._issued(registration, address, now)
        return AccountOpened(
            address=address,
            email=email,
            email_hash=await self._hasher.hash(email),
            signing_key=to_base64(registration.signing_key),
            agreement_key=to_base64(registration.agreement_key),
            did_document=document,
            credential=credential,
            password_hash=await self._passwords.hash(registration.database_password),
            opened_at=now,
            display_name=registration.display_name,
        )

    async def moved(self, opened: AccountOpened, email: str) -> AccountMoved:
        """Issue what an account from another node needs here, under this email; nothing is recorded.

        Raises InvalidInput, and Conflict when address or email is taken, or the email is not of this node.
        """
        email = self._own_email(email)
        if await self.directory.by_address(opened.address):
            raise Conflict(f"there is an account with the address {opened.address} here already")
        if await self.directory.by_email(email):
            raise Conflict(f"there is an account called {email} here already: name another with --email")
        registration = Registration(
            email=email,
            signing_key=from_base64(opened.signing_key, length=KEY_BYTES),
            agreement_key=from_base64(opened.agreement_key, length=KEY_BYTES),
            database_password="",
        )
        now = self._clock.now()
        document, credential = self._issued(registration, opened.address, now)
        return AccountMoved(
            address=opened.address,
            email=email,
            email_hash=await self._hasher.hash(email),
            did_document=document,
            credential=credential,
            moved_at=now,
        )

    def _issued(self, registration: Registration, address: str, now: int) -> tuple[str, str]:
        """Return DID document and credential as JSON."""
        document = user_document(
            registration.signing_key,
            registration.agreement_key,
            self._keys.address,
            self._endpoints,
        )
        credential = issue_registration_credential(address, self._endpoints.domain, self._keys, now)
        return msgspec.json.encode(document).decode(), msgspec.json.encode(credential).decode()

    async def execute(self, address: str, command: Command, actor: str) -> list[Recorded]:
        """Carry out a command on an account, and return when the directory has seen it."""
        return await self._execute(address, command, actor)

    async def _execute(
        self, address: str, command: Command, actor: str, also: tuple[Write, ...] = ()
    ) -> list[Recorded]:
        message = Execute(command, Origin(actor=actor), also)
        recorded = await self._actors.ask("account", address, message)
        assert isinstance(recorded, list)
        if recorded:
            await self._reached(recorded[-1].position)
        return recorded

    async def state(self, address: str) -> Account:
        """Return an account's state. Raises NotFound when nobody opened it."""
        state = await self._actors.ask("account", address, Inspect())
        assert isinstance(state, Account)
        if state.opened is None:
            raise NotFound("user not found")
        return state

    async def seal_to(self, address: str) -> SealTo | None:
        """Say to which key mail by SMTP is sealed for an account; None where it is stored as it comes.

        It asks the account itself: the directory may be behind.
        """
        state = await self._actors.ask("account", address, Inspect())
        assert isinstance(state, Account)
        if state.opened is None or not state.seal_inbound:
            return None
        key = from_base64(state.opened.agreement_key, length=KEY_BYTES)
        return SealTo(str(web_did(self._endpoints.domain, address)), key)

    async def prove_nonce(self, address: str, public_key: bytes, nonce: str, signature: bytes) -> None:
        """Check the answer to a login challenge (wire spec section 1.10); the nonce is used up.

        Raises Unauthenticated.
        """
        self.nonces.take(nonce)
        if not verify_signature(public_key, nonce.encode(), signature):
            raise Unauthenticated("invalid signature")
        if mailio_address(public_key) != address:
            raise Unauthenticated("invalid mailio address")

    def issue_token(self, address: str, public_key: bytes, answered: str) -> str:
        """Issue a client token to somebody who has just answered a challenge."""
        return self._tokens.issue(address, public_key, answered, self._clock.now())

    async def authenticate_token(self, token: str) -> Claims:
        """Return the claims of a token that holds now: signed, current, not logged out, account enabled.

        Raises Unauthenticated.
        """
        claims = self._tokens.verify(token, self._clock.now())
        if claims.issued_at <= self._restored_at() // 1000:
            raise Unauthenticated("Failed to verify JWS message", "issued before the node was restored")
        entry = await self.directory.by_address(claims.address)
        if entry is None:
            raise Unauthenticated("User account not found")
        if not entry.enabled:
            raise Unauthenticated("User account is disabled")
        if claims.jti in (await self.state(claims.address)).revoked:
            raise Unauthenticated("Failed to verify JWS message", "logged out")
        return claims

    async def authenticate_password(self, address: str, password: str) -> AccountEntry:
        """Return the account behind a database password; unknown accounts take as long as known ones.

        Raises Unauthenticated, Busy.
        """
        entry = await self.directory.by_address(address)
        stored = entry.password_hash if entry and entry.enabled else None
        if not await self._passwords.verify(address, password, stored) or entry is None:
            raise Unauthenticated("Name or password is incorrect.")
        return entry

    async def change_password(self, address: str, password: str, actor: str) -> None:
        """Set the database password. Raises NotFound, InvalidInput."""
        await self.state(address)
        command = account.ChangeDatabasePassword(await self._passwords.hash(password))
        await self._execute(address, command, actor)

    async def log_out(self, claims: Claims) -> None:
        """Revoke one token for the rest of its life."""
        command = account.RevokeToken(claims.jti, claims.expires_at, self._clock.now() // 1000)
        await self._execute(claims.address, command, f"client/{claims.address}")

    async def find(self, name: str) -> AccountEntry:
        """Find an account by email or address. Raises NotFound, InvalidInput."""
        if name.startswith("0x"):
            entry = await self.directory.by_address(name.lower())
        else:
            entry = await self.directory.by_email(normalise_email(name))
        if entry is None:
            raise NotFound(f"no account {name} here")
        return entry

    async def require_enabled(self, address: str) -> AccountEntry:
        """Return an account that may log in. Raises NotFound, Forbidden."""
        entry = await self.directory.by_address(address)
        if entry is None:
            raise NotFound("user not found")
        if not entry.enabled:
            raise Forbidden("user is disabled")
        return entry
