"""The node's rooms as the API and the sync door use them: mailboxes, the view behind them, owners' keys."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from actors import mailbox
from actors.handshake import is_about_handshakes
from actors.messages import Execute, Inspect
from events.errors import NotFound
from events.event import Recorded
from events.log.log import Origin
from events.mailbox import Mailbox
from node.core import Core
from node.crypto.base64_text import from_base64
from projections.directory import AccountDirectory

BOOK_SECONDS = 5.0
"""How long an answer about a handshake waits for the book; in a rush of mail the book may come later."""


class Mailboxes:
    """The way to mailbox actors: the sync door's `MailboxPort`, and what the API asks."""

    def __init__(self, core: Core) -> None:
        self._actors = core.actors
        self._views = core.views
        self._dispatcher = core.dispatcher

    async def execute(self, address: str, command: object, origin: Origin) -> list[Recorded]:
        """Carry out a command; raises what the mailbox's `decide` and the log raise, and Busy.

        When it concerns handshakes, the owner's book follows before this returns: who has just been
        revoked is refused from the answer on.
        """
        recorded = await self._actors.ask(mailbox.KIND, address, Execute(command, origin))
        assert isinstance(recorded, list)
        if any(map(is_about_handshakes, recorded)):
            with suppress(TimeoutError):
                async with asyncio.timeout(BOOK_SECONDS):
                    await self._dispatcher.reached(recorded[-1].position)
        return recorded

    async def change(self, address: str, command: object, origin: Origin, view: str) -> None:
        """Carry out a command, and return when a view shows it."""
        recorded = await self.execute(address, command, origin)
        if recorded:
            await self._views.reached(view, recorded[-1].position)

    async def state(self, address: str) -> Mailbox:
        """Return the live state of a mailbox: read it, never change it."""
        state = await self._actors.ask(mailbox.KIND, address, Inspect())
        assert isinstance(state, Mailbox)
        return state

    async def used(self, address: str) -> int:
        """Return the bytes that a mailbox holds, as its quota counts them."""
        return (await self.state(address)).used


class UserVisibility:
    """How far the users' databases have come: the sync door's `Visibility`."""

    def __init__(self, core: Core) -> None:
        self._views = core.views

    async def reached(self, position: int) -> None:
        """Return when the view contains every event up to this log position."""
        await self._views.reached("userdb", position)


class OwnerKeys:
    """The registered Ed25519 keys, against which handshake documents are verified."""

    def __init__(self, directory: AccountDirectory) -> None:
        self._directory = directory

    async def of(self, address: str) -> bytes:
        """Return the 32 bytes of an account's key. Raises NotFound."""
        entry = await self._directory.by_address(address)
        if entry is None:
            raise NotFound("user not found")
        return from_base64(entry.signing_key, length=32)
