"""Rebuilding views aside, from the log and the blobs alone.

It needs no daemon and disturbs none: it only reads. `Views.swap`, where the views live, then lets the
rebuilt store catch up and puts it in the place of the live one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from events.errors import Misconfigured, StorageUnavailable
from events.log import failpoints
from events.log.clock import SystemClock
from events.log.sqlite_log import SqliteLog
from node.settings import Settings
from node.stores import reading
from node.views import all_views, aside_path, revs_limit, store_path, view_named
from projections.rebuild import Progress, RebuildCancelled, Report, rebuild
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from projections.view_store import View

VIEW_NAMES = ("userdb", "directory", "statistics", "outbox")
"""The views that can be rebuilt; those that take longest first, so that no processor is idle at the end."""

SMALL_LOG_BYTES = 16 << 20
"""Up to this size of the log one process builds all views: no longer than what starting others takes."""

Show = Callable[[str, int, int, float], None]
"""Told (view, events done, events in all, events a second)."""

GC_THRESHOLDS = (50_000, 20, 20)
"""Allocations before each generation is collected: a batch of events is not garbage before its end."""

LOOK_SECONDS = 0.1
"""How often the progress of other processes is looked at."""

_Progress = SimpleQueue[tuple[str, int, int, float]]
_Cancelled = Callable[[], bool]


def rebuild_aside(settings: Settings, names: Sequence[str], show: Show) -> list[dict[str, Any]]:
    """Build views aside and compare them with the live ones, side by side as far as there are processors.

    Raises Misconfigured for an unknown view, StorageUnavailable when one of the processes is killed. When
    it is cancelled or fails, what was built is removed, also the views that were finished.
    """
    try:
        return _rebuild_all(settings, names, show)
    except BaseException:
        for name in filter(VIEW_NAMES.__contains__, names):
            EmbeddedStore.remove(aside_path(settings.node.data / "views", name))
        raise


def _rebuild_all(settings: Settings, names: Sequence[str], show: Show) -> list[dict[str, Any]]:
    processors = os.cpu_count() or 1
    # One more than processors, so that none is idle while the last view is built.
    workers = min(len(names), processors + 1) if processors > 1 else 1
    processes = _processes(workers) if workers > 1 and not _is_small(settings.node.data) else None
    if processes is None:
        return [asyncio.run(_rebuild_aside(settings, name, show)) for name in names]
    executor, progress, cancelled = processes
    with executor as pool:
        begun = {name: pool.submit(_in_worker, settings, name) for name in sorted(names, key=_turn)}
        futures = [begun[name] for name in names]
        try:
            while wait(futures, LOOK_SECONDS, FIRST_EXCEPTION).not_done:
                _tell(progress, show)
                if any(future.done() and future.exception() for future in futures):
                    break
        finally:
            cancelled.set()
            pool.shutdown(cancel_futures=True)
    return _outcomes(futures)


def _is_small(data: Path) -> bool:
    """Whether processes of their own would take longer to start than the views to build."""
    parts = (data / "log.sqlite", data / "log.sqlite-wal")
    return sum(part.stat().st_size for part in parts if part.exists()) < SMALL_LOG_BYTES


def _turn(name: str) -> int:
    return VIEW_NAMES.index(name) if name in VIEW_NAMES else len(VIEW_NAMES)


def _processes(workers: int) -> tuple[ProcessPoolExecutor, _Progress, Event] | None:
    """Return processes to work in, how they tell of progress and what stops them; None without room."""
    context = get_context("spawn")
    try:
        progress: _Progress = context.SimpleQueue()
        cancelled = context.Event()
        executor = ProcessPoolExecutor(workers, context, _begin, (progress, cancelled))
    except OSError:
        # Their semaphores are files in memory, which limits of the system may refuse.
        return None
    return executor, progress, cancelled


def _outcomes(futures: Sequence[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the results in their order, or raise what the first one failed of: the others were cancelled."""
    failures = [error for future in futures if not future.cancelled() and (error := future.exception())]
    for error in sorted(failures, key=lambda error: isinstance(error, RebuildCancelled)):
        if isinstance(error, BrokenProcessPool):
            raise StorageUnavailable("a rebuild was ended from outside: is there memory enough?") from error
        raise error
    return [future.result() for future in futures]


def _tell(progress: _Progress, show: Show) -> None:
    while not progress.empty():
        show(*progress.get())


class _Worker:
    """What a process that builds one view after the other was given."""

    progress: _Progress
    cancelled: _Cancelled


def _begin(progress: _Progress, cancelled: Event) -> None:
    """Begin a process: Ctrl-C reaches it too, but its parent says what is to be done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(*GC_THRESHOLDS)
    _Worker.progress, _Worker.cancelled = progress, cancelled.is_set


def _in_worker(settings: Settings, name: str) -> dict[str, Any]:
    # A step takes a fifth of the share in a processor: each view has that much less to do than the last one.
    os.nice(_turn(name))

    def show(*state: Any) -> None:
        _Worker.progress.put(state)

    return asyncio.run(_rebuild_aside(settings, name, show, _Worker.cancelled))


async def _rebuild_aside(
    settings: Settings, name: str, show: Show, cancelled: _Cancelled = lambda: False
) -> dict[str, Any]:
    data = settings.node.data
    async with reading(data, "rebuild") as stores:
        blobs = stores.open_blobs()
        try:
            view = view_named(all_views(blobs), name)
            folder = data / "views"
            live, damage = _open_live(store_path(folder, name))
            report = await _build(view, stores.log, live, aside_path(folder, name), show, cancelled)
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
async def _build(  # noqa: PLR0917 - what is built, from what, beside what, where, and who is told
    view: View,
    log: SqliteLog,
    live: EmbeddedStore | None,
    path: Path,
    show: Show,
    cancelled: _Cancelled,
) -> Report:
    EmbeddedStore.remove(path)
    aside: EmbeddedStore | None = None
    done = False

    def progress(state: Progress) -> None:
        show(view.name, state.position, state.total, state.events_per_second)

    try:
        aside = BuildingStore.open(path, revs_limit=revs_limit(view.name))
        upto = await live.checkpoint() if live else log.head
        report = await rebuild(view, log, live, aside, upto, progress, cancelled)
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
