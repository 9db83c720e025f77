"""What must hold of a node after whatever happened to it; looked at from outside, beside the daemon."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node.doctor import verify_stores
from node.mime.summary import summarise
from node.rebuild import VIEW_NAMES, rebuild_aside
from node.settings import Settings
from node.views import aside_path, store_path
from projections.deliveries import DELIVERY_ID
from projections.stores.embedded import EmbeddedStore
from projections.view_store import Document
from tests.crash.traffic import Book

ALLOWED = (
    r"accounts/[^/]+\.json",
    r"admin\.sock",
    r"blobs/\d{6}\.seg",
    r"blobs/index\.sqlite(-wal|-shm|-state)?",
    r"checkpoints\.json",
    r"keys/(server\.json|vault\.sqlite)",
    r"log\.sqlite(-wal|-shm|\.lock|\.head)?",
    r"snapshots\.sqlite(-wal|-shm)?",
    r"lookups\.seen",
    rf"views/({'|'.join(VIEW_NAMES)})\.sqlite(\.g\d+(-wal|-shm)?)?",
    r"views/userdb\.rebuilt\.sqlite(\.g1(-wal|-shm)?)?",
)
"""Every file that a running node may have below its data folder: one generation of each view, nothing aside.

But for what a rebuild that was killed has built: its own process may be going on with it, so it stays until
the next rebuild of that view.
"""


def check(settings: Settings, accounts: dict[str, dict[str, str]], book: Book, *, tidy: bool = True) -> None:
    """Everything that was promised is there once, nothing is there that nobody sent, and all hashes are right.

    `accounts` are by email. Where something failed without a crash, only the next start leaves all `tidy`.
    """
    filed = Counter(asyncio.run(_contents(settings, accounts)))
    assert book.acknowledged <= set(filed), f"lost: {sorted(book.acknowledged - set(filed))[:5]}"
    twice = [name for name, times in filed.items() if times > 1]
    assert not twice, f"filed twice: {twice[:5]}"
    assert set(filed) <= book.tried, f"never sent: {sorted(set(filed) - book.tried)[:5]}"
    report = verify_stores(settings)
    assert not report["damaged"], report
    surplus = leftovers(settings.node.data) if tidy else []
    assert not surplus, f"left behind: {surplus}"
    for name in VIEW_NAMES:
        # One at a time, in this process: starting others costs more than these small views.
        (told,) = rebuild_aside(settings, [name], lambda *_: None)
        assert told["differences"] == 0, told
        assert not told["damaged"], told
        EmbeddedStore.remove(aside_path(settings.node.data / "views", name))


async def _contents(settings: Settings, accounts: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """Return (mailbox, subject) of every received message and (database, id) of every other document."""
    store = EmbeddedStore.open(store_path(settings.node.data / "views", "userdb"), readonly=True)
    try:
        found = []
        for email, account in accounts.items():
            for document in await store.documents_since(account["database"]):
                mail = summarise(document)
                if _is_about_sending(document, mail):
                    continue
                found.append((email, mail["subject"]) if mail else (account["database"], document.id))
        return found
    finally:
        await store.close()


def _is_about_sending(document: Document, mail: dict[str, Any] | None) -> bool:
    """Whether it is a sent message, or says that one has arrived everywhere: nothing else may be said here."""
    if not document.id.startswith(DELIVERY_ID):
        return mail is not None and mail["folder"] == "sent"
    for one in json.loads(document.winner.body)["recipients"]:
        assert (one["state"], one.get("confirmed")) == ("delivered", True), f"{document.id}: {one}"
    return True


def leftovers(data: Path) -> list[str]:
    """Files below the data folder that a node has no use for."""
    pattern = re.compile("|".join(ALLOWED))
    surplus = [name for name in _names(data) if not pattern.fullmatch(name)]
    for view in VIEW_NAMES:
        generations = {path.name.partition("-")[0] for path in (data / "views").glob(f"{view}.sqlite.g*")}
        surplus += sorted(generations)[:-1]
    surplus += [path.name for path in (data / "views").iterdir() if path.is_symlink() and not path.exists()]
    return surplus


def _names(data: Path) -> Iterator[str]:
    for path in sorted(data.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(data))
