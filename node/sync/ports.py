"""What the sync door needs of the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from events.event import Recorded
from events.handshake import Terms
from events.log.log import Origin
from node.storage.sealed import Stored


class Identity(Protocol):
    """Somebody who proved who they are."""

    @property
    def address(self) -> str:
        """Their Mailio address."""


Authenticate = Callable[[web.Request], Awaitable[Identity]]
"""Say who asks. Raises `events.errors.Unauthenticated`."""


class MailboxPort(Protocol):
    """The way to a user's mailbox actor."""

    async def execute(self, address: str, command: object, origin: Origin) -> list[Recorded]:
        """Carry out a command of `events.mailbox`; raises what its `decide` and the log raise."""

    async def used(self, address: str) -> int:
        """Return the bytes that a mailbox holds, as its quota counts them."""


class Visibility(Protocol):
    """How far the view behind the door has come."""

    async def reached(self, position: int) -> None:
        """Return when the view contains every event up to this log position."""


class HandshakeVerifier(Protocol):
    """Who checks the handshake documents that a client writes (wire spec sections 4.2 to 4.4)."""

    async def verify(self, owner: str, document_id: str, document: dict[str, Any]) -> Terms:
        """Return what the document says; raise a MailioError that names the reason why it doesn't count."""


class Blobs(Protocol):
    """Where bodies and attachments are kept (`node.storage.sealed.SealedBlobs`)."""

    async def seal(self, body: bytes, owner: str) -> Stored:
        """Seal a body for its owner, to learn its name; nothing is stored."""

    async def keep(self, *stored: Stored) -> None:
        """Store what was sealed; return when every one of them is synced."""

    async def read(self, name: str) -> bytes:
        """Return the bytes of a blob."""
