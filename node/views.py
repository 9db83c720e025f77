"""The views of a running node: their stores, the runners that feed them, and what waits on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from events.errors import Misconfigured
from events.log.log import Log
from node.storage.blobs import BlobStore
from projections.directory import Directory
from projections.runner import Runner, RunnerLimits
from projections.statistics import Statistics
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from projections.view_store import View

COUNTERS_REVS_LIMIT = 1
"""Nobody replicates the server's own databases: only the newest revision of a document is of use."""

USER_REVS_LIMIT = 1_000
"""Ancestors that a revision remembers, as in CouchDB."""


def all_views(blobs: BlobStore) -> dict[str, View]:
    """Every view of this program by its name."""
    views: Sequence[View] = (UserDatabases(blobs), Directory(), Statistics())
    return {view.name: view for view in views}


def store_path(folder: Path, view: str) -> Path:
    """File of a view's embedded store."""
    return folder / f"{view}.sqlite"


def revs_limit(view: str) -> int:
    """How many ancestors the documents of a view remember."""
    return USER_REVS_LIMIT if view == "userdb" else COUNTERS_REVS_LIMIT


def view_named(views: dict[str, View], name: str) -> View:
    """Return a view. Raises Misconfigured naming those that exist."""
    if name not in views:
        raise Misconfigured(f"no view is called {name}: there are {', '.join(sorted(views))}")
    return views[name]


class Views:
    """All views of one node, embedded stores open and runners going."""

    def __init__(self, folder: Path, log: Log, blobs: BlobStore, limits: RunnerLimits) -> None:
        """Open the stores below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.views = all_views(blobs)
        self.stores = {
            name: EmbeddedStore.open(store_path(folder, name), revs_limit=revs_limit(name))
            for name in self.views
        }
        self.runners = {
            name: Runner(view, self.stores[name], log, limits) for name, view in self.views.items()
        }

    async def reached(self, view: str, position: int) -> None:
        """Return when a view shows everything up to a position of the log."""
        await self.runners[view].reached(position)

    async def close(self) -> None:
        """Release the stores."""
        for store in self.stores.values():
            await store.close()
