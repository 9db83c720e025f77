"""Links of attachments that lead inside: the node fetches none, whoever names it. A trap on this machine counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.api.harness import User, database
from tests.integration.mtp.harness import HERE, Receiver
from tests.integration.mtp.nodes import message


class Trap:
    """A server that nobody may come to."""

    def __init__(self) -> None:
        self.port = 0
        self.visits = 0

    async def _visited(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._visited, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def links(self) -> list[str]:
        """Every way to write its address, and names that might lead to it."""
        hosts = (
            "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]",
            "[::ffff:127.0.0.1]", "user:secret@127.0.0.1", "trap.localhost", "mio.beta.example@127.0.0.1",
            "169.254.169.254", "10.0.0.1", "100.64.0.1", "rebound.evil.example",
        )  # fmt: skip
        return [f"{scheme}://{host}:{self.port}/x" for host in hosts for scheme in ("http", "https")]


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    found = Trap()
    async with await found.open():
        yield found


async def test_links_in_a_received_message_are_neither_fetched_nor_passed_on(
    receiver: Receiver, alice: User, trap: Trap
) -> None:
    links = trap.links()
    for number, link in enumerate(links):
        files = [{"id": "a", "data": {"links": [link, link + "?enc=1"]}}]
        changes = {"id": f"{number:064x}", "attachments": files}
        receiver.receipt(await receiver.send(receiver.beta, receiver.beta.message(alice, **changes)))
    found = await receiver.documents(alice)
    assert len(found) == len(links)
    for document in found:
        (link,) = document["didCommMessage"]["attachments"][0]["data"]["links"]
        assert link.startswith(f"/{database(alice)}/{document['id']}/")
    assert trap.visits == 0
    assert not [name for name in receiver.dns.questions() if "evil" in name or "localhost" in name]


async def test_links_of_a_client_lead_to_its_own_files_or_nowhere(
    receiver: Receiver, alice: User, trap: Trap
) -> None:
    """Only the path of a link counts, and only below what belongs to the sender (wire spec 10.3, S15)."""
    mallory = await receiver.node.user("mallory")
    own = f"/api/v1/objects/{alice.address}/{'0' * 32}_20251009t085320"
    for link in [*trap.links(), *(one.replace("/x", own) for one in trap.links()), "file:///etc/passwd", own]:
        files = [{"id": "a", "data": {"links": [f"{link}?enc=1"]}}]
        stated = message(f"did:web:{HERE}#{alice.address}", attachments=files)
        body = {"didCommMessage": stated, "deleteAttachments": [link]}
        answer = await receiver.node.call("POST", "/api/v1/senddid", body, token=mallory.token)
        assert answer.status == 403, link
    assert trap.visits == 0
    assert not [name for name in receiver.dns.questions() if "evil" in name or "localhost" in name]
