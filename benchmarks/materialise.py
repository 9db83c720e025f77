"""How fast the embedded view store takes in new documents, and how fast one is read.

Run: `python -m benchmarks.materialise [documents] [body bytes] [mailboxes]`
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from projections.revision import computed
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Change

BATCH = 500


def changes(documents: int, body_bytes: int, mailboxes: int) -> list[Change]:
    made = []
    for n in range(documents):
        # Ids in no order, as message ids are: the id index is hit all over.
        name = f"<{n * 2654435761 % 2**32:08x}@mail.example>"
        body = msgspec.json.encode(
            {"created": 1_760_000_000_000 + n, "folder": "inbox", "id": name, "text": "x" * body_bytes}
        )
        revisions = (computed(None, False, body),)
        made.append(
            Change(database=f"userdb-{n % mailboxes:x}", id=name, seq=n + 1, revisions=revisions, body=body)
        )
    return made


async def measure(path: Path, written: list[Change]) -> None:
    store = EmbeddedStore.open(path)
    start, start_cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(written), BATCH):
        part = written[first : first + BATCH]
        await store.write(part, part[-1].seq, 1)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(
        f"write: {len(written) / seconds:,.0f} new documents/s in batches of {BATCH}, "
        f"{cpu / len(written) * 1e6:.0f} µs of processor time each"
    )
    read = written[:: max(1, len(written) // 20_000)]
    start = time.perf_counter()
    for each in read:
        await store.get(each.database, each.id)
    print(f"get: {(time.perf_counter() - start) / len(read) * 1e6:.1f} µs")
    await store.close()


def main(documents: int = 100_000, body_bytes: int = 2000, mailboxes: int = 1000) -> None:
    written = changes(documents, body_bytes, mailboxes)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder) / "userdb.sqlite", written))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
