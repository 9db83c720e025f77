"""What a mailbox counts is what is stored: filing, editing and deleting come out even."""

from __future__ import annotations

from events.mailbox import FileMessage, MessageFiled, decide, initial
from events.policy import Standing, Transport
from projections.userdb import UserDatabases
from projections.view_store import Change
from tests.factories import OWNER, Blobs, recorded


class Nothing:
    """No document was there before."""

    async def get(self, database: str, id: str) -> None:  # noqa: A002
        return None


async def test_a_filed_message_counts_as_many_bytes_as_its_document_has() -> None:
    blobs = Blobs()
    document = blobs.put_json(id="x", didCommMessage={"type": "t", "plainBodyBase64": "aGVsbG8="})
    command = FileMessage(
        id="x", mail="m", transport=Transport.SMTP, sender="a@b.example", standing=Standing.UNKNOWN,
        document=document, size=len(blobs.bodies[document]), filed_at=1_760_000_000_000,
    )  # fmt: skip
    (event,) = decide(initial(OWNER), command)
    assert isinstance(event, MessageFiled)
    (change,) = await UserDatabases(blobs).apply(recorded(event, stream=f"mailbox-{OWNER}"), Nothing())
    assert isinstance(change, Change)
    assert event.size == len(change.body)
