"""How fast views are made again: events a second from log and blobs into the embedded store.

Run: `python -m benchmarks.materialise_views [mails] [document bytes] [mailboxes]`

The log and the blob store are the real ones, on disk; one rebuild for each view, from the first event.
`userdb` is also measured alone (blob read, splice, revision; nothing written) and with the profiler when
the environment variable PROFILE is set.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from events import mailbox
from events.log.clock import SystemClock
from events.log.log import Origin, Write
from events.log.sqlite_log import SqliteLog
from events.mailbox import MessageFiled
from events.policy import Folder, Reason, Transport
from node.storage.local import LocalBlobs
from projections.rebuild import build
from projections.statistics import Statistics
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from projections.view_store import View

GROUP = 500


def document(number: int, size: int) -> bytes:
    mail = {"type": "application/mailio-smtp+json", "plainBodyBase64": f"{number:x}".ljust(size - 200, "A")}
    members = {"from": "friend@beta.example", "id": f"m{number}", "didCommMessage": mail}
    return msgspec.json.encode(members, order="sorted")


def filed(number: int, blob: str, size: int) -> MessageFiled:
    # Ids in no order, as message ids are: the id index is hit all over.
    return MessageFiled(
        id=f"<{number * 2654435761 % 2**32:08x}@mail.example>",
        mail=f"{number:032x}",
        transport=Transport.SMTP,
        sender=f"friend{number % 500}@beta.example",
        folder=Folder.INBOX,
        reason=Reason.FIRST_CONTACT,
        document=blob,
        size=size,
        filed_at=1_760_000_000_000 + number,
    )


async def fill(log: SqliteLog, blobs: LocalBlobs, mails: int, size: int, mailboxes: int) -> None:
    for first in range(0, mails, GROUP):
        numbers = range(first, min(first + GROUP, mails))
        names = await blobs.write(*(document(number, size) for number in numbers))
        writes = [
            Write(mailbox.stream(f"0x{number % mailboxes:040x}"), (filed(number, name, size),))
            for number, name in zip(numbers, names, strict=True)
        ]
        await log.append(*writes, origin=Origin(actor="benchmark"))


async def measure(view: View, log: SqliteLog, path: Path, revs_limit: int = 1_000) -> None:
    store = EmbeddedStore.open(path, revs_limit)
    profile = cProfile.Profile() if os.environ.get("PROFILE") else None
    start, used = time.perf_counter(), time.process_time()
    if profile:
        profile.enable()
    await build(view, log, store, log.head)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    if profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    print(
        f"{view.name}: {log.head / seconds:,.0f} events/s rebuilt "
        f"({1e6 * used / log.head:.1f} µs of processor time each)"
    )
    await store.close()


async def measure_alone(view: UserDatabases, log: SqliteLog, store: EmbeddedStore) -> None:
    after, spent = 0, 0.0
    while records := await log.read(after, 5_000):
        start = time.process_time()
        for record in records:
            await view.apply(record, store)
        spent += time.process_time() - start
        after = records[-1].position
    print(f"userdb, view alone: {1e6 * spent / log.head:.1f} µs of processor time each")


async def run(folder: Path, mails: int, size: int, mailboxes: int) -> None:
    log = SqliteLog.open(folder / "log.sqlite", SystemClock(), "benchmark")
    blobs = LocalBlobs.open(folder / "blobs")
    await fill(log, blobs, mails, size, mailboxes)
    view = UserDatabases(blobs)
    await measure(view, log, folder / "userdb.sqlite")
    await measure(Statistics(), log, folder / "statistics.sqlite", revs_limit=1)
    empty = EmbeddedStore.open(folder / "empty.sqlite")
    await measure_alone(view, log, empty)
    await empty.close()
    await blobs.close()
    await log.close()


def main(mails: int = 50_000, size: int = 2_000, mailboxes: int = 1_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(run(Path(folder), mails, size, mailboxes))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
