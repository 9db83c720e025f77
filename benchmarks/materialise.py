"""Documents a second into the embedded view store, and what the view itself costs.

`python -m benchmarks.materialise [--size quick]`. New documents of 2 KB for 1,000 mailboxes, ids in no
order. Into the live store in batches of 500, as the runner writes when it is behind (write-ahead log;
moving it into the file is part of it); into a store that is built aside in batches as a rebuild writes
them (`projections.rebuild.BATCH`). Then a rebuild of each view from the real log and blobs of a history. All
take turns, medians. Reads by id are of fresh ids, so that what the store remembers does not count.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from benchmarks.history import Shape, history
from benchmarks.results import Size, in_turns, middle, run
from node.stores import reading
from node.views import all_views, revs_limit
from projections.rebuild import BATCH, build
from projections.revision import computed
from projections.stores.building import BuildingStore
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Change

LIVE_BATCH = 500
BODY_BYTES = 2_000
MAILBOXES = 1_000
READS = 20_000
LIVE = "live store"
ASIDE = "store built aside"
VIEWS = ("userdb", "directory", "statistics")


class Rate(msgspec.Struct, frozen=True):
    """Documents a second, and microseconds of processor time for each."""

    rate: float
    cpu_us: float


class Figures(msgspec.Struct, frozen=True):
    """By what was written; `read_us` is one read by id from the live store."""

    documents: dict[str, Rate]
    read_us: float


def changes(documents: int) -> list[Change]:
    """Make new documents."""
    made = []
    for n in range(documents):
        name = f"<{n * 2654435761 % 2**32:08x}@mail.example>"
        body = msgspec.json.encode(
            {"created": 1_760_000_000_000 + n, "folder": "inbox", "id": name, "text": "x" * BODY_BYTES}
        )
        revisions = (computed(None, False, body),)
        database = f"userdb-{n % MAILBOXES:x}"
        made.append(Change(database=database, id=name, seq=n + 1, revisions=revisions, body=body))
    return made


class Bench:
    """What is written, and from what."""

    def __init__(self, written: list[Change], source: Path) -> None:
        self._written = written
        self._source = source
        self.read_us: list[float] = []

    async def take(self, what: str) -> Rate:
        """Write once, in a fresh folder."""
        with tempfile.TemporaryDirectory(prefix="materialise-") as folder:
            path = Path(folder) / "view.sqlite"
            if what in VIEWS:
                return await self._rebuilt(what, path)
            return await (self._live(path) if what == LIVE else self._aside(path))

    async def _live(self, path: Path) -> Rate:
        store = EmbeddedStore.open(path)
        rate = await self._write(store, LIVE_BATCH)
        read = self._written[:: max(1, len(self._written) // READS)]
        began = time.perf_counter()
        for each in read:
            await store.get(each.database, each.id)
        self.read_us.append(1e6 * (time.perf_counter() - began) / len(read))
        await store.close()
        return rate

    async def _aside(self, path: Path) -> Rate:
        store = BuildingStore.open(path)
        rate = await self._write(store, BATCH)
        await store.close()
        return rate

    async def _write(self, store: EmbeddedStore, batch: int) -> Rate:
        began, used = time.perf_counter(), time.process_time()
        for first in range(0, len(self._written), batch):
            part = self._written[first : first + batch]
            await store.write(part, part[-1].seq, 1)
        return _rate(len(self._written), began, used)

    async def _rebuilt(self, name: str, path: Path) -> Rate:
        async with reading(self._source, "benchmark") as stores:
            blobs = stores.open_blobs()
            store = BuildingStore.open(path, revs_limit(name))
            began, used = time.perf_counter(), time.process_time()
            await build(all_views(blobs)[name], stores.log, store, stores.log.head)
            rate = _rate(await store.count(), began, used)
            await store.close()
            await blobs.close()
        return rate


def _rate(documents: int, began: float, used: float) -> Rate:
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return Rate(documents / seconds, 1e6 * cpu / documents)


def measure(size: Size) -> Figures:
    """Measure everything in turns."""
    events = size.of(100_000, 20_000, 400)
    bench = Bench(changes(size.of(50_000, 5_000, 50)), history(Shape(events, events // 10)))
    names = (LIVE, ASIDE, *VIEWS)
    taken: dict[str, list[Rate]] = {name: [] for name in names}
    for _, name in in_turns(names, size.of(5, 2, 1)):
        taken[name].append(uvloop.run(bench.take(name)))
    documents = {
        name: Rate(middle([one.rate for one in rates]), middle([one.cpu_us for one in rates]))
        for name, rates in taken.items()
    }
    return Figures(documents, middle(bench.read_us))


def show(figures: Figures) -> None:
    """Print a table."""
    print(f"{'':<20}{'documents/s':>12}{'CPU of each, us':>17}")
    for name, one in figures.documents.items():
        print(f"{name:<20}{one.rate:12,.0f}{one.cpu_us:17.1f}")
    print(f"one read by id: {figures.read_us:.1f} us")


if __name__ == "__main__":
    run("materialise", measure, show)
