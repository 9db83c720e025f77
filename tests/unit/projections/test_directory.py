from __future__ import annotations

import msgspec
import pytest

from events.identity import mapping_id, userdb_name
from projections.directory import AccountDirectory, Directory
from projections.stores.embedded import EmbeddedStore
from tests.factories import (
    EMAIL,
    EMAIL_HASH,
    OTHER,
    OWNER,
    TIME,
    account_disabled,
    account_enabled,
    account_opened,
    email_claimed,
    password_changed,
    profile_changed,
    recorded,
)
from tests.unit.projections.conftest import Fed


@pytest.fixture
def fed(store: EmbeddedStore) -> Fed:
    return Fed(Directory(), store)


@pytest.fixture
def directory(store: EmbeddedStore) -> AccountDirectory:
    return AccountDirectory(store)


async def test_an_opened_account_is_found_by_all_its_names(fed: Fed, directory: AccountDirectory) -> None:
    await fed.take(email_claimed(), account_opened())
    by_address = await directory.by_address(OWNER)
    assert by_address is not None
    assert by_address == await directory.by_email(EMAIL) == await directory.by_email_hash(EMAIL_HASH)
    assert (by_address.enabled, by_address.display_name, by_address.created) == (True, "Someone", TIME)
    assert by_address.database == userdb_name(OWNER)


@pytest.mark.parametrize("written", [EMAIL.upper(), f" {EMAIL} ", "Someone@ALPHA.example."])
async def test_an_email_is_found_in_whatever_case_it_was_written(
    fed: Fed, directory: AccountDirectory, written: str
) -> None:
    await fed.take(email_claimed(), account_opened())
    assert await directory.by_email(written)
    assert await directory.by_address(OWNER.upper().replace("0X", "0x"))


@pytest.mark.parametrize(
    "written", ["", "@", "nobody", "nobody@alpha.example", "a@b@c", '"x y"@z', "\x00@a", "\udcff@a.example"]
)
async def test_what_is_no_email_of_ours_belongs_to_nobody(
    fed: Fed, directory: AccountDirectory, written: str
) -> None:
    await fed.take(email_claimed(), account_opened())
    assert await directory.by_email(written) is None
    assert await directory.by_email_hash(written) is None
    assert await directory.by_address(written) is None
    assert await directory.did_document(written) is None
    assert await directory.credential(written) is None


async def test_a_disabled_account_is_found_and_says_so(fed: Fed, directory: AccountDirectory) -> None:
    await fed.take(email_claimed(), account_opened(), account_disabled())
    entry, profile = await directory.by_email(EMAIL), await directory.profile(OWNER)
    assert entry
    assert profile
    assert (entry.enabled, profile.enabled) == (False, False)
    await fed.take(account_enabled())
    entry, profile = await directory.by_email(EMAIL), await directory.profile(OWNER)
    assert entry
    assert profile
    assert (entry.enabled, profile.enabled) == (True, True)


async def test_a_changed_password_replaces_the_old_hash_and_nothing_else(
    fed: Fed, directory: AccountDirectory
) -> None:
    await fed.take(account_opened())
    before = await directory.by_address(OWNER)
    await fed.take(password_changed("hash-2"))
    after = await directory.by_address(OWNER)
    assert before
    assert after == msgspec.structs.replace(before, password_hash="hash-2")


async def test_a_profile_shows_what_its_owner_said_and_what_the_node_says(
    fed: Fed, directory: AccountDirectory
) -> None:
    await fed.take(
        account_opened(),
        profile_changed(
            {"displayName": "New", "jobTitle": "clerk", "whatToShare": "all", "enabled": "no", "domain": "x"},
            {"github": "me"},
            at=TIME + 9,
        ),
    )
    document = await fed.document("user_profile", OWNER)
    assert msgspec.json.decode(document.winner.body) == {
        "enabled": True,
        "domain": "alpha.example",
        "created": TIME,
        "modified": TIME + 9,
        "displayName": "New",
        "jobTitle": "clerk",
        "whatToShare": "all",
        "social": {"github": "me"},
    }
    entry = await directory.by_address(OWNER)
    assert entry
    assert entry.display_name == "New"


async def test_a_profile_that_is_changed_loses_what_was_left_out(
    fed: Fed, directory: AccountDirectory
) -> None:
    await fed.take(account_opened(), profile_changed({"phone": "1"}), profile_changed({"company": "c"}))
    profile = await directory.profile(OWNER)
    assert profile
    assert (profile.phone, profile.company, profile.display_name) == ("", "c", "")


async def test_documents_that_were_issued_are_given_back(fed: Fed, directory: AccountDirectory) -> None:
    await fed.take(account_opened(), account_opened(address=OTHER))
    assert await directory.did_document(OTHER) == {"id": f"did:mailio:{OTHER}", "@context": ["c"]}
    credential = {"id": f"credential-of-{OWNER}", "type": ["VerifiableCredential"]}
    assert await directory.credentials(OWNER) == [credential]
    assert await directory.credential(f"credential-of-{OWNER}") == credential
    assert await directory.did_document("0x" + "0" * 40) is None
    assert await directory.credentials("0x" + "0" * 40) == []


async def test_all_accounts_are_listed_by_address(fed: Fed, directory: AccountDirectory) -> None:
    await fed.take(account_opened(address=OTHER), account_opened())
    assert [entry.address async for entry in directory.all()] == sorted([OWNER, OTHER])


async def test_the_mapping_has_the_members_of_the_wire_protocol(fed: Fed) -> None:
    await fed.take(account_opened())
    document = await fed.document("mailio_mapping", mapping_id(EMAIL_HASH))
    assert msgspec.json.decode(document.winner.body) == {"encryptedEmail": EMAIL_HASH, "address": OWNER}


async def test_an_event_of_an_account_that_nobody_opened_is_parked_and_others_go_on(
    fed: Fed, directory: AccountDirectory
) -> None:
    await fed.take(account_disabled(), account_opened())
    assert list(await fed.store.parked()) == [1]
    assert await directory.by_address(OWNER)


async def test_no_event_changes_a_database_twice(fed: Fed) -> None:
    await fed.take(account_opened())
    for event in (
        account_opened(), email_claimed(), account_disabled(), profile_changed(), password_changed(),
    ):  # fmt: skip
        changes = await Directory().apply(recorded(event, 9), fed.store)
        databases = [change.database for change in changes]
        assert databases
        assert len(databases) == len(set(databases))
