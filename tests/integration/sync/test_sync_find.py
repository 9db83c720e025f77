"""Queries: what the folder index may answer, what is shown, and how much work one of them may be."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from node.sync.limits import SyncLimits
from tests.integration.sync.harness import Client, running

TERMS = 95
"""Fields that a selector asks about twice, which makes 190 conditions: close to what one may have."""


async def found(client: Client, selector: Any, **options: Any) -> list[str]:
    status, answer, _ = await client.ask("POST", "/_find", {"selector": selector, **options})
    assert status == 200, answer
    return sorted(document["_id"] for document in answer["docs"])


async def bulk(client: Client, documents: list[dict[str, Any]]) -> None:
    status, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
    assert status == 201
    assert all(row.get("ok") for row in rows), rows


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ({"$exists": False}, ["none"]),
        ("2020", ["text"]),
        ({"$type": "string"}, ["text"]),
        ({"$in": ["2020", 5]}, ["number", "text"]),
        ({"$ne": 7}, ["number", "text"]),
        ({"$gte": ""}, ["text"]),
        # In the order of Mango a text stands above all numbers, but an index of numbers has none.
        ({"$gte": 5}, ["number"]),
        ({"$gt": 1, "$lte": 5}, ["number"]),
        (5, ["number"]),
    ],
)
async def test_the_folder_index_is_asked_only_for_what_it_has(
    client: Client, created: Any, expected: list[str]
) -> None:
    await client.put({"_id": "none", "folder": "inbox"})
    await client.put({"_id": "text", "folder": "inbox", "created": "2020"})
    await client.put({"_id": "number", "folder": "inbox", "created": 5})
    assert await found(client, {"folder": "inbox", "created": created}) == expected


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (["list", "list.0"], {"list": [1, {"b": 2}]}),
        (["list.0", "list"], {"list": [1, {"b": 2}]}),
        (["list", "list.1.b"], {"list": [1, {"b": 2}]}),
        (["list.1.b"], {"list": {"1": {"b": 2}}}),
        (["text", "text.x", "_id"], {"text": "t", "_id": "a"}),
        (["in.a", "in"], {"in": {"a": 1, "b": 2}}),
        (["in", "in.a"], {"in": {"a": 1, "b": 2}}),
    ],
)
async def test_fields_may_name_a_value_and_what_is_inside_of_it(
    client: Client, fields: list[str], shown: Any
) -> None:
    await client.put({"_id": "a", "list": [1, {"b": 2}], "text": "t", "in": {"a": 1, "b": 2}})
    _, answer, _ = await client.ask("POST", "/_find", {"selector": {"_id": "a"}, "fields": fields})
    assert answer["docs"] == [shown]


async def test_true_is_not_one_inside_of_arrays_and_objects_either(client: Client) -> None:
    await client.put({"_id": "a", "list": [True], "object": {"x": 1}})
    others: list[Any] = [
        {"list": [1]},
        {"list": {"$in": [[1]]}},
        {"list": {"$all": [1]}},
        {"object": {"$eq": {"x": True}}},
    ]
    same: list[Any] = [{"list": [True]}, {"list": {"$ne": [1]}}, {"object": {"$in": [{"x": 1.0}]}}]
    assert [await found(client, selector) for selector in others] == [[]] * 4
    assert [await found(client, selector) for selector in same] == [["a"]] * 3


BOMBS: dict[str, Any] = {
    "objects put in order": {"$or": [{"object": {"$gt": {"x": number}}} for number in range(TERMS)]},
    "texts put in order": {"$or": [{"text": {"$gt": f"z{number}"}} for number in range(TERMS)]},
    "conditions": {"$or": [{"other": {"$eq": f"z{number}"}} for number in range(TERMS)]},
    "elements": {"list": {"$elemMatch": {"$or": [{"$eq": number} for number in range(-190, 0)]}}},
    "elements of two": {"list": {"$all": list(range(-190, 0))}},
    "objects in a list": {"objects": {"$in": [[number] for number in range(9_000)]}},
}


@pytest.mark.parametrize("kind", BOMBS)
async def test_all_documents_of_a_query_share_one_allowance_of_work(
    tmp_path: Path, session: ClientSession, kind: str
) -> None:
    async with running(tmp_path, SyncLimits(selector_steps=100_000)) as node:
        client = Client(session, node, node.add_user())
        document = {
            "object": {"text": "x" * 200, "more": list(range(20))},
            "text": "a" * 200,
            "list": list(range(50)),
            "objects": [{"n": number} for number in range(20)],
        }
        await bulk(client, [{"_id": f"{number:04}", **document} for number in range(1_000)])
        began = time.process_time()
        for path in ("/_find", "/_changes?filter=_selector"):
            status, answer, _ = await client.ask("POST", path, {"selector": BOMBS[kind]})
            assert (status, answer["error"]) == (400, "bad_request"), answer
            assert "the selector needs too much work" in answer["reason"]
        assert time.process_time() - began < 5
        assert await found(client, {"_id": "0500", "text": {"$gt": "A"}}) == ["0500"]


async def test_an_ordinary_query_of_many_documents_is_far_below_the_allowance(
    tmp_path: Path, session: ClientSession
) -> None:
    async with running(tmp_path, SyncLimits(selector_steps=2_500_000 // 20)) as node:
        client = Client(session, node, node.add_user())
        mail = {
            "folder": "inbox",
            "subject": "x" * 60,
            "from": "friend@beta.example",
            "tags": ["a", "b"],
            "created": 5,
        }
        await bulk(client, [{"_id": f"{number:04}", **mail} for number in range(1_000)])
        selector = {
            "$and": [{"subject": {"$gte": "m", "$lt": "z"}}, {"from": {"$in": ["friend@beta.example", "y"]}}],
            "tags": {"$elemMatch": {"$eq": "b"}},
            "created": {"$gt": None},
            "$not": {"folder": "spam"},
        }
        assert len(await found(client, selector, limit=2_000)) == 1_000


async def test_a_live_feed_has_the_allowance_for_each_round(tmp_path: Path, session: ClientSession) -> None:
    limits = SyncLimits(selector_steps=20, regex_steps=200)
    async with running(tmp_path, limits) as node:
        client = Client(session, node, node.add_user())
        body = {"selector": {"text": {"$regex": "^a+$", "$gt": "a"}}}
        url = f"{client.base}/_changes?feed=continuous&filter=_selector&heartbeat=60000"
        async with session.post(url, json=body, headers=client.headers) as answer:
            for number in range(20):
                await client.put({"_id": f"d{number}", "text": "a" * 20})
                assert json.loads(await answer.content.readline())["id"] == f"d{number}"


async def test_a_class_of_many_characters_costs_what_it_takes(client: Client) -> None:
    await client.put({"_id": "a", "text": "a" * 300_000})
    pattern = "[" + "".join(chr(0x100 + number) for number in range(240)) + "a]*b"
    began = time.process_time()
    status, answer, _ = await client.ask("POST", "/_find", {"selector": {"text": {"$regex": pattern}}})
    assert (status, "too much work" in answer["reason"]) == (400, True)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "named",
    [
        {"fields": ["a"] * 101},
        {"fields": ["a" * 70_000]},
        {"sort": ["a"] * 101},
        {"sort": [{"a" * 70_000: "asc"}]},
    ],
    ids=range(4),
)
async def test_the_fields_of_a_query_are_few(client: Client, named: Any) -> None:
    status, answer, _ = await client.ask("POST", "/_find", {"selector": {"_id": "a"}, **named})
    assert (status, answer["error"]) == (413, "too_large")


async def test_what_a_query_passes_over_is_not_kept(client: Client) -> None:
    await bulk(client, [{"_id": f"{number:03}", "n": number} for number in range(50)])
    status, answer, _ = await client.ask("POST", "/_find", {"selector": {"n": {"$gte": 0}}, "skip": 40})
    assert (status, [document["n"] for document in answer["docs"]]) == (200, list(range(40, 50)))
    sorted_backwards = {"selector": {"n": {"$gte": 0}}, "sort": [{"n": "desc"}], "skip": 40, "limit": 5}
    _, answer, _ = await client.ask("POST", "/_find", sorted_backwards)
    assert [document["n"] for document in answer["docs"]] == [9, 8, 7, 6, 5]
