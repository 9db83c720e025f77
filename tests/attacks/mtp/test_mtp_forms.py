"""Requests of peers that are no messages, or too many, or too large. Each attack gets this answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cbor2

from node.crypto.did_documents import MESSAGING_PATH
from tests.integration.api.harness import User
from tests.integration.mtp import harness
from tests.integration.mtp.harness import HERE, Peer, Receiver


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the node to notice what sockets do."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


def sealed(peer: Peer, payload: Any, cbor: bytes) -> bytes:
    """A request whose signature holds for this CBOR, whatever it is."""
    return json.dumps(
        {
            "didCommRequest": payload,
            "cborPayloadBase64": base64.b64encode(cbor).decode(),
            "signatureBase64": base64.b64encode(peer.keys.sign(cbor)).decode(),
            "senderDomain": peer.domain,
        }
    ).encode()


# Forms


DEEP = b'{"a":' * 100 + b"1" + b"}" * 100


BAD_JSON = (
    (b"{", 400), (b"null", 400), (b"[]", 400), (b'"x"', 400), (b"\xff\xfe{}", 400), (b"{}", 400),
    (b'{"didCommRequest":' + DEEP + b"}", 413),
    (b'{"didCommRequest":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, 400),
    (b'{"didCommRequest":{"a":[' + b"0," * 200_000 + b"0]}}", 413),
    (b'{"didCommRequest":{"timestamp":' + b"9" * 100_000 + b"}}", 400),
    (b'{"didCommRequest":{"timestamp":1e400}}', 400),
    (b'{"didCommRequest":{},"didCommRequest":{}}', 400),
    (b'{"didCommRequest":{"timestamp":1,"timestamp":2}}', 400),
)  # fmt: skip


async def test_json_that_is_deep_large_doubled_or_none(receiver: Receiver) -> None:
    for body, status in BAD_JSON:
        assert (await receiver.post(body)).status == status, body[:80]
    assert not receiver.dns.questions()


BAD_CBOR = (
    (b"\x9b" + b"\xff" * 8, 400), (b"\xbb" + b"\x7f" + b"\xff" * 7, 400), (b"\x5b" + b"\xff" * 8, 400),
    (b"\x81" * 10_000 + b"\x00", 413), (b"\xa2\x61a\x01\x61a\x01", 400), (b"\xbf\x61a\x01\xff", 400),
    (b"\xc2\x41\x01", 400), (b"\xa1\x01\x01", 400), (b"\x9a\x00\x03\x0d\x40" + b"\x00" * 200_000, 413),
    (cbor2.dumps({"a": 1}) + b"\x00", 400), (b"\xf9\x7e\x00", 400),
)  # fmt: skip


async def test_cbor_that_is_deep_endless_doubled_or_none_although_it_is_signed(
    receiver: Receiver, alice: User
) -> None:
    payload = receiver.beta.request(receiver.beta.message(alice), receiver.clock.now())
    for cbor, status in BAD_CBOR:
        answer = await receiver.post(sealed(receiver.beta, payload, cbor))
        assert answer.status == status, cbor[:20]
    assert not await receiver.kept()


async def test_a_name_twice_in_signed_json_is_refused_whatever_it_says(
    receiver: Receiver, alice: User
) -> None:
    body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
    doubled = body.replace(b'"intent":"message"', b'"intent":"message","intent":"message"')
    answer = await receiver.post(doubled)
    assert (answer.status, answer.json) == (400, {"error": "Invalid request body"})


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with harness.receiver(tmp_path, message_bytes=10_000) as receiver:
        answer = await receiver.post(b" " * 10_001)
        assert (answer.status, answer.json["code"]) == (413, 413)
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.node.http.port)
        head = f"POST {MESSAGING_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b"Content-Length: 99999999999\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.node.http.port)
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


PACKED: Sequence[tuple[dict[str, str], int]] = (
    ({"Content-Encoding": "gzip"}, 415),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": ""}, 202),
)


async def test_packed_and_unnamed_bodies(receiver: Receiver, alice: User) -> None:
    body = receiver.beta.signed(receiver.beta.message(alice), receiver.clock.now())
    for headers, status in PACKED:
        assert (await receiver.post(body, **headers)).status == status, headers


NO_MESSAGES: Sequence[dict[str, Any]] = (
    {"body": None}, {"body": {}}, {"body": []}, {"attachments": {}}, {"attachments": [None]}, {"to": "x"},
    {"attachments": [{"id": "a", "data": None}]}, {"attachments": [{"id": "a", "data": {"base64": "***"}}]},
    {"type": 1}, {"intent": "smtpmessage"}, {"plainBodyBase64": "?"}, {"createdTime": -1}, {"intent": None, "type": "x"},
    {"intent": "delivery"}, {"intent": "delivery", "plainBodyBase64": "e30="},
)  # fmt: skip


async def test_no_message_that_is_none_makes_the_node_fail(receiver: Receiver, alice: User) -> None:
    """The reference server answers 202 to most of these, and its worker dies of them."""
    for changed in NO_MESSAGES:
        answer = await receiver.send(receiver.beta, receiver.beta.message(alice, **changed))
        assert answer.status == 400, changed
    assert not await receiver.kept()


# Too much


async def test_a_peer_that_floods_is_held_back_and_no_other(tmp_path: Path) -> None:
    async with harness.receiver(tmp_path, requests_per_second=1.0, request_burst=5) as receiver:
        alice = await receiver.node.user("alice")
        beta, gamma = receiver.beta, receiver.gamma
        answers = [await receiver.send(beta, beta.message(alice, id=f"flood{number}")) for number in range(8)]
        assert [answer.status for answer in answers] == [202] * 5 + [429] * 3
        assert answers[-1].headers["Retry-After"] == "1"
        receiver.receipt(await receiver.send(gamma, gamma.message(alice)))
        receiver.clock.advance(1_000)
        receiver.receipt(await receiver.send(beta, beta.message(alice, id="later")))


async def test_claiming_to_be_a_peer_uses_up_nothing_of_it(tmp_path: Path) -> None:
    async with harness.receiver(tmp_path, requests_per_second=1.0, request_burst=3) as receiver:
        alice = await receiver.node.user("alice")
        for _ in range(20):
            forged = await receiver.send(
                receiver.beta, receiver.beta.message(alice), keys=receiver.gamma.keys
            )
            assert forged.status == 400
        receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))


async def test_an_address_that_only_brings_forgeries_is_told_to_wait(receiver: Receiver, alice: User) -> None:
    forged = [
        (await receiver.send(receiver.beta, receiver.beta.message(alice), keys=receiver.gamma.keys)).status
        for _ in range(70)
    ]
    assert forged.count(400) == 60
    assert set(forged[60:]) == {429}
    assert len(receiver.dns.questions("TXT")) <= 2
    receiver.clock.advance(60_000)
    receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))


async def test_requests_that_never_end_hold_no_more_room_than_what_they_have_sent(tmp_path: Path) -> None:
    async with harness.receiver(
        tmp_path, message_bytes=100_000, at_once_bytes=400_000, address_requests_at_once=4
    ) as receiver:
        alice = await receiver.node.user("alice")
        turns = receiver.node.core.peer_door.turns
        head = f"POST {MESSAGING_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writers = []

        async def begin(sent: int) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", receiver.node.http.port)
            writer.write(head.encode() + b"Content-Length: 100000\r\n\r\n" + b" " * sent)
            writers.append(writer)
            before = turns._bytes
            await until(lambda: turns._bytes >= before + sent)

        for _ in range(3):
            await begin(1)
        receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice)))
        await begin(99_000)
        many = await receiver.send(receiver.beta, receiver.beta.message(alice, id="many"))
        assert (many.status, many.headers["Retry-After"]) == (429, "1")
        writers.pop(0).close()
        await until(lambda: turns._at_once.total() == 3)
        full = await receiver.post(b" " * 50_000)
        assert (full.status, full.json["code"]) == (503, 503)
        for writer in writers:
            writer.close()
        await until(lambda: not turns._bytes and not turns._at_once and not turns._of_address)
        receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice, id="after")))


async def test_a_message_to_everybody_is_refused_before_anybody_is_looked_up(receiver: Receiver) -> None:
    everybody = [f"did:web:{HERE}#0x{number:040x}" for number in range(101)]
    answer = await receiver.send(receiver.beta, receiver.beta.message(*everybody))
    assert (answer.status, answer.json["message"]) == (413, "at most 100 recipients at once")
