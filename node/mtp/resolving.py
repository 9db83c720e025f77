"""Who an email belongs to, asked of its domain's server (wire spec section 3.4, asking side)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from events.errors import InvalidInput, MailioError, NotFound
from events.identity import email_domain
from events.log.log import Clock
from node.crypto.keys import ServerKeys, SigningKeys
from node.discovery.documents import checked_document
from node.discovery.domains import Discovered, DomainKind, Domains
from node.discovery.fetch import Fetched, GuardedClient
from node.mtp import status
from node.mtp.did_lookup import DidLookup, DidLookupRequest, DidLookupResponse, asking_header
from node.mtp.envelope import DID_LOOKUP, open_reply, sign_request
from node.mtp.judging import holds_another_key
from node.mtp.ports import PeerKeys
from node.mtp.status import Code
from projections.directory import AccountDirectory

ANSWER_BYTES: Final = 524_288
"""Largest answer that is read: fifty documents of 2 KB, twice, in base64."""

JSON: Final = {"Content-Type": "application/json"}


class Hasher(Protocol):
    """Where email hashes are computed."""

    async def hash(self, email: str) -> str:
        """Return the hash of wire spec section 1.8."""


class LookupFailed(MailioError):
    """A domain's server gave no answer that can be used; the status of section 3.4's table says why."""

    def __init__(self, code: Code, public: str, private: str = "", *, temporary: bool = False) -> None:
        super().__init__(public, private)
        self.code = code
        self.passes = temporary


class Asked(msgspec.Struct, frozen=True):
    """What a domain's server says, and which host it is ("" for a domain of plain mail)."""

    server: str
    lookups: list[DidLookup]


class EmailLookup:
    """Asks for the DID documents of emails, each domain's server once."""

    def __init__(
        self,
        *,
        client: GuardedClient,
        domains: Domains,
        keys: PeerKeys,
        signing: ServerKeys,
        hasher: Hasher,
        directory: AccountDirectory,
        clock: Clock,
        server_domain: str,
        email_domains: Sequence[str],
    ) -> None:
        """`signing` signs for `server_domain`; `email_domains` are the node's own."""
        self._client = client
        self._domains = domains
        self._peer_keys = keys
        self._signing = signing
        self._hasher = hasher
        self._directory = directory
        self._clock = clock
        self._server_domain = server_domain
        self._own = frozenset(email_domains)

    async def all(self, emails: Iterable[str], sender: str) -> list[DidLookup]:
        """Look emails (normalised) up on behalf of `sender`; those without a document say why not."""
        groups: dict[str, list[str]] = {}
        for email in dict.fromkeys(emails):
            groups.setdefault(email_domain(email), []).append(email)
        found = await asyncio.gather(
            *(self._of_domain(domain, group, sender) for domain, group in groups.items())
        )
        return [lookup for group in found for lookup in group]

    async def _of_domain(self, domain: str, emails: Sequence[str], sender: str) -> list[DidLookup]:
        if domain in self._own:
            return [await self._local(email) for email in emails]
        try:
            return (await self.asked(domain, emails, sender)).lookups
        except LookupFailed as error:
            return [self._missing(email, error.code, error.public) for email in emails]
        except NotFound:
            return [DidLookup(email_hash="", email=email) for email in emails]
        except MailioError:
            text = "error while resolving domain"
            return [self._missing(email, status.DIRECTORY_FAILURE, text) for email in emails]

    async def _local(self, email: str) -> DidLookup:
        entry = await self._directory.by_email(email)
        document = await self._directory.did_document(entry.address) if entry and entry.enabled else None
        return DidLookup(
            email_hash=entry.email_hash if entry else "",
            email=email,
            supports_mailio=True,
            supports_standard_email=True,
            did_document=document,
        )

    def _missing(self, email: str, code: Code, text: str) -> DidLookup:
        told = code.status(text, at=self._clock.now())
        return DidLookup(email_hash="", email=email, mtp_status_code=told)

    async def asked(self, domain: str, emails: Sequence[str], sender: str) -> Asked:
        """Ask a domain's server. Raises LookupFailed, what `Domains.look_up` and DNS raise, and Busy."""
        discovered = await self._domains.look_up(domain)
        match discovered.kind:
            case DomainKind.SMTP:
                plain = [DidLookup(email_hash="", email=one, supports_standard_email=True) for one in emails]
                return Asked("", plain)
            case DomainKind.NEITHER:
                text = "domain does not support mailio or standard email"
                raise LookupFailed(status.SYSTEM_UNSUITABLE, text, domain)
            case DomainKind.MAILIO:
                found = await self._of_server(discovered, emails, sender)
                return Asked(discovered.server, found)

    async def _of_server(self, discovered: Discovered, emails: Sequence[str], sender: str) -> list[DidLookup]:
        hashes = dict(zip(await asyncio.gather(*map(self._hasher.hash, emails)), emails, strict=True))
        answer = await self._answer(discovered.server, self._request(hashes, sender))
        found = {one.email_hash: _proven(one.did_document) for one in answer.found_lookups}
        return [
            DidLookup(
                email_hash=email_hash,
                email=email,
                supports_mailio=True,
                supports_standard_email=discovered.takes_mail,
                did_document=found.get(email_hash),
            )
            for email_hash, email in hashes.items()
        ]

    def _request(self, hashes: Mapping[str, str], sender: str) -> DidLookupRequest:
        return DidLookupRequest(
            sender_address=sender,
            lookup_header=asking_header(self._clock.now()),
            did_lookups=[DidLookup(email_hash=one, email=email) for one, email in hashes.items()],
        )

    async def _posted(self, server: str, request: DidLookupRequest) -> Fetched:
        """Post, while keys change a second time by the other one if the server holds that.

        Raises LookupFailed.
        """
        first, *others = self._signing.signers
        try:
            answer = await self._sent(server, request, first)
            for other in others:
                if holds_another_key(answer):
                    answer = await self._sent(server, request, other)
        except MailioError as error:
            text = "failed to request DID document from remote server"
            raise LookupFailed(Code(4, 4, 1), text, str(error), temporary=True) from None
        return answer

    async def _sent(self, server: str, request: DidLookupRequest, keys: SigningKeys) -> Fetched:
        body = sign_request(DID_LOOKUP, request, keys, self._server_domain)
        url = f"https://{server}{DID_LOOKUP.path}"
        return await self._client.send("POST", url, ANSWER_BYTES, body=body, headers=JSON)

    async def _answer(self, server: str, request: DidLookupRequest) -> DidLookupResponse:
        """Ask a server and verify what it says."""
        answer = await self._posted(server, request)
        if answer.status >= 400:
            passes = answer.status >= 500 or answer.status == 429
            text = f"received error from remote server: {server}"
            raise LookupFailed(status.NETWORK_OTHER, text, str(answer.status), temporary=passes)
        try:
            opened = open_reply(DID_LOOKUP, answer.body)
        except InvalidInput as error:
            raise LookupFailed(status.CONVERSION_FAILED, "invalid answer", str(error)) from None
        keys = await self._peer_keys.of(server)
        if not opened.is_signed_by(keys) and not opened.is_signed_by(await self._peer_keys.of(server, True)):
            raise LookupFailed(status.BAD_SIGNATURE, "invalid signature", server)
        return _response(opened.payload, opened.require_covered)


def _proven(document: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a document that its own key proves: the signature of a reply need not cover it (S19)."""
    try:
        return checked_document(msgspec.json.encode(document)) if document is not None else None
    except InvalidInput:
        return None


def _response(payload: dict[str, Any], require: Any) -> DidLookupResponse:
    try:
        require()
        return msgspec.convert(payload, DidLookupResponse)
    except (InvalidInput, msgspec.ValidationError) as error:
        raise LookupFailed(status.CONVERSION_FAILED, "invalid answer", str(error)[:200]) from None
