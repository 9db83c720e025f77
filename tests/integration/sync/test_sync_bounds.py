"""Bounds of disk and memory that hold for every way to reach them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from node.sync.limits import SyncLimits
from tests.integration.sync.harness import Client, running


def stored_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "blobs").rglob("*.seg"))


async def test_what_a_full_mailbox_refuses_takes_no_room_on_the_disk(
    tmp_path: Path, session: ClientSession
) -> None:
    async with running(tmp_path, quota=100_000) as node:
        client = Client(session, node, node.add_user())
        rev = await client.put({"_id": "kept", "text": "x" * 90_000})
        before = stored_bytes(tmp_path)
        for number in range(5):
            status, answer, _ = await client.ask(
                "PUT", f"/big{number}", {"text": f"{number}" + "x" * 300_000}
            )
            assert (status, answer["error"]) == (507, "insufficient_storage")
        documents = [
            {"_id": "kept", "_rev": rev, "text": "y" * 80_000},
            {"_id": "more", "text": "z" * 300_000},
        ]
        _, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
        assert (rows[0]["ok"], rows[1]["error"]) == (True, "insufficient_storage")
        assert stored_bytes(tmp_path) - before < 100_000
        assert (await client.get("/kept"))["text"] == "y" * 80_000


async def test_attachments_are_as_few_when_they_come_one_by_one(
    tmp_path: Path, session: ClientSession
) -> None:
    async with running(tmp_path, SyncLimits(attachments_per_document=2)) as node:
        client = Client(session, node, node.add_user())
        rev = await client.put({"_id": "a"})
        for name in ("one", "two", "two"):
            status, answer, _ = await client.ask("PUT", f"/a/{name}?rev={rev}", body=b"x")
            assert status == 201, answer
            rev = answer["rev"]
        status, answer, _ = await client.ask("PUT", f"/a/three?rev={rev}", body=b"x")
        assert (status, answer["error"]) == (413, "too_large")
        assert (await client.ask("DELETE", f"/a/two?rev={rev}"))[0] == 200


async def test_a_document_asked_for_a_hundred_times_is_never_held_so_often(client: Client) -> None:
    data = base64.b64encode(bytes(1_000_000)).decode()
    await client.put({"_id": "a", "_attachments": {"file": {"content_type": "x/y", "data": data}}})
    url = f"{client.base}/_bulk_get?attachments=true"
    headers = client.headers | {"Accept": "multipart/mixed"}
    received = 0
    tracemalloc.start()
    try:
        async with client.session.post(url, json={"docs": [{"id": "a"}] * 100}, headers=headers) as answer:
            async for chunk in answer.content.iter_any():
                received += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received > 100_000_000
    assert peak < 20_000_000


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'""', b"[[]]"])
async def test_small_values_without_number_are_refused_before_they_are_made(
    client: Client, value: bytes
) -> None:
    body = b'{"docs":[' + (value + b",") * 1_500_000 + b"1]}"
    began = time.process_time()
    for path in ("/_bulk_docs", "/_find", "/_changes"):
        status, answer, _ = await client.ask(
            "POST", path, body=body, headers={"Content-Type": "application/json"}
        )
        assert (status, answer["error"]) == (413, "too_large"), answer
    assert time.process_time() - began < 2


async def test_a_long_text_with_many_commas_is_one_value(client: Client) -> None:
    text = "a, b\\n" * 600_000
    status, answer, _ = await client.ask("PUT", "/table", {"text": text})
    assert status == 201, answer
    assert (await client.get("/table"))["text"] == text


MANY_REVISIONS = {f"d{n}": [f"1-{n:08x}{each:024x}" for each in range(60)] for n in range(4_000)}
MANY_DOCUMENTS = {"docs": [{"_id": f"d{n}", "list": list(range(40))} for n in range(4_000)]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/_revs_diff", MANY_REVISIONS),
        ("/_missing_revs", MANY_REVISIONS),
        ("/_bulk_docs", MANY_DOCUMENTS),
    ],
)
async def test_others_are_served_while_a_large_request_is_worked_off(
    client: Client, path: str, value: Any
) -> None:
    asked = asyncio.create_task(posted(client, path, json.dumps(value).encode()))
    turns: list[float] = []
    while not asked.done():
        before = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - before)
    assert await asked in {200, 201}
    # Reading the JSON is one turn, and takes a third of the time, more where the collector has much to walk.
    assert max(turns) < sum(turns) / 2


async def posted(client: Client, path: str, body: bytes) -> int:
    """Send a body and let the answer pass unread; return the status."""
    headers = client.headers | {"Content-Type": "application/json"}
    async with client.session.post(client.base + path, data=body, headers=headers) as answer:
        async for _ in answer.content.iter_any():
            pass
        return answer.status
