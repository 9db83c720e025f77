"""Bodies made to hurt, at every route that reads one: too deep, too large, packed, doubled, slow.

The answer is 4xx within moments, the log does not grow, and the node has no failure of its own.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib

import pytest

from node.api import request_data
from node.api.route import Route
from node.crypto.tokens import COOKIE
from tests.attacks.every_route import SYNC_WITH_BODY, basic, path_of, with_body
from tests.integration.api.harness import Node, User, database

JSON = {"Content-Type": "application/json"}
TRICKLE = (
    b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
)
ANY = "anything"
"""Stands for a member that the route reads."""
DEEP = {
    "arrays": b"[" * 100_000,
    "closed arrays": b"[" * 50_000 + b"]" * 50_000,
    "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "objects in a member": b'{"docs":' + b'[{"a":' * 20_000 + b"1" + b"}]" * 20_000 + b"}",
    "a mix": b'[{"email":' * 50_000,
}
BROKEN = {
    "a lone surrogate": b'{"anything":"\\ud800","docs":[{"_id":"\\ud800"}],"keys":["\\ud800"]}',
    "no UTF-8": b'{"anything":"\xff\xfe","docs":[{"_id":"\xff"}]}',
    "a NUL": b'{"anything":"a\0b"}',
    "a number without end": b'{"anything":' + b"9" * 100_000 + b"}",
    "a float beyond floats": b'{"docs":[{"a":1e999999}],"anything":1e999999}',
    "not a number": b'{"docs":[{"a":NaN}],"anything":NaN}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nothing but space": b" " * 10_000,
    "two values": b"{}{}",
    "a cut value": b'{"anything":"',
}


def members(route: Route) -> tuple[str, ...]:
    """Names that a route reads in the body: those that it does not know, it passes over."""
    known: tuple[str, ...] = getattr(route.body, "__struct_encode_fields__", ())
    return known


def _is_refusal(answer_status: int, body: bytes) -> bool:
    """Refused as a whole, or each row of it; what reads no body at all may answer as it always does."""
    if 400 <= answer_status < 500:
        return True
    rows = json.loads(body) if body else []
    return isinstance(rows, list) and all("error" in row for row in rows)


async def ask_everything(node: Node, alice: User, body: bytes) -> None:
    """Send the body to every route that reads one, and require a refusal of each."""
    for route in with_body(node):
        sent = body.replace(ANY.encode(), members(route)[0].encode()) if members(route) else body
        answer = await node.call(route.method, path_of(route), raw=sent, token=alice.token)
        assert answer.status in {400, 413, 429}, (route.path, answer)
    for method, path in SYNC_WITH_BODY:
        headers = JSON | basic(alice)
        answer = await node.call(method, f"/{database(alice)}{path}", raw=body, headers=headers)
        if path.endswith("/file") or path in {"/_compact", "/_ensure_full_commit"}:
            assert answer.status < 500, path
        else:
            assert _is_refusal(answer.status, answer.body), (method, path, answer)


@pytest.mark.parametrize("bodies", [DEEP, BROKEN], ids=["deep", "broken"])
async def test_what_is_no_request_is_refused_by_every_route_that_reads_one(
    node: Node, alice: User, bodies: dict[str, bytes]
) -> None:
    before = node.core.log.head
    for body in bodies.values():
        began = time.monotonic()
        await ask_everything(node, alice, body)
        assert time.monotonic() - began < 20
    assert node.core.log.head - before == 1, "only the attachment, whose bytes may be anything, is kept"


async def test_a_packed_bomb_is_unpacked_by_no_route_of_the_api(node: Node, alice: User) -> None:
    plain = b'{"email":"' + b"x" * 20_000_000 + b'"}'
    packed = {
        "gzip": gzip.compress(plain),
        "deflate": zlib.compress(plain),
        "br": b"\x0b\x02\x80",
        "x": b"{}",
    }
    for route in with_body(node):
        for encoding, body in packed.items():
            headers = JSON | {"Content-Encoding": encoding}
            answer = await node.call(
                route.method, path_of(route), raw=body, token=alice.token, headers=headers
            )
            assert answer.status in {415, 429}, (route.path, encoding, answer)


async def test_a_packed_bomb_ends_early_in_every_call_of_the_sync_door(node: Node, alice: User) -> None:
    plain = b'{"docs":[],"x":"' + b"a" * 50_000_000 + b'"}'
    nested = gzip.compress(gzip.compress(b"0" * 50_000_000))
    for encoding, bomb in {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}.items():
        for path in ("/_bulk_docs", "/_find", "/_changes"):
            headers = JSON | basic(alice) | {"Content-Encoding": encoding}
            answer = await node.call("POST", f"/{database(alice)}{path}", raw=bomb, headers=headers)
            assert answer.status in {400, 413, 415}, (path, encoding, answer)
    for body, encoding in (
        (nested, "gzip, gzip"),
        (nested, "gzip"),
        (b"\x1f\x8b broken", "gzip"),
        (b"{}", "br"),
    ):
        headers = JSON | basic(alice) | {"Content-Encoding": encoding}
        answer = await node.call("POST", f"/{database(alice)}/_bulk_docs", raw=body, headers=headers)
        assert answer.status in {400, 413, 415}, (encoding, answer)


async def test_a_packed_bomb_of_a_stranger_costs_nobody_anything(node: Node, alice: User) -> None:
    """The server once unpacked a gigabyte before it asked who sent it; everybody else waited for two seconds."""
    bomb = gzip.compress(b"0" * 500_000_000, 9)
    for path in ("/api/v1/login", f"/{database(alice)}/_bulk_docs", "/_session", "/nothing"):
        began = time.process_time()
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
        )
        writer.write(f"{head}Content-Length: {len(bomb)}\r\nConnection: close\r\n\r\n".encode() + bomb)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.split()[1] in {b"401", b"404", b"405", b"415"}, path
        assert time.process_time() - began < 0.5, path
        writer.close()


async def test_a_member_that_occurs_twice_is_refused_by_every_route(node: Node, alice: User) -> None:
    for route in with_body(node):
        for name in members(route):
            for other in (name, name.upper()):
                body = f'{{"{name}":"a","{other}":"b"}}'.encode()
                answer = await node.call(route.method, path_of(route), raw=body, token=alice.token)
                assert answer.status in {400, 429}, (route.path, name)
    for path in ("/_bulk_docs", "/_find", "/_bulk_get", ""):
        body = b'{"docs":[{"_id":"a","_id":"b"}],"docs":[],"selector":{},"selector":{"a":1}}'
        answer = await node.call("POST", f"/{database(alice)}{path}", raw=body, headers=JSON | basic(alice))
        assert answer.status == 400, path


async def test_a_body_above_the_limit_is_refused_before_it_is_read(node: Node, alice: User) -> None:
    """The length that is announced is enough: not one byte of the body is sent."""
    head = (
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {alice.token}\r\nContent-Length: 99999999999\r\n\r\n"
    )
    paths = [path_of(route) for route in with_body(node) if route.method == "POST"]
    for path in [*paths, f"/{database(alice)}/_bulk_docs"]:
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        writer.write(head.format(path=path).encode())
        answer = await asyncio.wait_for(reader.readline(), 5)
        assert answer.split()[1] in {b"413", b"429"}, path
        writer.close()


async def test_a_body_that_trickles_in_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_data, "BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
    writer.write(TRICKLE)
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"408"
    writer.close()


HEADS = [
    b"X: y\r\n" * 100_000,
    b"X: " + b"y" * 1_000_000 + b"\r\n",
    b"Cookie: " + b"a=b; " * 100_000 + b"\r\n",
    f"Cookie: {COOKIE}=".encode() + b"A" * 100_000 + b"\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5_0\r\n",
    b" folded: x\r\n",
    b"A\0B: x\r\n",
]


async def test_heads_that_flood_or_contradict_themselves_are_refused(node: Node) -> None:
    for head in HEADS:
        reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
        writer.write(
            b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + b"\r\n"
        )
        answer = await asyncio.wait_for(reader.readline(), 10)
        assert answer.split()[1] in {b"400", b"413", b"431"}, head[:40]
        writer.close()
    assert (await node.get("/api/healthcheck")).status == 200
