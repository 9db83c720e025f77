"""Erasing somebody: the event, the key, and then whatever else there is of them, until nothing is left.

    condemned -> AccountErased in the log -> key destroyed -> views, blobs, snapshots, files -> finished

The vault keeps how far an erasure is. From the event on there is no way back: what was interrupted is gone
on with at the next start. Everything after the key is tidying up: what is left then can't be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from actors import account as account_actor
from actors import handshake, mailbox
from actors.runtime.activation import ActorSystem
from actors.runtime.parking import Parking
from events import account
from events.account import AccountErased, EraseAccount
from events.errors import MailioError, NotFound, StorageUnavailable
from events.event import Erased
from events.log.snapshots import SqliteSnapshots
from events.log.sqlite_log import SqliteLog
from node.accounts import Accounts
from node.crypto.vault import KeyState, Vault
from node.leftovers import Leftovers, unsealed_traces
from node.storage.sealed import SealedBlobs
from node.views import Views
from projections.feeder import ParkingStore

_messages = structlog.get_logger("erasure")

VIEW_SECONDS = 120.0
"""How long an erasure waits for an embedded view to come to its event."""

COUCHDB_SECONDS = 10.0
"""How long an erasure waits for a CouchDB; one that is slower or away follows when it can."""

KEY_FILES = "accounts"
"""Folder below the data folder where `account add` writes key files unless told otherwise."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure did. `behind` names the CouchDB views that have not followed yet."""

    address: str
    blobs: int
    bytes: int
    behind: tuple[str, ...]


class Erasure:
    """Erases accounts of one node."""

    def __init__(
        self,
        *,
        data: Path,
        vault: Vault,
        log: SqliteLog,
        accounts: Accounts,
        actors: ActorSystem,
        parking: Parking,
        blobs: SealedBlobs,
        snapshots: SqliteSnapshots,
        views: Views,
    ) -> None:
        self._data = data
        self._vault = vault
        self._log = log
        self._accounts = accounts
        self._actors = actors
        self._parking = parking
        self._blobs = blobs
        self._snapshots = snapshots
        self._views = views
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Outcome]] = set()
        self.doing = ""

    async def address_of(self, name: str) -> str:
        """Find whom to erase by email or address, also one whose erasure was interrupted.

        Raises NotFound, InvalidInput.
        """
        if any(owner == name.lower() for owner, _ in await asyncio.to_thread(self._vault.unfinished)):
            return name.lower()
        return (await self._accounts.find(name)).address

    async def leftovers(self, address: str) -> Leftovers:
        """Find what an older program stored readably about an account: no key can erase that."""
        return await unsealed_traces(self._log, self._blobs, address)

    async def erase(self, address: str, reason: str, actor: str) -> Outcome:
        """Erase an account; `doing` says meanwhile what is being done. Goes on when the caller goes away.

        Raises NotFound, Gone when it was erased before, and StorageUnavailable or Busy when it has to be
        gone on with: by the same call with the address, or by the next start.
        """
        task = asyncio.create_task(self._erase(address, reason, actor))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _erase(self, address: str, reason: str, actor: str) -> Outcome:
        async with self._one_at_a_time:
            states = dict(await asyncio.to_thread(self._vault.unfinished))
            if states.get(address) is not KeyState.DESTROYED:
                self.doing = "recording the erasure"
                await self._record(address, reason, actor)
            return await self._finish(address)

    async def _record(self, address: str, reason: str, actor: str) -> None:
        """Have the event in the log. From the condemnation on, nothing is sealed that could come after it."""
        await asyncio.to_thread(self._vault.condemn, address)
        try:
            await self._accounts.execute(address, EraseAccount(reason), actor)
        except MailioError:
            # Where the event is there all the same, only the directory is behind.
            if await self._erased_at(address) is None:
                await asyncio.to_thread(self._vault.spare, address)
                raise

    async def resume(self) -> None:
        """Go on with what was interrupted; what still fails is reported and left to the next start."""
        for owner, state in await asyncio.to_thread(self._vault.unfinished):
            try:
                async with self._one_at_a_time:
                    await self._resume(owner, state)
            except (MailioError, OSError) as error:
                _messages.error("an erasure is not finished", address=owner, reason=str(error))

    async def _resume(self, owner: str, state: KeyState) -> None:
        if state is KeyState.CONDEMNED and await self._erased_at(owner) is None:
            # The machine stopped before the event: nobody was told that the account is gone.
            await asyncio.to_thread(self._vault.spare, owner)
            return
        await self._finish(owner)
        _messages.info("an interrupted erasure is finished", address=owner)

    async def _erased_at(self, address: str) -> int | None:
        """Position of the event that says so, None when there is none."""
        records = await self._log.stream(account.stream(address))
        found = [record.position for record in records if isinstance(record.event, AccountErased)]
        return found[0] if found else None

    async def _finish(self, address: str) -> Outcome:
        """Do everything that follows from the event; each part may be repeated."""
        position = await self._erased_at(address)
        if position is None:
            raise NotFound("no such account", address)
        self.doing = "destroying the key"
        await asyncio.to_thread(self._vault.destroy, address)
        await self._forget_in_memory(address)
        await self._clear_views(position)
        self.doing = "overwriting blobs"
        erased = await self._blobs.erase(await asyncio.to_thread(self._vault.destroyed))
        await self._snapshots.clear()
        await asyncio.to_thread(remove_key_files, self._data / KEY_FILES, address)
        self.doing = "waiting for CouchDB"
        behind = [name for name in sorted(self._views.in_couchdb) if not await self._follows(name, position)]
        await asyncio.to_thread(self._vault.finish, address)
        return Outcome(address=address, blobs=erased.blobs, bytes=erased.bytes, behind=tuple(behind))

    async def _clear_views(self, position: int) -> None:
        """Have the views take in the event, and leave nothing in their files."""
        self.doing = "removing documents from the views"
        for name in self._views.stores:
            await self._views.runners[name].reached(position, VIEW_SECONDS)
            await self._unpark(self._views.stores[name])
        for name in self._views.stores:
            self.doing = f"writing view {name} anew"
            await self._views.scrub(name)

    async def _forget_in_memory(self, address: str) -> None:
        """Let go of what was read while the key was there."""
        self._log.forget_recent()
        for kind in (account_actor.KIND, handshake.KIND, mailbox.KIND):
            await self._actors.dismiss(kind, address)
        self._parking.reread()

    async def _unpark(self, store: ParkingStore) -> None:
        """Take events that can't be read any more off the list of parked ones: a reason may say much."""
        for position in await store.parked():
            (record,) = await self._log.read(position - 1, 1)
            if isinstance(record.event, Erased):
                await store.unpark(position)

    async def _follows(self, name: str, position: int) -> bool:
        """Whether a view in CouchDB has taken the erasure in."""
        runner = self._views.runners.get(f"couchdb/{name}")
        if runner is None:
            return False
        try:
            await runner.reached(position, COUCHDB_SECONDS)
            await self._unpark(runner.store)
        except MailioError:
            return False
        return True


def remove_key_files(folder: Path, address: str) -> Sequence[Path]:
    """Delete the key files of an account that lie in a folder; return which there were.

    Raises StorageUnavailable.
    """
    removed = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
        except (OSError, msgspec.DecodeError):
            continue
        if content.address == address:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageUnavailable(f"{path}: can't be removed", str(error)) from error
            removed.append(path)
    return removed


class _KeyFile(msgspec.Struct):
    address: str
