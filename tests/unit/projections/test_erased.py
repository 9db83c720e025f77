"""What an erased account leaves in the views: exactly what a view has that never heard of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from events.account import AccountErased
from events.errors import Gone
from events.event import Erased, Event
from projections.directory import CREDENTIALS, MAPPING, Directory
from projections.statistics import Statistics
from projections.stores.embedded import EmbeddedStore
from projections.userdb import UserDatabases
from projections.view_store import View
from tests.factories import (
    OTHER,
    OWNER,
    Blobs,
    account_moved,
    account_opened,
    document_written,
    email_claimed,
    folder_created,
    interest_shown,
    message_filed,
    profile_changed,
)
from tests.unit.projections.conftest import Fed

GONE = AccountErased(address=OWNER)


def of_owner(blobs: Blobs) -> list[Event]:
    return [
        account_opened(), email_claimed(), profile_changed({"displayName": "X"}), folder_created(),
        message_filed(blobs), interest_shown(), document_written(blobs, body={"a": 1}),
    ]  # fmt: skip


def of_other(blobs: Blobs) -> list[Event]:
    return [message_filed(blobs, id="kept", mail="kept", filed_at=5), interest_shown(message="kept")]


def views(blobs: Blobs) -> list[View]:
    return [UserDatabases(blobs), Statistics(), Directory()]


@pytest.mark.parametrize("number", range(3), ids=["userdb", "statistics", "directory"])
async def test_the_live_view_equals_one_that_is_built_when_the_key_is_gone(
    tmp_path: Path, blobs: Blobs, number: int
) -> None:
    digests: list[tuple[str, Sequence[str], dict[int, str]]] = []
    for history in (of_owner(blobs), [Erased(type="X")] * len(of_owner(blobs))):
        store = EmbeddedStore.open(tmp_path / f"{len(digests)}.sqlite")
        fed = Fed(views(blobs)[number], store)
        await fed.take(*of_other(blobs), stream=f"mailbox-{OTHER}")
        for event in history:
            await fed.take(event)
        await fed.take(GONE, stream=f"account-{OWNER}")
        digests.append((await store.digest(), await store.databases(), await store.parked()))
        await store.close()
    assert digests[0] == digests[1]


async def test_an_account_that_moved_here_leaves_nothing_of_its_former_home(store: EmbeddedStore) -> None:
    fed = Fed(Directory(), store)
    moved = account_moved()
    await fed.take(email_claimed(moved.email), account_opened(), moved, stream=f"account-{OWNER}")
    for database in (MAPPING, CREDENTIALS):
        assert len([document.id async for document in store.documents(database)]) == 1
    await fed.take(GONE, stream=f"account-{OWNER}")
    assert list(await store.databases()) == []
    assert await store.parked() == {}


async def test_an_account_that_moves_under_the_same_names_keeps_its_documents(store: EmbeddedStore) -> None:
    fed = Fed(Directory(), store)
    opened = account_opened()
    moved = account_moved(email_hash=opened.email_hash, credential=opened.credential)
    await fed.take(opened, moved, stream=f"account-{OWNER}")
    for database in (MAPPING, CREDENTIALS):
        assert len([document.id async for document in store.documents(database)]) == 1


async def test_an_event_whose_blob_was_erased_meanwhile_is_passed_over(
    store: EmbeddedStore, blobs: Blobs
) -> None:
    fed = Fed(UserDatabases(blobs), store)
    blobs.faults.append(Gone("this content was erased"))
    await fed.take(message_filed(blobs), message_filed(blobs, id="next"))
    assert await store.parked() == {}
    assert (await fed.document((await store.databases())[0], "next")).id == "next"
