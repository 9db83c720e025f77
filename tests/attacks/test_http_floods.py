"""Too much of a good thing: feeds, selectors, slow clients. Each is bounded for one user, and others are served."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from node.settings import Settings
from node.sync.limits import SyncLimits
from tests.attacks.every_route import basic
from tests.integration.api.harness import Node, User, database

FEED = "GET {path}/_changes?feed=continuous&heartbeat=60000 HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n"


async def test_a_flood_of_feeds_is_bounded_and_others_are_served(
    node: Node, alice: User, mallory: User
) -> None:
    limit = SyncLimits().feeds_per_user
    assert isinstance(node.core.settings, Settings)
    writers, statuses = [], []
    for _ in range(limit + 20):
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        auth = f"Authorization: {basic(mallory)['Authorization']}"
        writer.write(FEED.format(path=f"/{database(mallory)}", auth=auth).encode())
        statuses.append((await asyncio.wait_for(reader.readline(), 10)).split()[1])
        writers.append(writer)
    assert statuses.count(b"200") == limit
    assert statuses.count(b"429") == 20
    served = await node.get(f"/{database(alice)}/_changes?feed=longpoll&timeout=10", **basic(alice))
    assert served.status == 200
    written = await node.call("PUT", f"/{database(mallory)}/a", {}, headers=basic(mallory))
    assert written.status == 201, "the flooder's own writes go on"
    for writer in writers:
        writer.close()


def nested(operator: str, depth: int) -> Any:
    selector: Any = {"a": 1}
    for _ in range(depth):
        selector = (
            {operator: selector if operator == "$not" else [selector, selector]}
            if depth < 12
            else {operator: [selector]}
        )
    return selector


SELECTORS: dict[str, Any] = {
    "backtracking": {"text": {"$regex": "^(([a-z])+.)+[A-Z]([a-z])+$"}},
    "alternatives": {"text": {"$regex": "(a|a|a|a|a)*$b"}},
    "counted": {"text": {"$regex": "(a{1,30}){1,30}b"}},
    "many patterns": {"$or": [{"text": {"$regex": f"(a|aa)*{letter}"}} for letter in "bcdefghijk"]},
    "$or of $or": nested("$or", 8),
    "$and of $or": {"$and": [nested("$or", 6)] * 3},
    "$nor": nested("$nor", 8),
    "deep $not": nested("$not", 11),
    "depth": nested("$and", 150),
    "$elemMatch": {"list": {"$elemMatch": {"$elemMatch": {"$elemMatch": {"$gt": 0}}}}},
    "$allMatch of $or": {"list": {"$allMatch": {"$or": [{"$gt": n} for n in range(190)]}}},
    "a long $in": {"text": {"$in": ["a" * 50] * 1_000}},
    "a path of 1,000 steps": {".".join("a" * 1_000): 1},
}


@pytest.fixture
async def full(node: Node, alice: User) -> Node:
    """A database with texts and lists that make selectors work."""
    rows = [{"_id": f"d{n}", "text": "a" * 500 + "!", "list": [list(range(20))] * 20} for n in range(50)]
    assert (
        await node.call("POST", f"/{database(alice)}/_bulk_docs", {"docs": rows}, headers=basic(alice))
    ).status == 201
    return node


async def test_no_selector_takes_long_or_stops_the_others(full: Node, alice: User) -> None:
    longest = 0.0
    for name, selector in SELECTORS.items():
        for path in ("/_find", "/_changes?filter=_selector"):
            began = time.process_time()
            asked = asyncio.create_task(
                full.call("POST", f"/{database(alice)}{path}", {"selector": selector}, headers=basic(alice))
            )
            while not asked.done():
                before = time.process_time()
                await asyncio.sleep(0.001)
                longest = max(longest, time.process_time() - before)
            # A feed that runs out of its allowance half-way ends the connection: half an answer is none.
            ended = isinstance(asked.exception(), ClientPayloadError)
            assert ended or asked.result().status in {200, 400, 413}, (name, path)
            assert time.process_time() - began < 3, (name, path)
    assert longest < 2, "nobody else is served meanwhile"


async def test_clients_that_never_finish_their_request_hinder_nobody(node: Node) -> None:
    """Half a head, half a body, one byte at a time: a hundred of them, and the node answers the next one."""
    writers = []
    for number in range(100):
        _, writer = await asyncio.open_connection(node.http.host, node.http.port)
        writer.write(
            (b"GET / HTTP/1.1\r\nX", b"POST /api/v1/login HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")[number % 2]
        )
        writers.append(writer)
    began = time.monotonic()
    assert (await node.get("/api/healthcheck")).status == 200
    assert time.monotonic() - began < 5
    for writer in writers:
        writer.close()
