"""How a document stands in the view that clients replicate, and which of them have fetched it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from events import mailbox
from events.identity import userdb_name
from events.log.reading import LogReader
from events.node import Restorations
from node.inspection.stories import Branch, Facts, Step
from node.views import store_path
from projections.stores.embedded import EmbeddedStore
from projections.stores.local_documents import LocalDocument
from projections.view_store import Document

CHANGES = frozenset(("filed", "written", "changed"))
"""Steps that gave the document a new revision."""


class UserView(Protocol):
    """The view of the users' databases, read-only."""

    async def get(self, database: str, id: str) -> Document | None:  # noqa: A002 - CouchDB's word
        """Return a document."""

    async def checkpoint(self) -> int:
        """Position up to which the view has come."""

    async def parked(self) -> dict[int, str]:
        """Positions of the events that the view could not take in, with the reason."""

    async def local_documents(self, database: str) -> dict[str, LocalDocument]:
        """All `_local` documents of a database, by id."""


@asynccontextmanager
async def user_view(data: Path) -> AsyncIterator[EmbeddedStore | None]:
    """Open the view of the users' databases below a data folder for reading; None where there is none yet.

    Raises Misconfigured.
    """
    path = store_path(data / "views", "userdb")
    if not path.exists():
        yield None
        return
    store = EmbeddedStore.open(path, readonly=True)
    try:
        yield store
    finally:
        await store.close()


async def shown(
    view: UserView | None, reader: LogReader, branch: Branch, restorations: Restorations
) -> list[Step]:
    """Tell what the view shows of a branch's document, and who has fetched that.

    `restorations` are those that the log knows: bookmarks are in the numbers that clients see.
    """
    if view is None:
        return [Step(what="shown", text="there is no view of the databases here: has a node run?")]
    database, stream = userdb_name(branch.mailbox), mailbox.stream(branch.mailbox)
    changes = [step.position for step in branch.steps if step.what in CHANGES and step.position]
    head = reader.head.position
    steps = [await _in_view(view, branch, changes, head, restorations)]
    for name, document in sorted((await view.local_documents(database)).items()):
        mark = _bookmark(document)
        if mark is not None:
            reached = restorations.position(mark.number, head)
            pulls = _is_change(reader, stream, reached)
            steps.append(_replicator(name, mark, changes, reached if pulls else None))
    return steps


async def _in_view(
    view: UserView, branch: Branch, changes: Sequence[int], head: int, restorations: Restorations
) -> Step:
    """Tell how the document stands in the view, and how far that is behind the log."""
    document = await view.get(userdb_name(branch.mailbox), branch.document)
    reached = await view.checkpoint()
    lag = max(0, head - reached)
    behind = f"the view is {lag} events behind the log" if lag else "the view is up to date"
    refused = await view.parked()
    parked = next((position for position in changes if position in refused), None)
    facts: Facts = {"view": "userdb", "lag": lag, "parked": parked}
    if parked is not None:
        text = f"the view could not take in position {parked}: {refused[parked]}"
    elif document is None:
        text = f"not in the view yet; {behind}"
    else:
        state = "deleted" if document.winner.deleted else _folder(document)
        seq = restorations.sequence(document.seq)
        text = f"in userdb at sequence {seq} as revision {document.winner.rev}, {state}; {behind}"
        facts |= {"seq": seq, "rev": document.winner.rev, "deleted": document.winner.deleted}
    return Step(what="shown", text=text, facts=facts)


class _Body(msgspec.Struct, rename="camel"):
    folder: str = ""
    is_read: bool = False


def _folder(document: Document) -> str:
    try:
        body = msgspec.json.decode(document.winner.body, type=_Body)
    except msgspec.MsgspecError:
        return "a document of another form"
    return f"in folder {body.folder or '(none)'}, {'read' if body.is_read else 'unread'}"


class _Bookmark(msgspec.Struct):
    """What replicators write into `_local` documents."""

    last_seq: int | str
    replicator: str = ""

    @property
    def number(self) -> int:
        """The sequence number up to which the replicator has come, 0 for none of ours."""
        try:
            return max(0, int(self.last_seq))
        except ValueError:
            return 0


def _bookmark(document: LocalDocument) -> _Bookmark | None:
    try:
        return msgspec.json.decode(document.body, type=_Bookmark)
    except msgspec.MsgspecError:
        return None


def _is_change(reader: LogReader, stream: str, position: int) -> bool:
    """Whether a position is that of a change in a database: a push counts the device's own changes."""
    row = reader.at(position)
    return row is not None and row.stream == stream


def _replicator(name: str, mark: _Bookmark, changes: Sequence[int], reached: int | None) -> Step:
    """Tell which of the document's changes a replicator has come past; `reached` None: it does not pull."""
    fetched = [position for position in changes if reached is not None and position <= reached]
    if reached is None:
        text = f"its bookmark {mark.last_seq} is no change of this database: it pushes, or has not begun"
    elif len(fetched) == len(changes):
        text = f"has it as it is now: its bookmark is {mark.number}"
    elif fetched:
        later = "what came later is its own, or not fetched yet"
        text = f"has it as of position {fetched[-1]}: its bookmark is {mark.number}; {later}"
    else:
        text = f"has not fetched it yet: its bookmark is {mark.number}"
    facts: Facts = {
        "id": name,
        "lastSeq": mark.number,
        "fetched": fetched[-1] if fetched else None,
        "past": len(fetched) == len(changes),
        "replicator": mark.replicator,
    }
    return Step(what="synced", text=f"{mark.replicator or 'replicator'} {name} {text}", facts=facts)
