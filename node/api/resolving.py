"""What other domains are, and who their users are: DNS and `did:web` (wire spec sections 2 and 7.2)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec

from events.errors import InvalidInput, MailioError, NotFound
from events.identity import Did, email_domain, normalise_email
from node.api.request_data import Text
from node.api.route import Auth, Call, Route
from node.core import Core
from node.crypto.base64_text import to_base64
from node.discovery.domains import Domain
from node.mtp.did_lookup import DidLookup
from node.mtp.status import MtpStatus
from node.rate import TooManyRequests

MAX_DIDS: Final = 50
"""DIDs in one request: the recipients of a message, and each may mean a request to another host."""


class DomainQuery(msgspec.Struct, frozen=True):
    """An email address of the domain; `force` passes over what is remembered."""

    email: Text
    force: bool = False


class WebDidRequest(msgspec.Struct, frozen=True):
    """DIDs of the form `did:web:<host>#<address>`."""

    dids: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_DIDS)]


class EmailToLookUp(msgspec.Struct, frozen=True, rename="camel"):
    """An email; its hash is computed here, whatever the client says it is."""

    email: Text
    email_hash: str = ""


class DidRequest(msgspec.Struct, frozen=True):
    """Emails whose DID documents are wanted."""

    lookups: Annotated[list[EmailToLookUp], msgspec.Meta(min_length=1, max_length=MAX_DIDS)]


class Lookups(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What was found and what was not."""

    found: list[DidLookup] = []
    not_found: list[DidLookup] = []


class ResolvingRoutes:
    """Routes that ask other domains."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/resolve/domain",
                summary="Whether a domain is a Mailio domain, takes plain mail, or neither",
                tag="resolving",
                handler=self.domain,
                query=DomainQuery,
                answer=Domain,
                auth=Auth.TOKEN,
            ),
            Route(
                method="POST",
                path="/api/v1/resolve/webdid",
                summary="DID documents of users of any Mailio server",
                tag="resolving",
                handler=self.web_dids,
                body=WebDidRequest,
                answer=Lookups,
                auth=Auth.TOKEN,
            ),
            Route(
                method="POST",
                path="/api/v1/resolve/did",
                summary="DID documents of users by their emails, asked of their servers",
                tag="resolving",
                handler=self.emails,
                body=DidRequest,
                answer=Lookups,
                auth=Auth.TOKEN,
            ),
        ]

    async def domain(self, call: Call[DomainQuery, None]) -> Domain:
        """Look the domain up. Raises InvalidInput; 503 when DNS does not say, or says nonsense.

        An answer that rests on a fault would have clients send plain mail to a Mailio domain.
        """
        domain = email_domain(normalise_email(call.query.email))
        if domain in self._core.settings.node.email_domains:
            return self._own(domain)
        found = await self._core.discovery.domains.look_up(domain, force=call.query.force)
        found.require()
        return found.domain()

    def _own(self, domain: str) -> Domain:
        """Say what the node itself knows: its users are reached whatever DNS says."""
        return Domain(
            name=domain,
            supports_mailio=True,
            mailio_did_domain=self._core.settings.node.server_domain,
            supports_standard_email=True,
            mailio_public_key=to_base64(self._core.keys.published[0]),
            timestamp=self._core.clock.now(),
        )

    async def web_dids(self, call: Call[None, WebDidRequest]) -> Lookups:
        """Look all of them up at once. Raises InvalidInput when one is no DID of a user."""
        dids = [_user_did(text) for text in dict.fromkeys(call.body.dids)]
        lookups = await asyncio.gather(*(self._web_did(did) for did in dids))
        return Lookups(
            found=[one for one in lookups if one.did_document is not None],
            not_found=[one for one in lookups if one.did_document is None],
        )

    async def emails(self, call: Call[None, DidRequest]) -> Lookups:
        """Look all of them up (wire spec section 3.4). Raises InvalidInput, Busy.

        An address of a domain for plain mail is found, without a document.
        """
        emails = [normalise_email(one.email) for one in call.body.lookups]
        lookups = await self._core.federation.lookup.all(emails, call.address)
        found = [one for one in lookups if one.did_document is not None or _plain(one)]
        return Lookups(found=found, not_found=[one for one in lookups if one not in found])

    async def _web_did(self, did: Did) -> DidLookup:
        try:
            document = await self._document(did)
        except MailioError as error:
            return self._lookup(did, None, *_status(error))
        return self._lookup(did, document, (2, 0, 0), "DID found")

    async def _document(self, did: Did) -> dict[str, Any]:
        """Own users are in the directory (wire spec section 10.1, Q18). Raises as `WebDids.resolve` does."""
        if did.host != self._core.settings.node.server_domain:
            return await self._core.discovery.dids.resolve(did)
        document = await self._core.directory.did_document(did.address)
        if document is None:
            raise NotFound("did not found")
        return document

    def _lookup(
        self, did: Did, document: dict[str, Any] | None, code: tuple[int, int, int], text: str
    ) -> DidLookup:
        return DidLookup(
            email_hash="",
            email="",
            supports_mailio=document is not None,
            did_document=document,
            mtp_status_code=MtpStatus(*code, text, timestamp=self._core.clock.now()),
            did=str(did),
        )


def _plain(one: DidLookup) -> bool:
    return one.supports_standard_email and not one.supports_mailio


def _user_did(text: str) -> Did:
    did = Did.parse(text)
    if not did.host or not did.fragment or not did.address:
        raise InvalidInput("invalid DID")
    return did


def _status(error: MailioError) -> tuple[tuple[int, int, int], str]:
    """Map an error to the statuses of wire spec section 7.2; class 1 is the reference server's (Q11)."""
    if isinstance(error, NotFound):
        return (1, 1, 1), error.public
    if isinstance(error, TooManyRequests):
        return (4, 4, 5), error.public
    if type(error) is InvalidInput:
        return (1, 1, 7), error.public
    return (4, 4, 0), error.public
