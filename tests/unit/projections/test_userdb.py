from __future__ import annotations

import msgspec
import pytest

from events.errors import CorruptRecord
from events.identity import userdb_name
from events.policy import Folder, Reason
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases, spliced
from projections.view_store import Change
from tests.factories import (
    OTHER,
    OWNER,
    TIME,
    Blobs,
    document_written,
    folder_created,
    folder_removed,
    folder_renamed,
    interest_shown,
    message_filed,
    recorded,
    stored_attachment,
)
from tests.unit.projections.conftest import Fed

DATABASE = userdb_name(OWNER)


@pytest.fixture
def userdb(blobs: Blobs, store: EmbeddedStore) -> Fed:
    return Fed(UserDatabases(blobs), store)


async def test_a_filed_message_gets_folder_time_and_reason_beside_what_its_blob_says(
    userdb: Fed, blobs: Blobs
) -> None:
    blob = blobs.put_json(**{"from": "a@b.example", "id": "m1", "securityStatus": "clean"})
    await userdb.take(
        message_filed(
            blobs, id="m1", document=blob, folder=Folder.OTHER, reason=Reason.SELDOM_READ, filed_at=7
        )
    )
    document = await userdb.document(DATABASE, "m1")
    assert document.winner.body == (
        b'{"created":7,"folder":"other","from":"a@b.example","id":"m1",'
        b'"reason":"seldom_read","securityStatus":"clean"}'
    )
    assert document.seq == 1
    assert document.winner.rev.startswith("1-")


async def test_two_recipients_may_share_a_document_blob(userdb: Fed, blobs: Blobs) -> None:
    blob = blobs.put_json(id="of the first", subject="hello")
    await userdb.take(message_filed(blobs, id="m1", document=blob))
    await userdb.take(message_filed(blobs, id="m2", document=blob), stream=f"mailbox-{OTHER}")
    second = await userdb.document(userdb_name(OTHER), "m2")
    assert msgspec.json.decode(second.winner.body)["id"] == "m2"
    assert await userdb.store.get(DATABASE, "m2") is None


async def test_the_same_message_has_the_same_revision_wherever_it_is_built(blobs: Blobs) -> None:
    filed = message_filed(blobs, attachments=(stored_attachment(),))
    one, other = [
        (await UserDatabases(blobs).apply(recorded(filed, position), None))[0]  # type: ignore[arg-type]
        for position in (1, 99)
    ]
    assert isinstance(one, Change)
    assert isinstance(other, Change)
    assert one.revisions == other.revisions
    assert one.seq != other.seq


async def test_attachments_become_attachments_of_the_document_and_part_of_its_revision(
    userdb: Fed, blobs: Blobs
) -> None:
    blob = blobs.put_json(a=1)
    file = stored_attachment("a.png", blob="cd" * 32)
    await userdb.take(message_filed(blobs, id="m", document=blob, filed_at=1, attachments=(file,)))
    await userdb.take(message_filed(blobs, id="m", document=blob, filed_at=1), stream=f"mailbox-{OTHER}")
    winner = (await userdb.document(DATABASE, "m")).winner
    assert msgspec.to_builtins(winner.attachments[0]) == msgspec.to_builtins(file)
    assert winner.rev != (await userdb.document(userdb_name(OTHER), "m")).winner.rev


async def test_a_device_keeps_its_own_revision_path(userdb: Fed, blobs: Blobs) -> None:
    await userdb.take(document_written(blobs, "3-ccc", "2-bbb", "1-aaa", id="d", body={"n": 1}))
    document = await userdb.document(DATABASE, "d")
    assert document.tree.ancestry("3-ccc") == ("3-ccc", "2-bbb", "1-aaa")
    assert document.winner.body == b'{"n":1}'


async def test_a_device_body_is_stored_byte_for_byte(userdb: Fed, blobs: Blobs) -> None:
    body = b'{"big":123456789012345678901234567890,"float":1.0,"tiny":1e-400,"text":"\\u00e9"}'
    event = msgspec.structs.replace(document_written(blobs, "1-a", id="d"), document=blobs.put(body))
    await userdb.take(event)
    assert (await userdb.document(DATABASE, "d")).winner.body == body


async def test_a_deletion_by_a_device_needs_no_body(userdb: Fed, blobs: Blobs) -> None:
    await userdb.take(
        document_written(blobs, "1-a", id="d", body={"n": 1}),
        document_written(blobs, "2-b", "1-a", id="d", deleted=True),
    )
    document = await userdb.document(DATABASE, "d")
    assert document.tree.deleted
    assert document.winner.body == b"{}"


async def test_two_devices_that_wrote_offline_leave_a_conflict_with_couchdbs_winner(
    userdb: Fed, blobs: Blobs
) -> None:
    await userdb.take(
        document_written(blobs, "1-a", id="d", body={"n": 1}),
        document_written(blobs, "2-z", "1-a", id="d", body={"n": 2}),
        document_written(blobs, "2-b", "1-a", id="d", body={"n": 3}),
    )
    document = await userdb.document(DATABASE, "d")
    assert document.winner.rev == "2-z"
    assert document.tree.conflicts() == ("2-b",)


async def test_a_folder_is_a_document_that_follows_its_events(userdb: Fed) -> None:
    await userdb.take(folder_created("f1", "Family", TIME))
    created = await userdb.document(DATABASE, "folder:f1")
    await userdb.take(folder_renamed("f1", "Friends", TIME + 1))
    renamed = await userdb.document(DATABASE, "folder:f1")
    await userdb.take(folder_removed("f1"))
    removed = await userdb.document(DATABASE, "folder:f1")
    assert msgspec.json.decode(created.winner.body) == {
        "type": "folder", "id": "f1", "name": "Family", "created": TIME,
    }  # fmt: skip
    assert msgspec.json.decode(renamed.winner.body) == {
        "type": "folder", "id": "f1", "name": "Friends", "created": TIME, "modified": TIME + 1,
    }  # fmt: skip
    assert removed.tree.deleted
    assert removed.tree.ancestry(removed.winner.rev) == (
        removed.winner.rev,
        renamed.winner.rev,
        created.winner.rev,
    )


async def test_a_folder_made_again_continues_the_deleted_document(userdb: Fed) -> None:
    await userdb.take(folder_created(name="One"), folder_removed(), folder_created(name="Two"))
    document = await userdb.document(DATABASE, "folder:f1")
    assert document.winner.rev.startswith("3-")
    assert not document.tree.deleted
    assert msgspec.json.decode(document.winner.body)["name"] == "Two"


async def test_what_a_client_added_to_a_folder_survives_its_renaming(userdb: Fed, blobs: Blobs) -> None:
    await userdb.take(folder_created())
    rev = (await userdb.document(DATABASE, "folder:f1")).winner.rev
    written = document_written(blobs, "2-x", rev, id="folder:f1", body={"colour": "red", "created": 1.5})
    await userdb.take(written, folder_renamed(name="Blue"))
    body = (await userdb.document(DATABASE, "folder:f1")).winner.body
    assert msgspec.json.decode(body)["colour"] == "red"
    assert b'"created":1.5' in body


async def test_splicing_keeps_every_other_value_as_it_was_written() -> None:
    document = b'{"b":{"y":1.0,"x":1e999},"big":123456789012345678901234567890,"z":"\\u00e9"}'
    assert spliced(document, {"folder": "inbox", "b2": 1}) == (
        b'{"b":{"y":1.0,"x":1e999},"b2":1,"big":123456789012345678901234567890,'
        b'"folder":"inbox","z":"\\u00e9"}'
    )


@pytest.mark.parametrize("broken", [b"", b"[1]", b'{"a":1', b"\xff", b'{"a":1}}'])
async def test_a_blob_that_is_no_json_object_is_refused(broken: bytes) -> None:
    with pytest.raises(CorruptRecord):
        spliced(broken, {"folder": "inbox"})


async def test_foreign_events_change_nothing(blobs: Blobs) -> None:
    assert not await UserDatabases(blobs).apply(recorded(interest_shown()), None)  # type: ignore[arg-type]
