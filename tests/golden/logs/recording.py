"""Golden logs: whole data folders that a released program has left behind, and what every view must make of them.

    python -m tests.golden.logs NAME

records a new one, `tests/golden/logs/NAME`, with the program as it is; without a name it records what the
views of today make of the logs that are there. Nothing is ever overwritten: a log that is read otherwise than
before is a broken promise to whoever has one like it.

    data/                       the folder as a node left it, without what is derived from it
    views/<view>.<schema>.json  documents and digest of each database, as the view of that schema made them
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from node.core import Core
from node.settings import Settings
from node.views import all_views
from tests.golden.life import Life
from tests.integration.api.harness import running, settings_for

FOLDER = Path(__file__).parent

MOST_BYTES = 300_000
"""Size of a golden log: it stays in the repository for ever."""

_DERIVED = shutil.ignore_patterns(
    "views", "snapshots.sqlite*", "index.sqlite*", "*.lock", "*.sock", "*-wal", "*-shm"
)


class Content(msgspec.Struct, frozen=True):
    """What a database holds: how many documents, and a digest over all that is stored of them."""

    documents: int
    digest: str


Databases = dict[str, Content]


def names() -> list[str]:
    """Every golden log there is."""
    return sorted(path.parent.name for path in FOLDER.glob("*/data"))


def opened(name: str, folder: Path) -> Settings:
    """Copy a golden log into `folder`; return the settings of a node that lives there."""
    shutil.copytree(FOLDER / name / "data", folder / "data")
    for path in (folder / "data" / "keys").iterdir():
        path.chmod(0o600)  # version control keeps no modes, and a node refuses keys that others may read
    return settings_for(folder / "data")


def views_of(name: str) -> dict[str, Databases]:
    """What was recorded for the views' present schemas, by view."""
    found = {}
    for view, path in _paths(name).items():
        if path.exists():
            found[view] = msgspec.json.decode(path.read_bytes(), type=Databases)
    return found


def _paths(name: str) -> dict[str, Path]:
    views = all_views(None).values()  # type: ignore[arg-type]  # only asked for names and schemas
    return {view.name: FOLDER / name / "views" / f"{view.name}.{view.schema}.json" for view in views}


async def contents(core: Core) -> dict[str, Databases]:
    """What the views of a running node hold now, by view and database."""
    found: dict[str, Databases] = {}
    for view, store in core.views.stores.items():
        found[view] = {}
        for database in await store.databases():
            documents = [document async for document in store.documents(database)]
            found[view][database] = Content(len(documents), await store.digest(database))
    return found


async def record(name: str) -> None:
    """Let a new node live, and keep what it leaves. Raises FileExistsError."""
    folder = FOLDER / name
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        async with running(settings_for(data)) as node:
            await Life(node).run()
            # What a client has seen is what counts: the live views, not views that were made again.
            found = await contents(node.core)
        shutil.copytree(data, folder / "data", ignore=_DERIVED)
    _keep(name, found)


async def record_views(name: str) -> None:
    """Keep what views of new schemas make of a log that is there already."""
    with tempfile.TemporaryDirectory() as temporary:
        core = Core(opened(name, Path(temporary)))
        await core.start()
        for view in core.views.runners:
            await core.views.reached(view, core.log.head)
        _keep(name, await contents(core))
        await core.close()


def _keep(name: str, found: dict[str, Databases]) -> None:
    """Write the files that are not there yet, and name them."""
    for view, path in _paths(name).items():
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(found[view]), indent=1) + b"\n")
            sys.stdout.write(f"{path.relative_to(FOLDER)}\n")


def main() -> None:
    """Record the log that is named, or what today's views make of all logs."""
    if sys.argv[1:]:
        asyncio.run(record(sys.argv[1]))
    for name in names():
        asyncio.run(record_views(name))
