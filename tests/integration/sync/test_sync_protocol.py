"""The CouchDB protocol over plain HTTP: what other clients than PouchDB use, and the details."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from node.sync.limits import SyncLimits
from tests.integration.sync.harness import Client, SyncNode, User, running, until


def parts(body: bytes, content_type: str) -> list[Any]:
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return list(message.walk())


async def conflicted(client: Client) -> None:
    for rev, text in (("1-a", "old"), ("2-b", "loser"), ("2-c", "winner")):
        ids = [rev[2:]] + (["a"] if rev != "1-a" else [])
        document = {"_id": "doc", "_rev": rev, "_revisions": {"start": int(rev[0]), "ids": ids}, "text": text}
        await client.ask("POST", "/_bulk_docs", {"docs": [document], "new_edits": False})


async def test_the_node_welcomes_clients_and_tells_who_they_are(
    node: SyncNode, session: ClientSession, user: User, client: Client
) -> None:
    async with session.get(node.url + "/") as answer:
        welcome = await answer.json()
    assert welcome["couchdb"] == "Welcome"
    assert welcome["uuid"]
    async with session.get(node.url + "/_session", headers=client.headers) as answer:
        assert (await answer.json())["userCtx"] == {"name": user.address, "roles": []}
    async with session.get(node.url + "/_session") as answer:
        assert answer.status == 401
        assert "www-authenticate" in {name.lower() for name in answer.headers}


async def test_a_database_is_there_before_anything_is_written(client: Client) -> None:
    info = await client.get("")
    assert (info["doc_count"], info["update_seq"]) == (0, 0)
    assert (await client.get("/_changes")) == {"results": [], "last_seq": 0, "pending": 0}
    assert (await client.get("/_all_docs")) == {"total_rows": 0, "offset": 0, "rows": []}
    assert (await client.ask("HEAD"))[0] == 200


async def test_changes_name_each_document_once_at_its_last_position(client: Client) -> None:
    rev = await client.put({"_id": "a"})
    await client.put({"_id": "b"})
    await client.put({"_id": "a", "_rev": rev, "n": 1})
    changes = await client.get("/_changes")
    assert [row["id"] for row in changes["results"]] == ["b", "a"]
    first = changes["results"][0]["seq"]
    after = await client.get(f"/_changes?since={first}")
    assert [row["id"] for row in after["results"]] == ["a"]
    assert (await client.get(f'/_changes?since="{first}"')) == after
    assert (await client.get("/_changes?since=now"))["results"] == []
    page = await client.get("/_changes?limit=1")
    assert (page["last_seq"], page["pending"]) == (first, 1)
    newest = await client.get("/_changes?descending=true&limit=1")
    assert [row["id"] for row in newest["results"]] == ["a"]


async def test_style_decides_whether_conflicts_are_named(client: Client) -> None:
    await conflicted(client)
    main = (await client.get("/_changes"))["results"][0]
    every = (await client.get("/_changes?style=all_docs"))["results"][0]
    assert [each["rev"] for each in main["changes"]] == ["2-c"]
    assert {each["rev"] for each in every["changes"]} == {"2-b", "2-c"}
    with_doc = (await client.get("/_changes?include_docs=true&conflicts=true"))["results"][0]["doc"]
    assert with_doc["_conflicts"] == ["2-b"]


async def test_many_ids_filter_like_few(client: Client) -> None:
    await client.ask("POST", "/_bulk_docs", {"docs": [{"_id": f"d{number:03}"} for number in range(300)]})
    wanted = [f"d{number:03}" for number in range(0, 300, 2)]
    _, answer, _ = await client.ask("POST", "/_changes?filter=_doc_ids", {"doc_ids": wanted})
    assert [row["id"] for row in answer["results"]] == wanted
    _, few, _ = await client.ask(
        "POST", "/_changes?filter=_doc_ids&include_docs=true&descending=true", {"doc_ids": wanted[:3]}
    )
    assert [row["doc"]["_id"] for row in few["results"]] == wanted[2::-1]


async def test_a_longpoll_answers_at_the_change_and_at_the_timeout(node: SyncNode, client: Client) -> None:
    quiet = await client.get("/_changes?feed=longpoll&timeout=20")
    assert quiet["results"] == []
    waiting = asyncio.create_task(client.get("/_changes?feed=longpoll"))
    await until(lambda: len(node.door.feeds) == 1)
    await client.put({"_id": "a"})
    assert [row["id"] for row in (await waiting)["results"]] == ["a"]


async def test_a_filtered_longpoll_sleeps_through_what_does_not_match(node: SyncNode, client: Client) -> None:
    path = "/_changes?feed=longpoll&filter=_selector"
    waiting = asyncio.create_task(client.ask("POST", path, {"selector": {"n": 2}}))
    await until(lambda: len(node.door.feeds) == 1)
    await client.put({"_id": "a", "n": 1})
    assert not waiting.done()
    await client.put({"_id": "b", "n": 2})
    _, answer, _ = await waiting
    assert [row["id"] for row in answer["results"]] == ["b"]


async def test_a_continuous_feed_sends_lines_and_heartbeats(
    node: SyncNode, client: Client, session: ClientSession
) -> None:
    url = f"{client.base}/_changes?feed=continuous&heartbeat=1000&limit=2"
    async with session.get(url, headers=client.headers) as answer:
        await client.put({"_id": "a"})
        lines = [await answer.content.readline()]
        assert await answer.content.readline() == b"\n"
        await client.put({"_id": "b"})
        lines += [line async for line in answer.content if line.strip()]
    rows = [json.loads(line) for line in lines]
    assert [row.get("id") for row in rows] == ["a", "b", None]
    assert rows[2]["last_seq"] == rows[1]["seq"]


@pytest.mark.parametrize("feed", ["continuous", "eventsource", "longpoll"])
async def test_a_live_feed_goes_forward_and_names_each_change_once(client: Client, feed: str) -> None:
    for number in range(4):
        await client.put({"_id": f"d{number}"})
    url = f"{client.base}/_changes?feed={feed}&descending=true&timeout=50"
    async with client.session.get(url, headers=client.headers) as answer:
        assert re.findall(r'"id":"(.*?)"', await answer.text()) == ["d0", "d1", "d2", "d3"]


async def test_changes_come_backwards_from_any_number_of_slices(
    tmp_path: Path, session: ClientSession
) -> None:
    async with running(tmp_path, SyncLimits(rows_per_slice=3)) as node:
        client = Client(session, node, node.add_user())
        for number in range(7):
            await client.put({"_id": f"d{number}"})
        for query, wanted in (("", [7, 6, 5, 4, 3, 2, 1]), ("&limit=4", [7, 6, 5, 4]), ("&since=5", [7, 6])):
            feed = await client.get(f"/_changes?descending=true{query}")
            assert [row["seq"] for row in feed["results"]] == wanted


async def test_an_event_source_resumes_at_the_last_event_id(client: Client, session: ClientSession) -> None:
    await client.put({"_id": "a"})
    await client.put({"_id": "b"})
    first = (await client.get("/_changes"))["results"][0]["seq"]
    headers = client.headers | {"Last-Event-ID": str(first)}
    url = f"{client.base}/_changes?feed=eventsource&limit=1"
    async with session.get(url, headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        lines = (await answer.read()).decode().splitlines()
    assert json.loads(lines[0].removeprefix("data: "))["id"] == "b"
    assert lines[1] == f"id: {first + 1}"


async def test_a_document_shows_what_is_asked_for(client: Client) -> None:
    await conflicted(client)
    document = await client.get("/doc?meta=true&revs=true&local_seq=true")
    assert document["_conflicts"] == ["2-b"]
    assert document["_revisions"] == {"start": 2, "ids": ["c", "a"]}
    assert document["_revs_info"][0] == {"rev": "2-c", "status": "available"}
    assert document["_local_seq"] == 3
    assert (await client.get("/doc?rev=2-b"))["text"] == "loser"
    assert (await client.get("/doc?rev=1-a&latest=true"))["_rev"] == "2-c"
    status, _, headers = await client.ask("GET", "/doc", headers={"If-None-Match": '"2-c"'})
    assert (status, headers["etag"]) == (304, '"2-c"')


async def test_a_new_conflict_is_seen_by_a_client_that_has_the_winner(client: Client) -> None:
    await conflicted(client)
    for extra in ("conflicts", "meta", "revs_info", "deleted_conflicts", "local_seq"):
        status, document, headers = await client.ask(
            "GET", f"/doc?{extra}=true", headers={"If-None-Match": '"2-c"'}
        )
        assert (status, document["_rev"]) == (200, "2-c")
        assert "etag" not in headers


async def test_open_revisions_come_as_json_or_multipart(client: Client) -> None:
    await conflicted(client)
    rows = await client.get("/doc?open_revs=all")
    assert [row["ok"]["_rev"] for row in rows] == ["2-c", "2-b"]
    rows = await client.get('/doc?open_revs=["2-b","9-x"]')
    assert [next(iter(row)) for row in rows] == ["ok", "missing"]
    assert (await client.get('/none?open_revs=["1-a"]')) == [{"missing": "1-a"}]
    _, body, headers = await client.ask(
        "GET", '/doc?open_revs=["2-b","9-x"]', headers={"Accept": "multipart/mixed"}
    )
    found = parts(body, headers["content-type"])[1:]
    assert json.loads(found[0].get_payload())["_rev"] == "2-b"
    assert found[1].get_param("error") == "true"


async def test_a_document_with_following_attachments_goes_in_and_out_as_multipart(client: Client) -> None:
    document = {"_attachments": {"a": {"follows": True, "content_type": "text/plain", "length": 3},
                                 "b": {"follows": True, "content_type": "image/png", "length": 4}}}  # fmt: skip
    body = (
        b"--XX\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode()
        + b"\r\n--XX\r\n\r\nabc\r\n--XX\r\n\r\n\r\n--\r\n--XX--"
    )  # fmt: skip
    headers = {"Content-Type": 'multipart/related; boundary="XX"'}
    status, answer, _ = await client.ask("PUT", "/doc", body=body, headers=headers)
    assert status == 201, answer
    assert (await client.ask("GET", "/doc/a"))[1] == b"abc"
    assert (await client.ask("GET", "/doc/b"))[1] == b"\r\n--"
    accept = {"Accept": "multipart/related"}
    _, body, headers = await client.ask("GET", "/doc?attachments=true", headers=accept)
    found = parts(body, headers["content-type"])[1:]
    assert json.loads(found[0].get_payload())["_attachments"]["a"]["follows"] is True
    assert [part.get_payload(decode=True) for part in found[1:]] == [b"abc", b"\r\n--"]


@pytest.mark.parametrize("cut", [0, 1, 30, 60, 100, -1, -3, -20])
async def test_a_cut_multipart_body_writes_nothing(node: SyncNode, client: Client, cut: int) -> None:
    document = {"_attachments": {"a": {"follows": True, "length": 3}}}
    body = (
        b"--XX\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode()
        + b"\r\n--XX\r\n\r\nabc\r\n--XX--"
    )  # fmt: skip
    headers = {"Content-Type": 'multipart/related; boundary="XX"'}
    status, _, _ = await client.ask("PUT", "/doc", body=body[:cut], headers=headers)
    assert status == 400
    assert node.log.head == 0


async def test_attachments_have_digests_ranges_and_their_own_edits(client: Client) -> None:
    _, first, _ = await client.ask(
        "PUT",
        "/doc/dir/ü.txt".replace("ü", "%C3%BC"),
        body=b"0123456789",
        headers={"Content-Type": "text/plain"},
    )
    path = "/doc/dir/%C3%BC.txt"
    status, body, headers = await client.ask("GET", path, headers={"Range": "bytes=2-4"})
    assert (status, body, headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await client.ask("GET", path, headers={"Range": "bytes=-3"}))[1] == b"789"
    assert (await client.ask("GET", path, headers={"Range": "bytes=10-"}))[0] == 416
    status, body, headers = await client.ask("HEAD", path)
    assert (status, headers["content-length"], headers["content-type"]) == (200, "10", "text/plain")
    stored = (await client.get("/doc"))["_attachments"]["dir/ü.txt"]
    assert stored == {
        "content_type": "text/plain",
        "revpos": 1,
        "digest": "md5-eB5eJF1ptWaXm4bijSPyxw==",
        "length": 10,
        "stub": True,
    }
    assert (await client.ask("PUT", path, body=b"x"))[0] == 409
    assert (await client.ask("DELETE", f"{path}?rev={first['rev']}"))[0] == 200
    assert (await client.ask("GET", path))[0] == 404


async def test_atts_since_leaves_out_what_the_client_has(client: Client) -> None:
    _, first, _ = await client.ask("PUT", "/doc/a", body=b"a")
    _, second, _ = await client.ask("PUT", f"/doc/b?rev={first['rev']}", body=b"b")
    document = await client.get(f'/doc?atts_since=["{first["rev"]}"]')
    assert document["_attachments"]["a"]["stub"] is True
    assert base64.b64decode(document["_attachments"]["b"]["data"]) == b"b"
    assert second["rev"] == document["_rev"]


async def test_a_revision_replaced_a_moment_ago_can_still_be_fetched(client: Client) -> None:
    _, first, _ = await client.ask("PUT", "/doc/a", body=b"old")
    await client.ask("PUT", f"/doc/a?rev={first['rev']}", body=b"new")
    assert (await client.ask("GET", f"/doc/a?rev={first['rev']}"))[1] == b"old"
    assert (await client.ask("POST", "/_compact", {}))[0] == 202
    assert (await client.ask("GET", f"/doc/a?rev={first['rev']}"))[0] == 404


async def test_bulk_get_opens_revisions_and_says_what_is_missing(client: Client) -> None:
    await conflicted(client)
    asked = {
        "docs": [{"id": "doc", "rev": "2-b"}, {"id": "doc", "rev": "1-a"}, {"id": "none"}, {"id": "doc"}]
    }
    _, answer, _ = await client.ask("POST", "/_bulk_get?revs=true&latest=true", asked)
    rows = answer["results"]
    assert rows[0]["docs"][0]["ok"]["_revisions"] == {"start": 2, "ids": ["b", "a"]}
    assert {each["ok"]["_rev"] for each in rows[1]["docs"]} == {"2-b", "2-c"}
    assert rows[2]["docs"][0]["error"]["error"] == "not_found"
    assert len(rows[3]["docs"]) == 2
    _, body, headers = await client.ask("POST", "/_bulk_get", asked, headers={"Accept": "multipart/mixed"})
    found = [part for part in parts(body, headers["content-type"]) if not part.is_multipart()]
    assert [part.get_param("error") for part in found].count("true") == 1


async def test_revs_diff_names_what_is_missing_and_possible_ancestors(client: Client) -> None:
    await conflicted(client)
    asked = {"doc": ["2-b", "3-x"], "none": ["1-a"]}
    _, answer, _ = await client.ask("POST", "/_revs_diff", asked)
    assert answer["doc"]["missing"] == ["3-x"]
    assert set(answer["doc"]["possible_ancestors"]) == {"2-b", "2-c"}
    assert answer["none"] == {"missing": ["1-a"]}
    _, answer, _ = await client.ask("POST", "/_missing_revs", asked)
    assert answer == {"missing_revs": {"doc": ["3-x"], "none": ["1-a"]}}


async def test_all_docs_ranges_keys_and_order(client: Client) -> None:
    revs = {name: await client.put({"_id": name}) for name in "abcde"}
    await client.ask("DELETE", f"/c?rev={revs['c']}")

    async def ids(query: str) -> list[str]:
        return [row["id"] for row in (await client.get(f"/_all_docs?{query}"))["rows"]]

    assert await ids("") == ["a", "b", "d", "e"]
    assert await ids('startkey="b"&endkey="d"') == ["b", "d"]
    assert await ids('start_key="b"&end_key="d"&inclusive_end=false') == ["b"]
    assert await ids('descending=true&startkey="d"&limit=2') == ["d", "b"]
    assert await ids("skip=1&limit=2") == ["b", "d"]
    assert await ids('key="d"') == ["d"]
    assert await ids("startkey=null") == ["a", "b", "d", "e"]
    assert await ids("startkey=[]") == []
    assert await ids("limit=0") == []
    _, answer, _ = await client.ask("POST", "/_all_docs?include_docs=true", {"keys": ["e", "c", "x"]})
    assert [row.get("id") for row in answer["rows"]] == ["e", "c", None]
    assert answer["rows"][1]["value"]["deleted"] is True
    assert answer["rows"][2] == {"key": "x", "error": "not_found"}


@pytest.mark.parametrize(
    "path",
    [
        "/_all_docs?limit=-5",
        "/_all_docs?limit=--5",
        "/_all_docs?skip=--5",
        "/_all_docs?keys=%5B%22a%22%5D&startkey=%22a%22",
        "/_all_docs?keys=%5B%22a%22%5D&descending=perhaps",
        "/_changes?limit=--5",
        "/_changes?limit=%EF%BC%95",
        "/_changes?since=--1",
        "/_changes?feed=longpoll&timeout=--1",
    ],
)
async def test_a_parameter_that_makes_no_sense_is_named_in_the_answer(client: Client, path: str) -> None:
    await client.put({"_id": "a"})
    status, answer, _ = await client.ask("GET", path)
    assert (status, answer["error"]) == (400, "query_parse_error")


async def test_of_first_writes_of_a_local_document_exactly_one_wins(client: Client) -> None:
    asked = (client.ask("PUT", "/_local/cp", {"last_seq": number}) for number in range(5))
    assert sorted(status for status, _, _ in await asyncio.gather(*asked)) == [201, 409, 409, 409, 409]
    _, answer, _ = await client.ask("DELETE", "/_local/cp")
    assert answer["rev"] == "0-0"
    assert (await client.ask("PUT", "/_local/cp", {"last_seq": 1, "_rev": "0-1"}))[0] == 409
    assert (await client.ask("PUT", "/_local/cp", {"last_seq": 1, "_rev": "0-0"}))[0] == 201


async def test_local_documents_are_kept_and_never_replicated(node: SyncNode, client: Client) -> None:
    assert (await client.ask("GET", "/_local/cp"))[0] == 404
    _, answer, _ = await client.ask("PUT", "/_local/cp", {"last_seq": 5})
    assert answer["rev"] == "0-1"
    assert (await client.ask("PUT", "/_local/cp", {"last_seq": 6}))[0] == 409
    _, answer, _ = await client.ask("PUT", "/_local/cp", {"last_seq": 6, "_rev": "0-1"})
    assert answer["rev"] == "0-2"
    assert await client.get("/_local/cp") == {"_id": "_local/cp", "_rev": "0-2", "last_seq": 6}
    assert (await client.get("/_changes"))["results"] == []
    assert node.log.head == 0
    assert (await client.ask("DELETE", "/_local/cp?rev=0-2"))[0] == 200
    assert (await client.ask("GET", "/_local/cp"))[0] == 404


async def test_design_documents_are_stored_and_never_run(client: Client) -> None:
    await client.put({"_id": "_design/app", "views": {"v": {"map": "function (doc) { emit(1); }"}}})
    assert (await client.get("/_design/app"))["views"]
    for path in ("/_design/app/_view/v", "/_design/app/_show/x", "/_changes?filter=_view&view=app/v"):
        status, answer, _ = await client.ask("GET", path)
        assert (status, answer["error"]) == (403, "forbidden")
        assert "JavaScript" in answer["reason"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"n": 1}, ["a"]), ({"n": {"$ne": 1}}, ["b", "c"]), ({"n": {"$gt": 1, "$lte": 3}}, ["b", "c"]),
        ({"n": {"$in": [1, 3]}}, ["a", "c"]), ({"n": {"$nin": [1, 3]}}, ["b"]), ({"x": {"$exists": True}}, ["a"]),
        ({"x": {"$exists": False}}, ["b", "c", "d"]), ({"t": {"$type": "string"}}, ["b", "d"]),
        ({"$or": [{"n": 1}, {"n": 3}]}, ["a", "c"]), ({"$nor": [{"n": 1}, {"n": 3}]}, ["b", "d"]),
        ({"$not": {"n": 1}}, ["b", "c"]), ({"n": {"$not": {"$gt": 1}}}, ["a"]),
        ({"tags": {"$all": ["p", "q"]}}, ["a"]), ({"tags": {"$size": 1}}, ["b"]),
        ({"tags": {"$elemMatch": {"$eq": "q"}}}, ["a"]), ({"tags": {"$allMatch": {"$eq": "p"}}}, ["b"]),
        ({"n": {"$mod": [2, 1]}}, ["a", "c"]), ({"t": {"$regex": "^w.*d$"}}, ["d"]),
        ({"t": {"$beginsWith": "he"}}, ["b"]), ({"x.y.z": 5}, ["a"]), ({"x": {"y": {"z": 5}}}, ["a"]),
        ({"_id": {"$gte": "c"}}, ["c", "d"]), ({"n": {"$lt": "text"}}, ["a", "b", "c"]), ({"n": True}, []),
        ({"$and": [{"n": {"$gt": 0}}, {"tags": {"$exists": True}}]}, ["a", "b"]), ({}, ["a", "b", "c", "d"]),
    ],
)  # fmt: skip
async def test_selectors_mean_what_couchdb_says(client: Client, selector: Any, expected: list[str]) -> None:
    documents = [
        {"_id": "a", "n": 1, "x": {"y": {"z": 5}}, "tags": ["p", "q"]}, {"_id": "b", "n": 2, "t": "hello", "tags": ["p"]},
        {"_id": "c", "n": 3, "t": None}, {"_id": "d", "t": "world"}, {"_id": "_design/x"},
    ]  # fmt: skip
    await client.ask("POST", "/_bulk_docs", {"docs": documents})
    _, answer, _ = await client.ask("POST", "/_find", {"selector": selector, "fields": ["_id"]})
    assert [each["_id"] for each in answer["docs"]] == expected


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("abc", "xxabcxx", True), ("^abc$", "abcd", False), ("a.c", "a\nc", False), ("[a-c]+x", "aabbx", True),
        ("[^a-c]", "abc", False), ("a{2,3}b", "aab", True), ("a{2,3}b", "ab", False), ("^(ab|cd)*$", "abcdab", True),
        ("^(ab|cd)*$", "abc", False), (r"\d+\.\d", "v1.5", True), (r"\bcat\b", "a cat!", True),
        (r"\bcat\b", "concat", False), ("(?i)HeLLo", "hEllO", True), ("a?b?c?$", "", True), ("x*", "", True),
        ("(a*)*b", "aaab", True), ("a|b|c", "c", True), ("^$", "", True), (r"\u00e9", "é", True), ("a+?b", "aab", True),
        ("{a}", "{a}", True), (r"[\]\-\d]", "-", True), ("(?:ab)+c", "ababc", True), ("^a{0}b", "b", True),
    ],
)  # fmt: skip
async def test_patterns_match_like_ordinary_regular_expressions(pattern: str, text: str, found: bool) -> None:
    from node.sync.pattern import Budget, Pattern

    assert Pattern(pattern, Budget(10_000)).found_in(text) is found


async def test_cors_lets_only_configured_origins_in(node: SyncNode, client: Client) -> None:
    node.door._origins = frozenset({"https://mail.alpha.example"})
    origin = {"Origin": "https://mail.alpha.example", "Access-Control-Request-Method": "PUT"}
    client.headers = {}
    status, _, headers = await client.ask("OPTIONS", "/doc", headers=origin)
    assert status == 204
    assert headers["access-control-allow-origin"] == origin["Origin"]
    assert headers["access-control-allow-credentials"] == "true"
    assert "PUT" in headers["access-control-allow-methods"]
    status, _, headers = await client.ask("GET", "/doc", headers=origin)
    assert (status, headers["access-control-allow-origin"]) == (401, origin["Origin"])


async def test_methods_that_nobody_serves_are_named(client: Client) -> None:
    for method, path in (
        ("DELETE", "/_changes"),
        ("GET", "/_bulk_docs"),
        ("PATCH", "/doc"),
        ("COPY", "/doc"),
    ):
        status, answer, _ = await client.ask(method, path)
        assert (status, answer["error"]) == (405, "method_not_allowed"), path


async def test_a_body_of_another_type_than_json_is_refused(client: Client) -> None:
    status, answer, _ = await client.ask(
        "POST", "/_bulk_docs", body=b'{"docs":[]}', headers={"Content-Type": "text/plain"}
    )
    assert (status, answer["error"]) == (415, "bad_content_type")
