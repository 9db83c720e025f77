"""Uploads by link: a link is one object of one user for half an hour, and no name is a path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from events.log.clock import VirtualClock
from node.api.uploads import LINK_MS, OCTETS, object_key
from node.crypto.keys import Stage
from node.sync.uploads import is_key
from tests.integration.api.harness import Node, User, database, running, settings_for

NAMES = (
    "../../etc/passwd",
    "/absolute",
    "a\x00b",
    "..%2f..%2f",
    "_design/x",
    "größe",
    "x" * 1_000,
    "a b?c#d",
)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_760_000_000_000)


@pytest.fixture
async def node(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Node]:
    async with running(settings_for(tmp_path), clock, whole=True) as found:
        yield found


@pytest.fixture
async def alice(node: Node) -> User:
    return await node.user("alice")


async def link(node: Node, user: User, name: str, method: str = "put") -> str:
    answer = await node.http.get(
        "/api/v1/s3presign",
        params={"objectKey": name, "method": method},
        headers={"Authorization": user.token},
    )
    assert answer.status == 200, await answer.text()
    url: str = (await answer.json())["url"]
    return url.removeprefix("https://mio.alpha.example")


def stored_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.seg"))


async def put(node: Node, place: str, content: bytes = b"sealed", **headers: str) -> int:
    async with node.http.put(place, data=content, headers=headers) as answer:
        return answer.status


async def test_what_was_put_is_got_and_counted_and_deleted(node: Node, alice: User) -> None:
    place = await link(node, alice, "photo.bin")
    assert await put(node, place, b"sealed" * 1000) == 200
    path = urlsplit(place).path
    async with node.http.get(await link(node, alice, path, "get")) as answer:
        assert (answer.status, await answer.read()) == (200, b"sealed" * 1000)
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    me = await node.get("/api/v1/user/me", alice.token)
    assert me.json["usedDisk"] >= 6_000
    key = path.rpartition("/")[2]
    deleted = await node.call("DELETE", "/api/v1/s3", {"values": [key]}, token=alice.token)
    assert deleted.json == [{"url": f"{alice.address}/{key}"}]
    async with node.http.get(await link(node, alice, path, "get")) as gone:
        assert gone.status == 404


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("image/png", "image/png"),
        ("text/html", OCTETS),
        ("application/pdf; x=1", "application/pdf"),
        ("", OCTETS),
    ],
)
async def test_a_file_of_any_type_is_taken_and_kept_as_one_that_is_harmless(
    node: Node, alice: User, stated: str, kept: str
) -> None:
    place = await link(node, alice, "photo")
    assert await put(node, place, b"bytes", **({"Content-Type": stated} if stated else {})) == 200
    key = urlsplit(place).path.rpartition("/")[2]
    stored = await node.core.views.stores["userdb"].get(database(alice), f"upload:{key}")
    assert stored is not None
    assert [file.content_type for file in stored.winner.attachments] == [kept]


async def test_uploads_beyond_the_quota_take_no_room_on_the_disk(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, {"quota_bytes": 100_000})) as node:
        alice = await node.user("alice")
        place = await link(node, alice, "a")
        before = stored_bytes(tmp_path)
        for number in range(5):
            assert await put(node, place, bytes([number]) * 200_000) == 507
        assert stored_bytes(tmp_path) - before < 100_000


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_is_more_than_a_digest(node: Node, alice: User, name: str) -> None:
    place = await link(node, alice, name)
    key = urlsplit(place).path.removeprefix(f"/api/v1/objects/{alice.address}/")
    assert is_key(key)
    assert await put(node, place) == 200


def test_the_key_has_the_form_of_the_reference_server() -> None:
    assert object_key("Photo.JPG", 1_760_000_000_000) == object_key("photo.jpg", 1_760_000_000_000)
    assert object_key("photo.jpg", 1_760_000_000_000).endswith("_20251009t085320")


async def test_a_link_is_good_for_what_it_was_made_for_and_nothing_else(
    node: Node, alice: User, clock: VirtualClock
) -> None:
    eve = await node.user("eve")
    place = await link(node, alice, "a")
    parts = urlsplit(place)
    query = parse_qs(parts.query)
    expires, seal = query["expires"][0], query["signature"][0]
    other = f"/api/v1/objects/{eve.address}/{parts.path.rpartition('/')[2]}"
    for bent in (
        f"{other}?{parts.query}",
        f"{parts.path}?expires={int(expires) + 1}&signature={seal}",
        f"{parts.path}?expires={expires}&signature={'0' * 64}",
        f"{parts.path[:-1]}9?{parts.query}",
        f"{parts.path}x?{parts.query}",
    ):
        assert await put(node, bent) == 403, bent
    async with node.http.get(place) as answer:
        assert answer.status == 403, "a link to put gets nothing"
    clock.advance(LINK_MS + 1)
    assert await put(node, place) == 403


async def test_an_upload_that_is_too_large_or_beyond_the_quota_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, {"quota_bytes": 100_000})
    async with running(settings) as node:
        alice = await node.user("alice")
        assert await put(node, await link(node, alice, "a"), bytes(200_000)) == 507
        assert await put(node, await link(node, alice, "b"), bytes(17_000_000)) == 413


async def test_what_is_not_the_callers_can_not_be_deleted_or_got(node: Node, alice: User) -> None:
    eve = await node.user("eve")
    place = await link(node, alice, "a")
    assert await put(node, place) == 200
    key = urlsplit(place).path.rpartition("/")[2]
    await node.call(
        "DELETE", "/api/v1/s3", {"values": [f"{alice.address}/{key}", "../x", key]}, token=eve.token
    )
    async with node.http.get(await link(node, eve, key, "get")) as hers:
        assert hers.status == 404
    async with node.http.get(await link(node, alice, key, "get")) as his:
        assert his.status == 200


async def test_a_link_outlives_a_restart_and_a_change_of_keys(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with running(settings) as node:
        alice = await node.user("alice")
        place = await link(node, alice, "before the change")
        for _ in range(3):
            await node.core.rotation.rotate(force=True)
        during = await link(node, alice, "after it")
        assert await put(node, place) == 200
    async with running(settings) as node:
        assert node.core.keys.stage is Stage.SIGNING
        assert [await put(node, one) for one in (place, during)] == [200, 200]


async def test_the_links_of_a_stolen_key_hold_no_longer(node: Node, alice: User) -> None:
    """Whoever has the key can make links to everybody's files."""
    place = await link(node, alice, "a")
    for _ in range(3):
        await node.core.rotation.rotate(force=True)
    await node.core.rotation.retire(stolen=True)
    assert await put(node, place) == 403
    alice.token = node.token(alice, "the login after that")
    assert await put(node, await link(node, alice, "b")) == 200
