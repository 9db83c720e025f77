"""A node without doors in a folder of its own, its backup, and the words that tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from events.mail import Recipient
from node.accounts import Registration
from node.backup.checking import Checked, check
from node.backup.folder import BackupFolder
from node.backup.making import KEEP, Made, make
from node.backup.restoring import Restored, restore
from node.core import Core
from node.crypto.keys import UserKeys
from node.settings import NodeSettings, Settings
from node.smtp.ports import SessionFacts

FACTS = SessionFacts(session="s", client="192.0.2.1", helo="mx.example", esmtp=True, tls="", smtputf8=False)
OWNER = "someone@alpha.example"
FRIEND = "friend@beta.example"


def mail(subject: str, size: int = 0) -> bytes:
    """A message with `size` bytes of letters that no other message has."""
    text = f"From: {FRIEND}\r\nTo: {OWNER}\r\nSubject: {subject}\r\n\r\nThis is {subject}.\r\n"
    return text.encode() + f"{subject} ".encode() * (size // (len(subject) + 1)) + b"\r\n"


def nobody_watches(what: str, done: int, total: int) -> None:
    """Take reports of progress, which must make sense."""
    assert 0 <= done <= total, what


class Place:
    """A node's folder and its backup's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.backup = BackupFolder(folder / "backup")
        self.configuration = folder / "node.toml"
        self.settings = Settings(node=NodeSettings(data=self.data))
        if not self.configuration.exists():
            self.configuration.write_text('[node]\ndata = "data"\n')

    def make(self, keep: int = KEEP) -> Made:
        """Add a point."""
        return make(self.settings, self.configuration, self.backup.path, keep=keep, tell=nobody_watches)

    def check(self, point: str | None = None) -> Checked:
        """Check a point."""
        return check(self.backup.path, point, nobody_watches)

    def restore(self, data: Path | None = None, point: str | None = None) -> Restored:
        """Restore to a place, by default to where the data was."""
        return restore(self.backup.path, data or self.data, point, nobody_watches)

    def lose_data(self) -> None:
        """Take the data away."""
        self.data.rename(self.folder / f"lost{len(list(self.folder.iterdir()))}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Core]:
        """Run the node for the length of a block."""
        core = Core(self.settings)
        await core.start()
        try:
            yield core
        finally:
            await core.close()

    def receive(self, *raw: bytes) -> None:
        """Start the node, let mails come in and be filed, and stop it."""
        asyncio.run(self._receive(raw))

    async def _receive(self, raw: tuple[bytes, ...]) -> None:
        async with self.running() as core:
            await accept(core, *raw)


async def accept(core: Core, *raw: bytes) -> None:
    """Take mails for the owner and have them filed; the owner's account is opened with the first."""
    entry = await core.directory.by_email(OWNER)
    address = entry.address if entry else (await open_account(core)).address
    for each in raw:
        await core.acceptance.accept(FACTS, FRIEND, (Recipient(address, OWNER),), each)
    await core.dispatcher.reached(core.log.head)
    await core.views.reached("userdb", core.log.head)


async def open_account(core: Core, email: str = OWNER) -> UserKeys:
    """Open an account with fresh keys."""
    keys = UserKeys.generate()
    registration = Registration(
        email=email,
        signing_key=keys.public_key,
        agreement_key=keys.agreement_public_key,
        database_password="secret",
    )
    await core.accounts.open(registration, "test")
    return keys
