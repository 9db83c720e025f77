"""The views of a running node: their stores, the runners that feed them, and what waits on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from events.errors import MailioError, Misconfigured, StorageUnavailable
from events.log.log import Log
from projections.directory import Directory
from projections.feeder import ParkingStore
from projections.outbox import Outbox
from projections.rebuild import build
from projections.runner import RebuildNeeded, Runner, RunnerLimits
from projections.statistics import Statistics
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from projections.stores.schema import errors_of
from projections.userdb import Blobs, UserDatabases
from projections.view_store import View

if TYPE_CHECKING:
    from projections.stores.couchdb import CouchdbStore

_messages = structlog.get_logger("views")

COUNTERS_REVS_LIMIT = 1
"""Nobody replicates the server's own databases: only the newest revision of a document is of use."""

COUCHDB_PAUSE_SECONDS = 1.0
"""Pause before a CouchDB that does not answer is asked again; doubled each time …"""

COUCHDB_PAUSE_MOST_SECONDS = 60.0
"""… up to this."""

COUCHDB_ANEW = "remove the node's databases there, or set another couchdb.prefix"
"""What an operator does about databases that can't be continued: no command makes them again."""

DOORS_ASK = frozenset(("directory", "userdb"))
"""Views whose answers clients and senders act on."""

USER_REVS_LIMIT = 1_000
"""Ancestors that a revision remembers, as in CouchDB."""


def all_views(blobs: Blobs) -> dict[str, View]:
    """Every view of this program by its name."""
    views: Sequence[View] = (UserDatabases(blobs), Directory(), Statistics(), Outbox())
    return {view.name: view for view in views}


def store_path(folder: Path, view: str) -> Path:
    """File of a view's embedded store."""
    return folder / f"{view}.sqlite"


def aside_path(folder: Path, view: str) -> Path:
    """File of a view that is being rebuilt."""
    return folder / f"{view}.rebuilt.sqlite"


def revs_limit(view: str) -> int:
    """How many ancestors the documents of a view remember."""
    return USER_REVS_LIMIT if view == "userdb" else COUNTERS_REVS_LIMIT


def view_named(views: dict[str, View], name: str) -> View:
    """Return a view. Raises Misconfigured naming those that exist."""
    if name not in views:
        raise Misconfigured(f"no view is called {name}: there are {', '.join(sorted(views))}")
    return views[name]


def _forget_swapped(aside: Path) -> None:
    """Remove the name of a rebuilt view whose file has become the live one's, if a crash left it."""
    if aside.is_symlink() and not aside.exists():
        aside.unlink()


class Views:
    """All views of one node, embedded stores open and runners going."""

    def __init__(self, folder: Path, log: Log, blobs: Blobs, limits: RunnerLimits) -> None:
        """Open the stores below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._log = log
        self._blobs = blobs
        self._limits = limits
        self.views = all_views(blobs)
        self.stores = {
            name: EmbeddedStore.open(store_path(folder, name), revs_limit=revs_limit(name))
            for name in self.views
        }
        for name in self.views:
            _forget_swapped(aside_path(folder, name))
        self._made_again: set[str] = set()
        self._one_at_a_time = asyncio.Lock()
        self.couchdb: dict[str, CouchdbStore] = {}
        self.in_couchdb: set[str] = set()
        """Views that are fed into a CouchDB, whether it answers or not."""
        self.runners = {
            name: Runner(view, self.stores[name], log, limits) for name, view in self.views.items()
        }

    @property
    def everywhere(self) -> dict[str, ParkingStore]:
        """Every store by the name of its runner, those in CouchDB included."""
        return {**self.stores, **{f"couchdb/{name}": store for name, store in self.couchdb.items()}}

    async def reached(self, view: str, position: int) -> None:
        """Return when a view shows everything up to a position of the log."""
        await self.runners[view].reached(position)

    async def feed_couchdb(self, name: str, url: str, prefix: str) -> None:
        """Feed a view into a CouchDB until the node stops; one that does not answer is asked again.

        Raises Misconfigured when the server refuses us from the beginning. One that does so later, or whose
        databases can't be continued, is reported and asked again: mail does not wait for it.
        """
        # Imported here: an HTTP client takes a third of a second and 20 MB, and most nodes feed no CouchDB.
        from projections.stores.couchdb import CouchdbStore

        self.in_couchdb.add(name)
        pause = COUCHDB_PAUSE_SECONDS
        while name not in self.couchdb:
            try:
                store = await CouchdbStore.connect(url, self._blobs, view=name, prefix=prefix)
                self.couchdb[name] = store
            except StorageUnavailable as error:
                _messages.warning("CouchDB does not answer", view=name, error=str(error), again_in=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, COUCHDB_PAUSE_MOST_SECONDS)
        while True:
            runner = Runner(self.views[name], self.couchdb[name], self._log, self._limits)
            self.runners[f"couchdb/{name}"] = runner
            try:
                await runner.run()
            except Misconfigured as error:
                advice = COUCHDB_ANEW if isinstance(error, RebuildNeeded) else ""
                _messages.error("CouchDB is not fed", view=name, error=str(error), advice=advice)
                await asyncio.sleep(COUCHDB_PAUSE_MOST_SECONDS)
            else:
                return

    async def prepare(self) -> None:
        """Make views again that can't be continued, and bring those up to date that the doors will ask.

        A directory that is behind would refuse mail for people who are there, for good; a database that is
        behind would let clients push once more what the log has.
        """
        for name in self.stores:
            if reason := await self.runners[name].needs_rebuild():
                _messages.warning("view is made again", view=name, reason=reason)
                await self._make_again(name)
            if name in DOORS_ASK:
                await build(self.views[name], self._log, self.stores[name], self._log.head)

    async def _make_again(self, name: str) -> None:
        """Put a view made from the log in the place of the live one: the rebuilt one, if there is such."""
        path = aside_path(self.folder, name)
        if not await self._is_rebuilt(name):
            EmbeddedStore.remove(path)
            aside = BuildingStore.open(path, revs_limit=revs_limit(name))
            await build(self.views[name], self._log, aside, self._log.head)
            await aside.close()
        await self.stores[name].swap_in(path)
        self._made_again.add(name)

    async def _is_rebuilt(self, name: str) -> bool:
        """Whether a whole view lies beside the live one that this program and this log can go on with."""
        try:
            aside = EmbeddedStore.open(aside_path(self.folder, name), readonly=True)
        except MailioError:
            return False
        try:
            known = await aside.checkpoint()
            return await aside.schema() == self.views[name].schema and known <= self._log.head
        finally:
            await aside.close()

    async def swap(self, name: str) -> int:
        """Let a rebuilt view catch up and put it in the place of the live one; return its position.

        Raises Misconfigured when the view was not rebuilt.
        """
        # Of two who have the same file open, one would write to it when it is the live one already.
        async with self._one_at_a_time:
            return await self._swap(name)

    async def _swap(self, name: str) -> int:
        view, runner = view_named(self.views, name), self.runners[name]
        path = aside_path(self.folder, name)
        made_again = name in self._made_again
        self._made_again.discard(name)
        if made_again and not path.exists():
            # This start could not go on with the live one, and has put the rebuilt one there.
            return await self.stores[name].checkpoint()
        if not path.exists():
            raise Misconfigured(f"view {name} was not rebuilt: run `mailio-node rebuild {name}`")
        aside = EmbeddedStore.open(path, revs_limit=revs_limit(name))
        try:
            await runner.reached(await aside.checkpoint())
            await build(view, self._log, aside, runner.position)
            async with runner.paused() as position:
                await build(view, self._log, aside, position)
                await aside.close()
                await self.stores[name].swap_in(path)
        finally:
            await aside.close()
        return position

    async def scrub(self, name: str) -> None:
        """Leave no trace of what was deleted from a view: not in its file, nor in one that lies beside it.

        A rebuild that is under way has to be begun again. Raises StorageUnavailable.
        """
        async with self._one_at_a_time:
            with errors_of(store_path(self.folder, name)):
                EmbeddedStore.remove(aside_path(self.folder, name))
                for file in self.folder.glob(f"{name}.sqlite*.damaged*"):
                    file.unlink(missing_ok=True)
            await self.stores[name].scrub()

    async def close(self) -> None:
        """Release the stores."""
        for store in self.everywhere.values():
            await store.close()
