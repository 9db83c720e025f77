"""What a client writes becomes a fact: checked, stored once, visible, and the same after a rebuild."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from events.identity import handshake_id
from events.mailbox import DocumentWritten
from node.crypto.handshakes import handshake_document, sign_handshake
from node.crypto.keys import UserKeys
from projections.runner import Runner
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from tests.integration.sync.harness import Client, SyncNode, User, running

SENDER = "friend@beta.example"


async def facts(node: SyncNode) -> list[DocumentWritten]:
    return [record.event for record in await node.log.read(0) if isinstance(record.event, DocumentWritten)]


def pushed(**document: Any) -> dict[str, Any]:
    return {"docs": [document], "new_edits": False}


def handshake(keys: UserKeys, status: str = "accepted", created: int = 1, **changes: Any) -> dict[str, Any]:
    content = {
        "originServer": {"domain": "alpha.example"}, "status": status, "level": "none",
        "senderMetadata": {}, "type": "user", "created": created,
    } | changes  # fmt: skip
    identifier = handshake_id(keys.address, SENDER)
    content = {"handshakeId": identifier} | content
    return handshake_document(identifier, sign_handshake(content, keys), f"did:web:x#{keys.address}", 5)


async def test_a_push_of_what_is_known_is_no_event(node: SyncNode, client: Client) -> None:
    document = {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 1}
    for _ in range(3):
        assert (await client.ask("POST", "/_bulk_docs", pushed(**document)))[:2] == (201, [])
    ancestor = {"_id": "a", "_rev": "1-a", "n": 0}
    assert (await client.ask("POST", "/_bulk_docs", pushed(**ancestor)))[:2] == (201, [])
    assert [event.revisions for event in await facts(node)] == [("2-b", "1-a")]


async def test_an_event_carries_the_clients_own_revision_and_only_the_path_that_is_new(
    node: SyncNode, client: Client
) -> None:
    await client.ask("POST", "/_bulk_docs", pushed(_id="a", _rev="1-x"))
    history = {"start": 3, "ids": ["z", "y", "x"]}
    await client.ask("POST", "/_bulk_docs", pushed(_id="a", _rev="3-z", _revisions=history))
    assert (await facts(node))[-1].revisions == ("3-z", "2-y", "1-x")
    history = {"start": 4, "ids": ["w", "z", "y", "x"]}
    await client.ask("POST", "/_bulk_docs", pushed(_id="a", _rev="4-w", _revisions=history))
    assert (await facts(node))[-1].revisions == ("4-w", "3-z")
    assert (await client.get("/a?revs=true"))["_revisions"] == history


async def test_an_edit_of_an_old_revision_is_a_conflict_and_no_event(node: SyncNode, client: Client) -> None:
    first = await client.put({"_id": "a", "n": 1})
    await client.put({"_id": "a", "n": 2, "_rev": first})
    for document in ({"n": 3}, {"n": 3, "_rev": first}, {"n": 3, "_rev": "1-unknown"}):
        status, answer, _ = await client.ask("PUT", "/a", document)
        assert (status, answer["error"]) == (409, "conflict")
    assert len(await facts(node)) == 2


async def test_a_deleted_document_is_written_again_on_top_of_its_deletion(client: Client) -> None:
    first = await client.put({"_id": "a"})
    _, deleted, _ = await client.ask("DELETE", f"/a?rev={first}")
    assert (await client.ask("GET", "/a"))[:2] == (404, {"error": "not_found", "reason": "deleted"})
    assert (await client.ask("DELETE", f"/a?rev={deleted['rev']}"))[0] == 404
    again = await client.put({"_id": "a"})
    assert again.startswith("3-")


async def test_of_simultaneous_edits_exactly_one_wins(node: SyncNode, client: Client) -> None:
    rev = await client.put({"_id": "a"})
    answers = await asyncio.gather(
        *(client.ask("PUT", "/a", {"_rev": rev, "by": number}) for number in range(20))
    )
    assert sorted(status for status, _, _ in answers) == [201] + [409] * 19
    assert len(await facts(node)) == 2


async def test_a_bulk_request_answers_each_document_for_itself(node: SyncNode, client: Client) -> None:
    await client.put({"_id": "old"})
    documents = [{"_id": "new"}, {"_id": "old"}, {"_id": "new", "again": 1}, {"n": 1}]
    status, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
    assert status == 201
    assert [row.get("error") for row in rows] == [None, "conflict", "conflict", None]
    assert len(rows[3]["id"]) == 32
    assert len(await facts(node)) == 3


async def test_numbers_keep_their_value_and_form(node: SyncNode, client: Client) -> None:
    text = b'{"big":9223372036854775807,"huge":123456789012345678901234567890,"one":1.0,"tiny":5e-324}'
    assert (await client.ask("PUT", "/a", body=text, headers={"Content-Type": "application/json"}))[0] == 201
    (event,) = await facts(node)
    assert await node.blobs.read(event.document) == text
    _, body, _ = await client.ask("GET", "/a")
    assert body["huge"] == 123456789012345678901234567890
    assert isinstance(body["one"], float)


async def test_kinds_and_sizes_are_noted(node: SyncNode, client: Client) -> None:
    await client.put({"_id": "d", "folder": "draft"})
    await client.put({"_id": "c", "contactInfo": {"email": SENDER}})
    rev = await client.put({"_id": "m", "didCommMessage": {"id": "m"}, "folder": "inbox", "isRead": True})
    await client.ask("DELETE", f"/m?rev={rev}")
    await client.put({"_id": "o"})
    events = await facts(node)
    assert [event.kind for event in events] == ["draft", "contact", "message", "own", "own"]
    assert events[2].folder == "inbox"
    assert (events[3].deleted, events[3].size, events[3].replaced) == (True, 0, events[2].size)
    assert events[4].document == ""


async def test_a_signed_handshake_becomes_verified_terms(node: SyncNode, user: User, client: Client) -> None:
    document = handshake(user.keys)
    rev = await client.put(document)
    (event,) = await facts(node)
    assert event.kind == "handshake"
    assert event.handshake is not None
    assert (event.handshake.id, event.handshake.status) == (document["_id"], "accepted")
    revoked = handshake(user.keys, "revoked", 2)
    rev = await client.put(revoked | {"_rev": rev})
    assert (await facts(node))[-1].handshake.status == "revoked"  # type: ignore[union-attr]
    assert (await client.ask("DELETE", f"/{document['_id']}?rev={rev}"))[0] == 200
    last = (await facts(node))[-1]
    assert (last.forgotten, last.handshake) == (True, None)


async def test_a_handshake_that_becomes_something_else_is_forgotten(
    node: SyncNode, user: User, client: Client
) -> None:
    document = handshake(user.keys)
    rev = await client.put(document)
    await client.put({"_id": document["_id"], "_rev": rev, "folder": "archive"})
    assert (await facts(node))[-1].forgotten


async def test_forged_handshakes_are_refused_with_the_reason_and_others_pass(
    node: SyncNode, user: User, client: Client
) -> None:
    stranger = UserKeys.generate()
    foreign = handshake(stranger)
    moved = handshake(user.keys) | {"_id": "ab" * 32}
    tampered = handshake(user.keys)
    inner = json.loads(base64.b64decode(tampered["didCommMessage"]["plainBodyBase64"]))
    inner["content"]["status"] = "revoked"
    tampered["didCommMessage"]["plainBodyBase64"] = base64.b64encode(json.dumps(inner).encode()).decode()
    empty = {"_id": "cd" * 32, "didCommMessage": {"type": "application/mailio-handshake+json"}}
    documents = [foreign, moved, tampered, empty, {"_id": "harmless"}]
    _, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
    assert [row.get("error") for row in rows] == ["forbidden"] * 4 + [None]
    assert "bad-signature" in rows[0]["reason"]
    assert "document-id-is-another" in rows[1]["reason"]
    assert "content-differs" in rows[2]["reason"]
    assert [event.id for event in await facts(node)] == ["harmless"]


async def test_a_handshake_without_an_id_counts_only_for_the_sender_that_was_signed(
    node: SyncNode, user: User, client: Client
) -> None:
    """Who can write to the database, but not sign, could move it to somebody else otherwise."""
    signed = {
        "originServer": {"domain": "alpha.example"},
        "status": "accepted",
        "level": "none",
        "created": 1,
    }
    friend, pest = "0x" + "f" * 40, "0x" + "e" * 40
    content = signed | {"senderMetadata": {"address": friend}}

    def stored(sender: str) -> dict[str, Any]:
        identifier = handshake_id(user.keys.address, sender)
        return handshake_document(identifier, sign_handshake(content, user.keys), "did:web:x", 5)

    documents = [stored(friend), stored(pest), stored("pest@spam.example")]
    _, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
    assert [row.get("error") for row in rows] == [None, "forbidden", "forbidden"]
    assert "document-id-is-another" in rows[1]["reason"]


async def test_a_request_from_a_stranger_in_the_same_folder_can_be_marked_read(client: Client) -> None:
    message = {"type": "application/mailio-handshake-request+json", "intent": "handshake_request"}
    await client.put({"_id": "r", "didCommMessage": message, "folder": "handshake", "isRead": True})


async def test_a_full_mailbox_takes_deletions_and_says_why_to_the_rest(
    tmp_path: Path, session: ClientSession
) -> None:
    async with running(tmp_path, quota=5_000) as node:
        client = Client(session, node, node.add_user())
        rev = await client.put({"_id": "big", "text": "x" * 4_000})
        status, answer, _ = await client.ask("PUT", "/more", {"text": "x" * 2_000})
        assert (status, answer["error"]) == (507, "insufficient_storage")
        documents = [{"_id": "big", "_rev": rev, "_deleted": True}, {"_id": "more", "text": "x" * 9_000}]
        _, rows, _ = await client.ask("POST", "/_bulk_docs", {"docs": documents})
        assert rows[0]["ok"]
        assert rows[1]["error"] == "insufficient_storage"
        assert (await client.ask("PUT", "/more", {"text": "x" * 2_000}))[0] == 201


async def test_a_write_goes_on_when_its_client_leaves(node: SyncNode, user: User, client: Client) -> None:
    asking = asyncio.create_task(client.ask("PUT", "/a", {"n": 1}))
    await asyncio.sleep(0)
    asking.cancel()
    await client.put({"_id": "b"})
    await node.writes.drain()
    assert {event.id for event in await facts(node)} >= {"b"}
    assert (await client.get("/b"))["_id"] == "b"


async def test_a_rebuilt_database_has_the_same_revisions_and_attachments(
    node: SyncNode, user: User, client: Client, tmp_path: Path
) -> None:
    await client.put({"_id": "a", "n": 1})
    await client.ask("PUT", "/a/f.txt?rev=" + (await client.get("/a"))["_rev"], body=b"text")
    await client.ask(
        "POST", "/_bulk_docs", pushed(_id="a", _rev="2-zz", _revisions={"start": 2, "ids": ["zz", "q"]})
    )
    rev = await client.put({"_id": "gone"})
    await client.ask("DELETE", f"/gone?rev={rev}")
    rebuilt = EmbeddedStore.open(tmp_path / "rebuilt.sqlite")
    runner = Runner(UserDatabases(node.blobs), rebuilt, node.log)
    running_task = asyncio.create_task(runner.run())
    await runner.reached(node.log.head)
    assert await rebuilt.digest() == await node.store.digest()
    await runner.stop()
    await running_task
    await rebuilt.close()


@pytest.mark.parametrize("data", ["not base64!", "aGk", 5, None])
async def test_broken_attachment_data_is_refused(node: SyncNode, client: Client, data: Any) -> None:
    status, _, _ = await client.ask("PUT", "/a", {"_attachments": {"f": {"data": data}}})
    assert status == 400
    assert node.log.head == 0
