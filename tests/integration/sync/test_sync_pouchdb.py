"""A real PouchDB (npm, Node.js) replicates with the door: both ways, one-shot and live, conflicts, files."""

from __future__ import annotations

import json

from tests.integration.sync.harness import Client, SyncNode, User, script


async def test_what_one_device_pushes_another_pulls_unchanged(
    node: SyncNode, user: User, client: Client
) -> None:
    said = await script("push_pull.mjs", node.remote(user))
    assert said["pushed"]["ok"]
    assert said["pushed"]["docs_written"] == 3
    assert said["pulled"]["docs_written"] == 3
    served = await client.get("/file")
    assert served["_attachments"]["a/b ü.txt"]["revpos"] == 1
    # PouchDB itself numbers the attachments anew that it pulls.
    (pulled,) = [row for row in said["right"] if row["id"] == "file"]
    pulled["doc"]["_attachments"]["a/b ü.txt"]["revpos"] = 1
    assert said["left"] == said["right"]


async def test_a_device_resumes_at_its_checkpoint(node: SyncNode, user: User) -> None:
    said = await script("checkpoint.mjs", node.remote(user))
    assert said["pushed"]["docs_read"] == 1
    assert said["pulled"]["docs_read"] == 1
    assert said["nothing"]["docs_read"] == 0
    assert not [asked for asked in said["idle"] if "_bulk_get" in asked]


async def test_two_devices_in_live_sync_see_each_others_edits_and_deletions(
    node: SyncNode, user: User
) -> None:
    said = await script("live.mjs", node.remote(user))
    assert said["back"]["isRead"] is True
    assert len(said["requests"]) < 60, "live sync must wait, not poll"


async def test_two_offline_devices_converge_on_one_winner_and_know_the_conflict(
    node: SyncNode, user: User
) -> None:
    said = await script("conflict.mjs", node.remote(user))
    one, two, remote = said["before"]
    assert one == two == remote
    assert one["text"] == "by two again"
    assert len(one["_conflicts"]) == 1
    one, two, remote = said["after"]
    assert one == two == remote
    assert "_conflicts" not in one


async def test_attachments_travel_both_ways(node: SyncNode, user: User) -> None:
    said = await script("attachments.mjs", node.remote(user))
    assert said["same"]
    assert said["inline"]
    assert said["one"].pop("_attachments").keys() == {"picture.png"}
    assert said["remote"].pop("_attachments").keys() == {"picture.png"}
    assert said["one"] == said["remote"]


async def test_filtered_replication_discloses_nothing_else(node: SyncNode, user: User) -> None:
    said = await script("filters.mjs", node.remote(user))
    assert said["byIds"] == ["a", "d"]
    assert said["bySelector"] == ["a", "c"]
    assert said["live"] == ["a", "c", "f"]
    assert said["script"] == 403


async def test_a_first_sync_of_two_thousand_documents_is_complete(
    node: SyncNode, user: User, client: Client
) -> None:
    documents = [
        {"_id": f"m{number:05}", "folder": "inbox", "created": 1_760_000_000_000 + number, "text": "x" * 1500}
        for number in range(2000)
    ]
    status, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
    assert status == 201
    assert all(row.get("ok") for row in rows)
    said = await script("first_sync.mjs", node.remote(user))
    print(json.dumps({"first sync of 2,000 documents, ms": round(said["took"])}))
    assert said["docs"] == 2000
    assert said["took"] < 60_000


async def test_pouchdb_find_pages_through_the_folder_index(node: SyncNode, user: User) -> None:
    said = await script("find.mjs", node.remote(user))
    created = [doc["created"] for page in ("first", "second", "third") for doc in said[page]["docs"]]
    assert len(created) == 40
    assert created == sorted(created, reverse=True)
    assert set(said["first"]["docs"][0]) == {"_id", "created"}
    assert "warning" not in said["first"]
    assert [doc["n"] for doc in said["scanned"]["docs"]] == [3, 13, 23, 33, 43, 53]
    assert said["scanned"]["warning"]
    assert (said["made"], said["again"]) == ("created", "exists")
    assert len(said["indexes"]["indexes"]) == 3
