"""The first sync of a device: PouchDB replicates a mailbox of 18,000 documents.

`python -m benchmarks.first_sync [--size quick]`. The daemon, and beside it express-pouchdb (the
CouchDB-protocol server of the tests, in memory) with the same documents and revisions, take turns; a new
PouchDB 9 (memory adapter, Node.js) each time, in batches of 100 (its default) and of 500. Seconds from the
call until everything is in PouchDB's database; medians. `read` is the part of it that needs no PouchDB: the
same requests, one after the other, sent by a plain HTTP client.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientSession

from benchmarks.history import Shape, credentials, node_with
from benchmarks.results import Size, in_turns, middle, run
from tests.scenarios.device import remote_url
from tests.servers.couchdb import couchdb_server

NODE = "this node"
PEER = "express-pouchdb, in memory"
DOCUMENTS = 18_000
BATCHES = (500, 100)
COPY = 1_000
"""Documents of one request when the peer is filled."""


class Synced(msgspec.Struct, frozen=True):
    """Seconds of PouchDB and of a plain client; HTTP requests of PouchDB."""

    seconds: float
    read: float
    requests: float


class Row(msgspec.Struct, frozen=True):
    """Both servers, by name, with batches of this size."""

    documents: int
    batch: int
    servers: dict[str, Synced]


@contextmanager
def the_node(documents: int) -> Iterator[str]:
    """Run a node with one mailbox; gives the URL of its database."""
    with node_with(Shape(2 * documents + 2, 1)) as daemon:
        daemon.start()
        yield remote_url(daemon, credentials(0))


async def copy(source: str, target: str) -> None:
    """Give the peer the documents of the node, revisions included."""
    async with ClientSession() as client:
        (await client.put(target)).raise_for_status()
        documents = (await _json(client, f"{source}/_all_docs?include_docs=true"))["rows"]
        for first in range(0, len(documents), COPY):
            part = [row["doc"] for row in documents[first : first + COPY]]
            body = {"docs": part, "new_edits": False}
            async with client.post(f"{target}/_bulk_docs", json=body) as response:
                response.raise_for_status()


async def _json(client: ClientSession, url: str, body: Any = None) -> Any:
    async with client.request("GET" if body is None else "POST", url, json=body) as response:
        response.raise_for_status()
        return msgspec.json.decode(await response.read())


async def read(url: str, batch: int) -> int:
    """Ask what a replicator asks: a batch of changes, then their documents, until nothing is left."""
    since: Any = 0
    seen = 0
    async with ClientSession() as client:
        while True:
            query = f"style=all_docs&since={since}&limit={batch}"
            changes = await _json(client, f"{url}/_changes?{query}")
            if not (rows := changes["results"]):
                return seen
            asked = [{"id": row["id"], "rev": row["changes"][0]["rev"]} for row in rows]
            answer = await _json(client, f"{url}/_bulk_get?revs=true&latest=true", {"docs": asked})
            seen += len(answer["results"])
            since = changes["last_seq"]


def one_round(url: str, batch: int, documents: int) -> Synced:
    """Replicate once into a new PouchDB, and read once."""
    script = str(Path(__file__).with_suffix(".mjs"))
    output = subprocess.run(["node", script, url, str(batch)], stdout=subprocess.PIPE, check=True).stdout
    said = msgspec.json.decode(output)
    began = time.perf_counter()
    seen = asyncio.run(read(url, batch))
    seconds = time.perf_counter() - began
    if not said["documents"] == seen == documents or said["failures"]:
        raise RuntimeError(f"{seen} of {documents} documents were read, PouchDB says {said}")
    return Synced(said["ms"] / 1e3, seconds, said["requests"])


def measure(size: Size) -> list[Row]:
    """Measure both servers in turns."""
    documents = size.of(DOCUMENTS, 1_000, 20)
    with ExitStack() as stack:
        node = stack.enter_context(the_node(documents))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peer-")))
        peer = stack.enter_context(couchdb_server(folder)) + "/peer"
        asyncio.run(copy(node, peer))
        urls = {NODE: node, PEER: peer}
        rows = []
        for batch in BATCHES[: size.of(2, 2, 1)]:
            taken: dict[str, list[Synced]] = {name: [] for name in urls}
            for _, name in in_turns(list(urls), size.of(3, 1, 1)):
                taken[name].append(one_round(urls[name], batch, documents))
            rows.append(Row(documents, batch, {name: median_of(rounds) for name, rounds in taken.items()}))
    return rows


def median_of(rounds: list[Synced]) -> Synced:
    """Take the median of each figure."""
    columns = zip(*(msgspec.structs.astuple(one) for one in rounds), strict=True)
    return Synced(*map(middle, columns))


def show(rows: list[Row]) -> None:
    """Print a table."""
    print(f"{'documents':>9}{'batch':>7}  {'server':<28}{'PouchDB, s':>11}{'read, s':>9}{'requests':>10}")
    for row in rows:
        for name, one in row.servers.items():
            print(
                f"{row.documents:9,}{row.batch:7}  {name:<28}{one.seconds:11.2f}{one.read:9.2f}"
                f"{one.requests:10.0f}"
            )


if __name__ == "__main__":
    run("first_sync", measure, show)
