"""Documents that leave a CouchDB server for good: purged where the server can, else deleted, then compacted.

A deletion alone would leave the document's id, and its content until the server compacts by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog

from projections.stores.couch_http import CouchClient

_messages = structlog.get_logger("projections")

PURGED_AT_ONCE: Final = 100
"""Documents in one `_purge` request, the server's default bound."""

_NO_SUCH_FEATURE: Final = (400, 404, 405, 501)

Leaves = Mapping[str, Sequence[str]]
"""Leaf revisions by document id."""


async def purge(client: CouchClient, database: str, leaves: Leaves) -> None:
    """Remove documents with all they ever said. Raises what the client raises."""
    items = iter(leaves.items())
    while portion := dict(islice(items, PURGED_AT_ONCE)):
        body = msgspec.json.encode(portion)
        answer = await client.ask("POST", database, "_purge", body=body, expected=_NO_SUCH_FEATURE)
        if answer.status >= 300:
            _messages.warning("CouchDB can't purge: the ids of deleted documents stay", database=database)
            await _delete(client, database, portion)
    if leaves:
        await client.ask("POST", database, "_compact", body=b"{}", expected=_NO_SUCH_FEATURE)


async def _delete(client: CouchClient, database: str, leaves: Leaves) -> None:
    gone = [{"_id": id_, "_rev": rev, "_deleted": True} for id_, revs in leaves.items() for rev in revs]
    await client.ask("POST", database, "_bulk_docs", body=msgspec.json.encode({"docs": gone}))


async def existing(client: CouchClient, database: str, ids: AsyncIterator[str]) -> dict[str, list[str]]:
    """Return those of some documents that there are, each with its revision."""
    found = {}
    async for id_ in ids:
        status, stored = await client.ask("GET", database, id_, expected=(404,))
        if status == 200:
            found[id_] = [stored["_rev"]]
    return found
