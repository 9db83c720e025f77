"""Folders with what is in them (MIR-8): the system's own, and those that the user added."""

from __future__ import annotations

from typing import Final

import msgspec

from events.identity import userdb_name
from events.mailbox import CreateFolder, RemoveFolder, RenameFolder
from events.policy import Folder as SystemFolder
from node.api.mailboxes import Mailboxes
from node.api.request_data import Text
from node.api.route import Auth, Call, Route
from node.core import Core
from projections.stores.reading import FolderCount

NAMES: Final = {SystemFolder.GOODREADS: "Good Reads"}
"""Names of system folders that are not simply their id with a capital."""

NONE: Final = FolderCount(0, 0)


class Folder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A folder. A message's member `folder` holds the folder's id."""

    id: str
    name: str
    total_messages: int
    unread_messages: int


class NewFolder(msgspec.Struct, frozen=True):
    """The name of a folder to add."""

    name: Text


class RenamedFolder(msgspec.Struct, frozen=True):
    """Another name for a folder."""

    id: Text
    name: Text


class Deleted(msgspec.Struct, frozen=True):
    """That something is gone."""

    status: str = "deleted"


class FolderRoutes:
    """Routes of the own folders."""

    def __init__(self, core: Core, mailboxes: Mailboxes) -> None:
        self._core = core
        self._mailboxes = mailboxes

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [*self._reading(), *self._writing()]

    def _reading(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/folder",
                summary="All folders, with the number of messages in each",
                tag="folders",
                handler=self.all,
                answer=list[Folder],
                auth=Auth.TOKEN,
                aliases=("/v1/folder",),
            )
        ]

    def _writing(self) -> list[Route]:
        return [
            Route(
                method="POST",
                path="/api/v1/folder",
                summary="Add a folder",
                tag="folders",
                handler=self.create,
                body=NewFolder,
                answer=Folder,
                status=201,
                auth=Auth.TOKEN,
                refusals=(409, 413),
                aliases=("/v1/folder",),
            ),
            Route(
                method="PUT",
                path="/api/v1/folder",
                summary="Give a folder another name",
                tag="folders",
                handler=self.rename,
                body=RenamedFolder,
                answer=Folder,
                auth=Auth.TOKEN,
                refusals=(404, 409),
                aliases=("/v1/folder",),
            ),
            Route(
                method="DELETE",
                path="/api/v1/folder/{id}",
                summary="Remove an empty folder",
                tag="folders",
                handler=self.remove,
                answer=Deleted,
                auth=Auth.TOKEN,
                refusals=(404, 409),
                aliases=("/v1/folder/{id}",),
            ),
        ]

    async def all(self, call: Call[None, None]) -> list[Folder]:
        """List them: the system's in their usual order, then the own ones by name."""
        counts = await self._counts(call.address)
        own = (await self._mailboxes.state(call.address)).folders
        names = {folder.value: NAMES.get(folder, folder.value.capitalize()) for folder in SystemFolder}
        names |= dict(sorted(own.items(), key=lambda item: item[1]))
        return [_folder(ident, name, counts.get(ident, NONE)) for ident, name in names.items()]

    async def create(self, call: Call[None, NewFolder]) -> Folder:
        """Add one. Raises InvalidInput, Conflict, LimitExceeded."""
        clock = self._core.clock
        command = CreateFolder(clock.event_id(), call.body.name, clock.now())
        await self._mailboxes.change(call.address, command, call.origin, "userdb")
        return await self._one(call.address, command.id)

    async def rename(self, call: Call[None, RenamedFolder]) -> Folder:
        """Rename one. Raises NotFound, Conflict, InvalidInput."""
        command = RenameFolder(call.body.id, call.body.name, self._core.clock.now())
        await self._mailboxes.change(call.address, command, call.origin, "userdb")
        return await self._one(call.address, command.id)

    async def remove(self, call: Call[None, None]) -> Deleted:
        """Remove one. Raises NotFound, Conflict while messages are in it."""
        ident = call.path("id")
        count = (await self._counts(call.address)).get(ident, NONE)
        await self._mailboxes.change(call.address, RemoveFolder(ident, count.total), call.origin, "userdb")
        return Deleted()

    async def _counts(self, address: str) -> dict[str, FolderCount]:
        return await self._core.views.stores["userdb"].folder_counts(userdb_name(address))

    async def _one(self, address: str, ident: str) -> Folder:
        name = (await self._mailboxes.state(address)).folders[ident]
        return _folder(ident, name, (await self._counts(address)).get(ident, NONE))


def _folder(ident: str, name: str, count: FolderCount) -> Folder:
    return Folder(id=ident, name=name, total_messages=count.total, unread_messages=count.unread)
