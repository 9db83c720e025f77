"""Another user's data, by every route and method that there is: each refusal is the one that nobody's data gets.

Made from the tables of routes, so a new route is attacked without a word here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.attacks.every_route import basic, path_of, sync_requests, told, with_token
from tests.integration.api.harness import Node, User, database

NOBODY = "userdb-" + "30" * 42
SECRET = "for nobody else"


async def raw(node: Node, target: str, user: User) -> bytes:
    """The whole answer to a GET of exactly this target, which a well-behaved client would change."""
    reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: */*\r\n"
    writer.write(f"{head}Authorization: {basic(user)['Authorization']}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@pytest.fixture
async def secret(node: Node, alice: User) -> dict[str, Any]:
    """What alice has to hide: ids of a document with an attachment, a mail, a folder."""
    document = {"_id": "secret", "text": SECRET, "_attachments": {"file": {"data": "c2VjcmV0"}}}
    written = await node.call("POST", f"/{database(alice)}", document, headers=basic(alice))
    assert written.status == 201
    folder = await node.call("POST", "/api/v1/folder", {"name": SECRET}, token=alice.token)
    return {
        "rev": written.json["rev"],
        "mail": await node.deliver(alice, "secret"),
        "folder": folder.json["id"],
    }


@pytest.mark.parametrize("credential", ["password", "token"])
async def test_no_call_of_the_sync_door_leads_into_anothers_database(
    node: Node, alice: User, mallory: User, secret: dict[str, Any], credential: str
) -> None:
    mine = basic(mallory) if credential == "password" else {"Authorization": mallory.token}
    before = node.core.log.head
    for method, path in sync_requests():
        body = {"docs": [{"_id": "planted"}]} if method in {"POST", "PUT"} else None
        for query in ("", f"?rev={secret['rev']}"):
            there = await node.call(method, f"/{database(alice)}{path}{query}", body, headers=mine)
            nowhere = await node.call(method, f"/{NOBODY}{path}{query}", body, headers=mine)
            assert there.status == 403, (method, path)
            assert told(there) == told(nowhere), (method, path)
    assert node.core.log.head == before


async def test_every_call_works_for_the_owner_and_so_the_refusals_mean_something(
    node: Node, alice: User, secret: dict[str, Any]
) -> None:
    for method, path in sync_requests():
        if method in {"GET", "HEAD"}:
            answer = await node.call(method, f"/{database(alice)}{path}", headers=basic(alice))
            assert answer.status != 403 or path.startswith("/_"), (method, path)
    assert SECRET.encode() in (await node.get(f"/{database(alice)}/secret", **basic(alice))).body


async def test_a_head_request_is_answered_by_a_head_alone(
    node: Node, alice: User, secret: dict[str, Any]
) -> None:
    """Bytes behind it would be taken for the answer to the next request on the same connection."""
    for path in (
        "",
        "/secret",
        "/secret/file",
        "/_all_docs",
        "/_changes",
        "/_changes?feed=continuous",
        "/_index",
    ):
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        head = f"HEAD /{database(alice)}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        writer.write(f"{head}Authorization: {basic(alice)['Authorization']}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200"), path
        assert answer.endswith(b"\r\n\r\n"), path


async def test_no_route_of_the_api_shows_or_changes_what_is_anothers(
    node: Node, alice: User, mallory: User, secret: dict[str, Any]
) -> None:
    """Every parameter of every route is given every name of alice's."""
    names = [secret["mail"], "secret", secret["folder"], alice.address, database(alice)]
    store = node.core.views.stores["userdb"]
    before = [document async for document in store.documents(database(alice))]
    for route in with_token(node):
        for name in names:
            values = dict.fromkeys(("id", "nonce", "requestId"), name) | {"address": alice.address}
            body = dict.fromkeys(getattr(route.body, "__struct_encode_fields__", ()), name) or None
            answer = await node.call(route.method, path_of(route, **values), body, token=mallory.token)
            if "/logout" in route.path:
                mallory.token = node.token(mallory, f"login after {name}")
            assert SECRET.encode() not in answer.body, route.path
            assert b"secret@beta.example" not in answer.body, route.path
    assert [document async for document in store.documents(database(alice))] == before


SPELLINGS = [
    "/{own}/../{other}/secret",
    "/{own}/..%2F{other}/secret",
    "/{own}/%2e%2e/{other}/secret",
    "/{own}/%252e%252e/{other}/secret",
    "/{own}/..%c0%af{other}/secret",
    "/{own}/..%ef%bc%8f{other}/secret",
    "/{own}/..\\{other}/secret",
    "/{own}%00/../{other}/secret",
    "//{other}/secret",
    "/./{other}/secret",
    "/{own};/../{other}/secret",
    "/{own}/_local/..%2F..%2F{other}%2Fsecret",
    "/{own}/_design/..%2F..%2F{other}/secret",
    "/{own}/a/..%2F..%2F{other}%2Fsecret",
    "/{other}%00/secret",
    "/{other}%20/secret",
    "/{other}./secret",
    "/{OTHER}/secret",
    "http://x/{other}/secret",
]


async def test_no_spelling_of_a_path_leads_there(
    node: Node, alice: User, mallory: User, secret: dict[str, Any]
) -> None:
    own, other = database(mallory), database(alice)
    for around in SPELLINGS:
        answer = await raw(node, around.format(own=own, other=other, OTHER=other.upper()), mallory)
        assert answer.split()[1] in {b"400", b"403", b"404"}, around
        assert SECRET.encode() not in answer, around


FILES = [
    "../../keys/server.json", "..%2f..%2fkeys%2fserver.json", "%2e%2e%2f%2e%2e%2flog.sqlite", "%252e%252e%252flog.sqlite",
    "..%5c..%5clog.sqlite", "%2fetc%2fpasswd", "/etc/passwd", "%00", "log.sqlite%00.txt", "..%c0%af..%c0%aflog.sqlite",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8flog.sqlite", "blobs%2f000001.seg", "....//....//log.sqlite", "file:%2f%2f%2fetc%2fpasswd",
]  # fmt: skip


async def test_no_name_of_a_document_attachment_or_blob_is_a_path(
    node: Node, alice: User, secret: dict[str, Any]
) -> None:
    """Names are keys of a store, never of a file system; what a name was given is found by it, and nothing else."""
    own = f"/{database(alice)}"
    for name in FILES:
        for path in (f"{own}/", f"{own}/secret/", f"{own}/_local/", "/", "/api/v1/message/"):
            answer = await raw(node, path + name, alice)
            assert answer.split()[1] in {b"400", b"401", b"403", b"404", b"405"}, path
            for leaked in (b"privateKey", b"SQLite format", b"root:", b"MBL1"):
                assert leaked not in answer, path
    for name in ("../../keys/server.json", "/etc/passwd", "..", "blobs/000001.seg"):
        body = {"_id": name, "_attachments": {name: {"data": "b3du"}}}
        assert (await node.call("POST", own, body, headers=basic(alice))).status == 201
        found = await node.call("POST", f"{own}/_bulk_get", {"docs": [{"id": name}]}, headers=basic(alice))
        assert found.json["results"][0]["docs"][0]["ok"]["_id"] == name


async def test_a_stored_name_splits_no_answer(node: Node, alice: User) -> None:
    """CR LF in ids, file names, types and revisions never begins a header (response splitting)."""
    own, evil = f"/{database(alice)}", 'a"\r\nX-Evil: 1\r\n\r\n<script>'
    document = {"_id": evil, "_attachments": {evil: {"content_type": "text/html", "data": "aGk="}}}
    assert (await node.call("POST", own, document, headers=basic(alice))).status == 201
    quoted = "a%22%0d%0aX-Evil:%201%0d%0a%0d%0a%3Cscript%3E"
    for path in (
        f"/{quoted}",
        f"/{quoted}/{quoted}",
        "/_all_docs",
        "/_changes",
        f"/{quoted}?attachments=true",
    ):
        answer = await raw(node, own + path, alice)
        head = answer.partition(b"\r\n\r\n")[0]
        assert answer.startswith(b"HTTP/1.1 200"), path
        assert b"\nX-Evil" not in head
    for kind in ("text/html\r\nX-Evil: 1", "text/html\nX-Evil: 1", "text/\x00html"):
        document = {"_id": "b", "_attachments": {"f": {"content_type": kind, "data": "aGk="}}}
        assert (await node.call("POST", own, document, headers=basic(alice))).status == 400
    origin = await node.call("GET", "/api/healthcheck", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in origin.headers
