"""Verifiable credentials: one's own, and whether one that somebody shows holds (wire spec section 1.6)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from events.errors import Forbidden, InvalidInput, NotFound
from events.identity import is_document_hash
from node.api.route import Auth, Call, Route
from node.core import Core
from node.crypto.credentials import issuer_of, verify_credential

Credential = dict[str, Any]
"""A W3C credential in the form of section 1.6."""


class ListQuery(msgspec.Struct, frozen=True):
    """How many credentials are wanted."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10


class Validity(msgspec.Struct, frozen=True, rename="camel"):
    """That a credential holds, with the name that the asker gave the question."""

    valid: bool
    request_id: str


class CredentialRoutes:
    """Routes around credentials. Each account sees its own only (wire spec section 10.3, S21)."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/credentials/list/{address}",
                summary="Own credentials",
                tag="credentials",
                handler=self.all,
                query=ListQuery,
                answer=list[Credential],
                auth=Auth.TOKEN,
            ),
            Route(
                method="GET",
                path="/api/v1/credentials/{id}",
                summary="One of the own credentials",
                tag="credentials",
                handler=self.one,
                answer=Credential,
                auth=Auth.TOKEN,
                refusals=(404,),
            ),
            Route(
                method="POST",
                path="/api/v1/credentials/{requestId}/verify",
                summary="Whether this server issued exactly this credential",
                tag="credentials",
                handler=self.verify,
                body=Credential,
                answer=Validity,
                auth=Auth.TOKEN,
            ),
        ]

    async def all(self, call: Call[ListQuery, None]) -> list[Credential]:
        """List them. Raises Forbidden for another's."""
        if call.path("address").lower() != call.address:
            raise Forbidden("these are another account's credentials")
        return (await self._core.directory.credentials(call.address))[: call.query.limit]

    async def one(self, call: Call[None, None]) -> Credential:
        """Return one. Raises NotFound, for another's too."""
        wanted = call.path("id")
        entry = await self._core.directory.by_address(call.address)
        if entry is None or not is_document_hash(wanted) or wanted not in entry.credentials:
            raise NotFound("credential not found")
        credential = await self._core.directory.credential(wanted)
        if credential is None:
            raise NotFound("credential not found")
        return credential

    async def verify(self, call: Call[None, Credential]) -> Validity:
        """Compare the whole content with what was signed (S17). Raises InvalidInput when it differs."""
        keys = self._core.keys
        try:
            verify_credential(call.body, *issuer_of(call.body, keys.trusted))
        except Forbidden as error:
            raise InvalidInput(error.public, error.private) from None
        return Validity(valid=True, request_id=call.path("requestId"))
