"""Who the node is, and who its users are: DID documents (wire spec sections 1.4 and 1.5), MIR-7."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from events.errors import NotFound
from node.api.route import Call, Route
from node.core import Core
from node.crypto.did_documents import ServerEndpoints, did_configuration, server_document

Document = dict[str, Any]
"""A document whose form is a standard's."""

PROTOCOL_VERSION: Final = "1.0.0"
"""Of the client API and of the server-to-server protocol, as semantic versions (MIR-7)."""


class Protocol(msgspec.Struct, frozen=True):
    """A way to speak with this node: `type` is https or proto, `purpose` is restapi or exchange."""

    name: str
    version: str
    type: str
    purpose: str


class Capabilities(msgspec.Struct, frozen=True, rename="camel"):
    """What the node can do (MIR-7). Sizes in bytes."""

    email_domains: tuple[str, ...]
    supported_protocols: tuple[Protocol, ...]
    maximum_message_size_bytes: int
    maximum_single_attachment_size_bytes: int


class MailDomain(msgspec.Struct, frozen=True):
    """A domain whose mail this node takes."""

    name: str
    type: str = "smtp"


class Domains(msgspec.Struct, frozen=True):
    """The domains of this node."""

    domains: tuple[MailDomain, ...]


PROTOCOLS: Final = (
    Protocol("client", PROTOCOL_VERSION, "https", "restapi"),
    Protocol("mtp", PROTOCOL_VERSION, "https", "exchange"),
)


class Identity:
    """Routes that everybody may ask."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._domain = core.settings.node.server_domain
        self._endpoints = ServerEndpoints(self._domain, core.settings.mtp.messaging_path)

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/.well-known/did.json",
                summary="DID document of this server",
                tag="identity",
                handler=self.server,
                answer=Document,
            ),
            Route(
                method="GET",
                path="/.well-known/did-configuration.json",
                summary="Proof that the server's DID and its domain belong together",
                tag="identity",
                handler=self.configuration,
                answer=Document,
            ),
            Route(
                method="GET",
                path="/{address}/did.json",
                summary="DID document of a user",
                tag="identity",
                handler=self.user,
                answer=Document,
                refusals=(404,),
            ),
            Route(
                method="GET",
                path="/api/v1/domains",
                summary="Email domains of this node",
                tag="identity",
                handler=self.domains,
                answer=Domains,
            ),
            Route(
                method="GET",
                path="/api/v1/capabilities",
                summary="What this node can do (MIR-7)",
                tag="identity",
                handler=self.capabilities,
                answer=Capabilities,
                aliases=("/capabilities",),
            ),
        ]

    async def server(self, _: Call[None, None]) -> Document:
        """Return the server's document."""
        keys = self._core.keys
        other = keys.other.public_key if keys.other is not None else None
        return server_document(keys.public_key, self._endpoints, other)

    async def configuration(self, _: Call[None, None]) -> Document:
        """Return the domain linkage."""
        return did_configuration(self._core.keys, self._domain, self._core.clock.now())

    async def user(self, call: Call[None, None]) -> Document:
        """Return a user's document. Raises NotFound."""
        document = await self._core.directory.did_document(call.path("address"))
        if document is None:
            raise NotFound("did not found")
        return document

    async def domains(self, _: Call[None, None]) -> Domains:
        """Name the domains."""
        return Domains(tuple(MailDomain(name) for name in self._core.settings.node.email_domains))

    async def capabilities(self, _: Call[None, None]) -> Capabilities:
        """Say what the node can do. An attachment is as long as base64 leaves room in a message."""
        settings = self._core.settings
        longest = settings.smtp.limits.message_bytes
        return Capabilities(settings.node.email_domains, PROTOCOLS, longest, longest * 3 // 4)
