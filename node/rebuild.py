"""Rebuilding a view aside, in this process, from the log and the blobs alone.

It needs no daemon and disturbs none: it only reads. `Views.swap`, where the views live, then lets the
rebuilt store catch up and puts it in the place of the live one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from events.errors import Misconfigured
from events.log import failpoints
from events.log.clock import SystemClock
from events.log.sqlite_log import SqliteLog
from node.settings import Settings
from node.stores import reading
from node.views import all_views, aside_path, revs_limit, store_path, view_named
from projections.rebuild import Progress, Report, rebuild
from projections.stores.embedded import EmbeddedStore
from projections.view_store import View

VIEW_NAMES = ("directory", "userdb", "statistics")
"""The views that can be rebuilt, in the order in which `rebuild` without a name does it."""

Show = Callable[[int, int, float], None]
"""Told (events done, events in all, events a second)."""


def rebuild_aside(settings: Settings, name: str, show: Show) -> dict[str, Any]:
    """Build a view aside and compare it with the live one; raises Misconfigured for an unknown view.

    When it is cancelled or fails, what was built is removed.
    """
    return asyncio.run(_rebuild_aside(settings, name, show))


async def _rebuild_aside(settings: Settings, name: str, show: Show) -> dict[str, Any]:
    data = settings.node.data
    async with reading(data, "rebuild") as stores:
        blobs = stores.open_blobs()
        try:
            view = view_named(all_views(blobs), name)
            folder = data / "views"
            live, damage = _open_live(store_path(folder, name))
            report = await _build(view, stores.log, live, aside_path(folder, name), show)
        finally:
            await blobs.close()
    return _told(name, report) | {"damaged": damage}


def _open_live(path: Path) -> tuple[EmbeddedStore | None, str]:
    """Open the live store if there is a sound one; else say what is wrong with it."""
    if not path.exists():
        return None, ""
    try:
        return EmbeddedStore.open(path, readonly=True), ""
    except Misconfigured as error:
        return None, str(error)


def replace_damaged(settings: Settings, name: str) -> None:
    """Put a rebuilt view in the place of a damaged one, which is kept as `<view>.sqlite.damaged`.

    Only without a daemon: raises Misconfigured when one uses the stores.
    """
    asyncio.run(_replace_damaged(settings.node.data, name))


async def _replace_damaged(data: Path, name: str) -> None:
    log = SqliteLog.open(data / "log.sqlite", SystemClock(), "rebuild")
    try:
        path = store_path(data / "views", name)
        damaged = path.resolve()
        damaged.rename(path.with_name(f"{path.name}.damaged"))
        EmbeddedStore.remove(path)
        store = EmbeddedStore.open(path, revs_limit=revs_limit(name))
        await store.swap_in(aside_path(data / "views", name))
        await store.close()
    finally:
        await log.close()


@failpoints.after("rebuild-built")
async def _build(view: View, log: SqliteLog, live: EmbeddedStore | None, path: Path, show: Show) -> Report:
    EmbeddedStore.remove(path)
    aside: EmbeddedStore | None = None
    done = False

    def progress(state: Progress) -> None:
        show(state.position, state.total, state.events_per_second)

    try:
        aside = EmbeddedStore.open(path, revs_limit=revs_limit(view.name))
        upto = await live.checkpoint() if live else log.head
        report = await rebuild(view, log, live, aside, upto, progress)
        done = True
        return report
    finally:
        for store in filter(None, (aside, live)):
            await store.close()
        if not done:
            EmbeddedStore.remove(path)


def _told(name: str, report: Report) -> dict[str, Any]:
    return {
        "view": name,
        "events": report.events,
        "documents": report.documents,
        "seconds": report.seconds,
        "differences": report.differences,
        "first": [list(place) for place in report.first],
    }
