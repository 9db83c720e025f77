"""What an attacker tries at the sync door: others' data, paths, bombs, floods, forged references."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from events.identity import userdb_name
from node.sync.limits import SyncLimits
from tests.integration.sync.harness import Client, SyncNode, User, running, until

ROUTES = [
    ("GET", ""), ("HEAD", ""), ("PUT", ""), ("POST", ""), ("DELETE", ""),
    ("GET", "/_changes"), ("GET", "/_changes?feed=longpoll&heartbeat=1000"), ("POST", "/_changes"),
    ("GET", "/_all_docs?include_docs=true"), ("POST", "/_all_docs"), ("POST", "/_bulk_docs"),
    ("POST", "/_bulk_get"), ("POST", "/_revs_diff"), ("POST", "/_missing_revs"), ("POST", "/_find"),
    ("POST", "/_explain"), ("GET", "/_index"), ("POST", "/_index"), ("DELETE", "/_index/a/json/b"),
    ("GET", "/_local/x"), ("PUT", "/_local/x"), ("DELETE", "/_local/x"), ("GET", "/secret"),
    ("HEAD", "/secret"), ("PUT", "/secret"), ("DELETE", "/secret?rev=1-a"), ("GET", "/secret/file"),
    ("PUT", "/secret/file"), ("DELETE", "/secret/file"), ("GET", "/_security"), ("PUT", "/_security"),
    ("POST", "/_compact"), ("POST", "/_purge"), ("POST", "/_ensure_full_commit"), ("GET", "/_revs_limit"),
    ("GET", "/_design/a/_view/b"), ("GET", "/_nothing"),
]  # fmt: skip

RAW = b"\0\x01binary"


@pytest.fixture
async def victim(node: SyncNode, session: ClientSession) -> User:
    owner = node.add_user()
    theirs = Client(session, node, owner)
    await theirs.put({"_id": "secret", "text": "private"})
    return owner


async def test_every_route_of_another_database_answers_like_one_that_does_not_exist(
    node: SyncNode, client: Client, victim: User
) -> None:
    head = node.log.head
    absent = userdb_name("0x" + "ab" * 20)
    names = [
        victim.database,
        absent,
        "userdb-",
        "userdb-zz",
        victim.database.upper().replace("USERDB", "userdb"),
        f"{victim.database}0",
    ]
    for method, path in ROUTES:
        answers = []
        for name in names:
            client.base = f"{node.url}/{name}"
            status, body, headers = await client.ask(method, path, {} if method in {"POST", "PUT"} else None)
            del headers["date"]
            answers.append((status, body, headers))
        assert answers[0][0] == 403, (method, path)
        assert all(answer == answers[0] for answer in answers), (method, path)
    assert node.log.head == head


async def test_without_identity_every_database_answers_alike(
    node: SyncNode, session: ClientSession, victim: User
) -> None:
    for name in (victim.database, userdb_name("0x" + "ab" * 20), "userdb-x"):
        for method, path in ROUTES:
            async with session.request(method, f"{node.url}/{name}{path}") as answer:
                assert answer.status == 401, (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/log.sqlite", "/%252e%252e%252flog",
        "/a/../../secret", "/.//..", "/%c0%ae%c0%ae/", "/a%00b", "/_local/..%2f..%2fx", "/%EF%BC%8E%EF%BC%8E%EF%BC%8Fb",
    ],
)  # fmt: skip
async def test_ids_that_look_like_paths_name_nothing(client: Client, path: str) -> None:
    status, body, _ = await client.ask("GET", path)
    assert status in {400, 404}
    assert set(body) == {"error", "reason"}


async def test_an_id_is_decoded_exactly_once(client: Client) -> None:
    for raw, name in (("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%2e%2e", ".."), ("%F0%9F%98%80", "😀")):
        status, answer, _ = await client.ask("PUT", f"/{raw}", {"x": 1})
        assert (status, answer["id"]) == (201, name)
        assert (await client.get(f"/{raw}"))["_id"] == name
    rows = (await client.get("/_all_docs"))["rows"]
    assert sorted(row["id"] for row in rows) == sorted(["a/b", "a%2Fb", "..", "😀"])


BOMBS = [
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"docs":[' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"]}",
    b'{"docs":[{"a":NaN}]}',
    b'{"docs":[{"a":1e999}]}',
    b'{"docs":[{"a":Infinity}]}',
    b'{"docs":[{"a":1,"a":2}]}',
    b'{"docs":[{"_id":"x","_id":"y"}]}',
    b'{"docs":[{"a":' + b"9" * 10_000 + b"}]}",
    b'{"docs":[{"a":"\\ud800"}]}',
    b'{"docs":[{"a":"\xff"}]}',
    b'{"docs":',
    b"null",
    b'"docs"',
]


@pytest.mark.parametrize("body", BOMBS, ids=range(len(BOMBS)))
async def test_json_bombs_and_broken_json_are_refused_and_write_nothing(
    node: SyncNode, client: Client, body: bytes
) -> None:
    began = time.perf_counter()
    for path in ("/_bulk_docs", "/_find", "/_bulk_get", "/_revs_diff", "/_changes"):
        status, answer, _ = await client.ask(
            "POST", path, body=body, headers={"Content-Type": "application/json"}
        )
        rows = answer if isinstance(answer, list) else []
        assert status == 400 or all("error" in row for row in rows), (path, status, answer)
    assert node.log.head == 0
    assert time.perf_counter() - began < 5


async def test_a_compressed_bomb_ends_at_the_ratio(tmp_path: Path, session: ClientSession) -> None:
    async with running(tmp_path, SyncLimits(body_bytes=1_000_000_000)) as node:
        client = Client(session, node, node.add_user())
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        bomb = gzip.compress(b'{"docs":[],"x":"' + b"a" * 100_000_000 + b'"}')
        status, _, _ = await client.ask("POST", "/_bulk_docs", body=bomb, headers=headers)
        assert status == 413
        fair = gzip.compress(b'{"docs":[{"_id":"zipped"}]}')
        assert (await client.ask("POST", "/_bulk_docs", body=fair, headers=headers))[0] == 201


async def test_sizes_are_bounded_each_by_its_own_limit(tmp_path: Path, session: ClientSession) -> None:
    limits = SyncLimits(
        body_bytes=50_000, document_bytes=1_000, attachment_bytes=500, attachments_per_document=2,
        documents_per_request=10, id_bytes=20, local_bytes=100, revisions=5,
    )  # fmt: skip
    data = base64.b64encode(b"x" * 501).decode()
    async with running(tmp_path, limits) as node:
        client = Client(session, node, node.add_user())
        ask = client.ask
        assert (await ask("PUT", "/a", {"x": "y" * 60_000}))[0] == 413
        assert (await ask("PUT", "/a", {"x": "y" * 1_000}))[1]["error"] == "document_too_large"
        assert (await ask("PUT", "/a", {"_attachments": {"f": {"data": data}}}))[0] == 413
        assert (await ask("PUT", "/a/f", body=b"x" * 501))[0] == 413
        many = {name: {"data": ""} for name in "abc"}
        assert (await ask("PUT", "/a", {"_attachments": many}))[0] == 413
        assert (await ask("POST", "/_bulk_docs", {"docs": [{}] * 11}))[0] == 413
        assert (await ask("POST", "/_bulk_get", {"docs": [{}] * 11}))[0] == 413
        assert (await ask("POST", "/_all_docs", {"keys": ["a"] * 11}))[0] == 413
        assert (await ask("POST", "/_revs_diff", {"a": ["1-a"] * 6}))[0] == 400
        assert (await ask("PUT", "/" + "i" * 21, {}))[0] == 400
        assert (await ask("PUT", "/_local/a", {"x": "y" * 100}))[0] == 413
        assert node.log.head == 0


@pytest.mark.parametrize(
    "selector",
    [
        {"a": {"$where": "1"}},
        {"a": {"$regex": "(a)\\1"}},
        {"a": {"$regex": "(?=a)"}},
        {"a": {"$regex": "(" * 40 + ")" * 40}},
        {"a": {"$regex": "((a{99}){99}){99}"}},
        {"a": {"$regex": "a" * 1_000}},
        {"a": {"$regex": "["}},
        {"$or": [{"a": number} for number in range(1_000)]},
        {"a": {"$in": ["x" * 100] * 1_000}},
        {"a": {"$mod": [0, 1]}},
        {"a": {"$type": "function"}},
        {"a": {"$size": "many"}},
        "everything",
        [],
    ],
    ids=range(14),
)
async def test_selectors_that_could_hurt_are_refused(client: Client, selector: Any) -> None:
    for path in ("/_find", "/_changes?filter=_selector"):
        status, answer, _ = await client.ask("POST", path, {"selector": selector})
        assert status in {400, 413}, answer


async def test_a_deeply_nested_selector_is_refused(client: Client) -> None:
    selector: dict[str, Any] = {"a": 1}
    for _ in range(50):
        selector = {"$not": selector}
    assert (await client.ask("POST", "/_find", {"selector": selector}))[0] == 400


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*)*b", "(a*)*(a*)*(a*)*c", "(x+x+)+y"]
)
async def test_a_catastrophic_pattern_takes_bounded_time(client: Client, pattern: str) -> None:
    await client.put({"_id": "a", "text": "a" * 30_000 + "!"})
    began = time.perf_counter()
    status, answer, _ = await client.ask("POST", "/_find", {"selector": {"text": {"$regex": pattern}}})
    assert time.perf_counter() - began < 8
    assert status == 400 or answer["docs"] == []


COSTLY: dict[str, dict[str, Any]] = {
    "pattern": {"text": {"$regex": "(a|aa)+$"}},
    "comparisons": {"$nor": [{"text": {"$gt": f"b{number}"}} for number in range(90)]},
    "members": {"list": {"$elemMatch": {"$or": [{"$eq": number} for number in range(-190, 0)]}}},
}


@pytest.mark.parametrize("path", ["/_find", "/_changes?filter=_selector"])
@pytest.mark.parametrize("kind", COSTLY)
async def test_others_are_served_while_a_costly_selector_is_worked_off(
    client: Client, path: str, kind: str
) -> None:
    await client.put({"_id": "a", "text": "a" * 30_000 + "!", "list": list(range(5_000))})
    asked = asyncio.create_task(client.ask("POST", path, {"selector": COSTLY[kind]}))
    longest = 0.0
    while not asked.done():
        before = time.thread_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.thread_time() - before)
    await asyncio.gather(asked, return_exceptions=True)
    assert longest < 0.1, "the loop itself works it off"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("?filter=_selector", {}),
        ("?filter=_doc_ids", {}),
        ("?filter=_doc_ids", {"doc_ids": "secret"}),
        ("?filter=_view&view=app/mine", {}),
        ("?filter=app/mine", {}),
        ("?filter=unknown", {}),
        ("?filter=_selector", {"selector": None}),
        ("?style=none", {}),
        ("?feed=flood", {}),
        ("?since=-1", {}),
        ("?include_docs=maybe", {}),
    ],
)
async def test_a_filter_that_cannot_be_served_is_never_ignored(
    client: Client, path: str, body: dict[str, Any]
) -> None:
    await client.put({"_id": "_design/app", "filters": {"mine": "function () {}"}, "views": {}})
    await client.put({"_id": "secret"})
    status, answer, _ = await client.ask("POST", f"/_changes{path}", body)
    assert 400 <= status < 500
    assert "results" not in answer


async def test_ids_or_a_selector_without_a_filter_name_still_filter(client: Client) -> None:
    await client.put({"_id": "a", "n": 1})
    await client.put({"_id": "b", "n": 2})
    for body in ({"doc_ids": ["a"]}, {"selector": {"n": 1}}):
        _, answer, _ = await client.ask("POST", "/_changes", body)
        assert [row["id"] for row in answer["results"]] == ["a"]


async def test_a_user_has_so_many_waiting_feeds_and_no_more(tmp_path: Path, session: ClientSession) -> None:
    async with running(tmp_path, SyncLimits(feeds_per_user=3)) as node:
        user = node.add_user()
        client, other = Client(session, node, user), Client(session, node, node.add_user())
        feeds = [
            asyncio.create_task(client.ask("GET", "/_changes?feed=longpoll&heartbeat=1000")) for _ in range(3)
        ]
        await until(lambda: len(node.door.feeds) == 3)
        status, answer, headers = await client.ask("GET", "/_changes?feed=continuous")
        assert (status, answer["error"]) == (429, "too_many_requests")
        assert "retry-after" in headers
        assert (await other.ask("GET", "/_changes?feed=longpoll&timeout=1"))[0] == 200
        await client.put({"_id": "wake"})
        assert [len((await feed)[1]["results"]) for feed in feeds] == [1, 1, 1]
        assert len(node.door.feeds) == 0
        assert (await client.ask("GET", "/_changes?feed=longpoll&timeout=1&since=now"))[0] == 200


async def test_nobody_gets_bytes_by_naming_their_digest_or_blob(
    node: SyncNode, client: Client, session: ClientSession
) -> None:
    theirs = Client(session, node, node.add_user())
    status, answer, _ = await theirs.ask("PUT", "/mail/f.bin", body=RAW)
    assert status == 201
    blob = hashlib.sha256(RAW).hexdigest()
    digest = "md5-" + base64.b64encode(hashlib.md5(RAW).digest()).decode()
    revisions = {"_rev": "1-abc", "_revisions": {"start": 1, "ids": ["abc"]}}
    for stub in (
        {"stub": True, "digest": digest, "length": len(RAW), "revpos": 1},
        {"stub": True, "digest": digest, "blob": blob},
        {"stub": True},
        {"follows": True, "digest": digest, "blob": blob},
        {"digest": digest, "blob": blob},
    ):
        document = {"_id": "mail", "_attachments": {"f.bin": stub}}
        assert (await client.ask("PUT", "/mail", document))[0] in {400, 412}
        _, rows, _ = await client.ask(
            "POST", "/_bulk_docs", {"docs": [document | revisions], "new_edits": False}
        )
        assert rows[0]["error"] in {"missing_stub", "bad_request"}
    assert (await client.ask("GET", "/mail/f.bin"))[0] == 404
    assert answer["ok"]


async def test_a_stub_reaches_only_attachments_of_its_own_document(client: Client) -> None:
    await client.ask("PUT", "/one/f.bin", body=RAW)
    stub = {"f.bin": {"stub": True}}
    assert (await client.ask("PUT", "/two", {"_attachments": stub}))[0] == 412


@pytest.mark.parametrize("member", ["_blob", "_seq", "_access", "_x"])
async def test_reserved_members_are_refused(node: SyncNode, client: Client, member: str) -> None:
    status, answer, _ = await client.ask("PUT", "/a", {member: 1})
    assert (status, answer["error"]) == (400, "doc_validation")
    assert node.log.head == 0


@pytest.mark.parametrize(
    "revisions",
    [
        {"start": 1, "ids": ["a", "b"]},
        {"start": 0, "ids": []},
        {"start": "1", "ids": ["a"]},
        {"start": 2**60, "ids": ["a"]},
        {"start": 1, "ids": ["a b"]},
        {"start": 1, "ids": ["a" * 1_000]},
        {"start": 2, "ids": ["other", "a"]},
        [],
    ],
    ids=range(8),
)
async def test_malformed_revision_histories_are_refused(
    node: SyncNode, client: Client, revisions: Any
) -> None:
    body = {"docs": [{"_id": "a", "_rev": "1-a", "_revisions": revisions}], "new_edits": False}
    status, answer, _ = await client.ask("POST", "/_bulk_docs", body)
    assert status == 400 or answer[0]["error"]
    assert node.log.head == 0


async def test_a_page_of_an_unlisted_origin_cannot_use_the_users_session(
    node: SyncNode, client: Client
) -> None:
    for origin in ("https://evil.example", "null", node.url.replace("127", "128")):
        for method in ("GET", "POST", "OPTIONS"):
            status, _, headers = await client.ask(method, "", headers={"Origin": origin})
            assert status == 403
            assert "access-control-allow-origin" not in headers
    assert (await client.ask("GET", "", headers={"Origin": node.url}))[0] == 200


async def test_an_attachment_is_never_served_as_a_page_of_the_node(client: Client) -> None:
    html = b"<script>alert(document.cookie)</script>"
    await client.ask("PUT", "/a/x.html", body=html, headers={"Content-Type": "text/html"})
    _, body, headers = await client.ask("GET", "/a/x.html")
    assert body == html
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_header_injection_in_names_and_types_does_not_reach_headers(client: Client) -> None:
    name = 'a"\r\nX-Evil: 1'
    document = {"_id": "a", "_attachments": {name: {"content_type": "text/plain", "data": "aGk="}}}
    assert (await client.ask("PUT", "/a", document))[0] == 201
    status, body, headers = await client.ask(
        "GET", "/a?open_revs=all&attachments=true", headers={"Accept": "multipart/mixed"}
    )
    assert status == 200
    assert "x-evil" not in headers
    assert b"\r\nX-Evil" not in body
    evil = {"_attachments": {"f": {"content_type": "text/plain\r\nX-Evil: 1", "data": "aGk="}}}
    assert (await client.ask("PUT", "/b", evil))[0] == 400


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "a%00b", "x\0y", "no-such", "utf-16"])
async def test_a_file_name_in_any_of_pythons_codecs_is_read_or_refused(client: Client, charset: str) -> None:
    document = {"_attachments": {"f": {"follows": True, "content_type": "text/plain", "length": 3}}}
    head = f"Content-Disposition: attachment; filename*={charset}''%ff%00abc"
    body = f"--b\r\n\r\n{json.dumps(document)}\r\n--b\r\n{head}\r\n\r\nabc\r\n--b--".encode()
    content_type = {"Content-Type": 'multipart/related; boundary="b"'}
    status, answer, _ = await client.ask("PUT", "/a", body=body, headers=content_type)
    assert status in {201, 400}, answer


async def test_maintenance_and_code_are_out_of_reach(client: Client) -> None:
    for path in (
        "/_purge",
        "/_security",
        "/_revs_limit",
        "/_view_cleanup",
        "/_temp_view",
        "/_design/a/_update/b",
    ):
        status, answer, _ = await client.ask("PUT", path, {})
        assert (status, answer["error"]) == (403, "forbidden"), path
    assert (await client.ask("DELETE", ""))[0] == 403
    assert (await client.ask("PUT", "", {}))[1]["error"] == "file_exists"


async def test_an_idle_feed_leaves_nothing_when_its_client_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.sync.feeds.LOOK_SECONDS", 0.05)
    async with running(tmp_path) as node, ClientSession() as session:
        client = Client(session, node, node.add_user())
        feed = asyncio.create_task(client.ask("GET", "/_changes?feed=longpoll&heartbeat=60000"))
        await until(lambda: len(node.door.feeds) == 1)
        feed.cancel()
        await until(lambda: node.door.feeds.places == 0)
        assert len(node.door.feeds) == 0


async def test_feeds_end_cleanly_when_the_node_stops(tmp_path: Path) -> None:
    async with ClientSession() as session:
        async with running(tmp_path) as node:
            client = Client(session, node, node.add_user())
            feeds = [
                asyncio.create_task(client.ask("GET", f"/_changes?feed={feed}&heartbeat=60000"))
                for feed in ("longpoll", "continuous", "eventsource")
            ]
            await until(lambda: len(node.door.feeds) == 3)
        answers = await asyncio.gather(*feeds)
    assert answers[0][1] == {"results": [], "last_seq": 0, "pending": 0}
    assert json.loads(answers[1][1]) if isinstance(answers[1][1], bytes) else answers[1][1]["last_seq"] == 0
