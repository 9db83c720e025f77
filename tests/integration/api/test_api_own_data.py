"""What a token opens: profile, credentials, counters, folders, messages; and nobody else's."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from events.errors import Forbidden
from events.handshake import Terms
from events.identity import handshake_id
from events.log.log import Origin
from events.mailbox import MAX_FOLDER_NAME, DocumentDraft, WriteDocuments
from events.policy import Folder
from node.admin.operations import OPERATIONS
from node.api.mailboxes import Mailboxes, OwnerKeys
from node.api.route import Auth
from node.crypto.handshakes import handshake_document, sign_handshake
from node.sync.handshakes import SignedHandshakes
from projections.revision import computed
from tests.integration.api.harness import MAIL, Node, User, database

ME = "/api/v1/user/me"
INTEREST = "/api/v1/emailstatistics/interest"


# Public facts


async def test_the_server_says_who_it_is(node: Node) -> None:
    document = (await node.get("/.well-known/did.json")).json
    assert document["id"] == str(node.core.keys.did)
    assert "authentication" not in document
    linkage = (await node.get("/.well-known/did-configuration.json")).json
    assert len(linkage["linked-dids"]) == 2


async def test_a_users_document_is_public_and_a_strangers_is_not_found(node: Node, alice: User) -> None:
    document = (await node.get(f"/{alice.address}/did.json")).json
    assert document["id"] == f"did:mailio:{alice.address}"
    assert (await node.get(f"/{alice.address.upper().replace('X', 'x')}/did.json")).json == document
    answer = await node.get(f"/0x{'1' * 40}/did.json")
    assert (answer.status, answer.json) == (404, {"code": 404, "message": "did not found"})


async def test_health_domains_and_capabilities(node: Node) -> None:
    health = (await node.get("/api/healthcheck")).json
    assert health == {
        "status": "ok",
        "version": health["version"],
        "mode": "release",
        "domain": "alpha.example",
    }
    assert (await node.get("/api/v1/domains")).json == {
        "domains": [{"name": "alpha.example", "type": "smtp"}]
    }
    capabilities = (await node.get("/api/v1/capabilities")).json
    assert capabilities == (await node.get("/capabilities")).json
    assert capabilities["emailDomains"] == ["alpha.example"]
    assert {one["purpose"] for one in capabilities["supportedProtocols"]} == {"restapi", "exchange"}
    assert capabilities["maximumMessageSizeBytes"] == node.core.settings.smtp.limits.message_bytes


# Profile


async def test_a_profile_is_replaced_as_a_whole_and_shown(node: Node, alice: User) -> None:
    answer = await node.call(
        "PUT", ME, {"displayName": "Alice", "social": {"github": "al"}}, token=alice.token
    )
    assert answer.status == 200, answer
    saved = answer.json
    assert (saved["_id"], saved["displayName"], saved["enabled"]) == (alice.address, "Alice", True)
    assert saved["_rev"].startswith("2-")
    me = (await node.get(ME, alice.token)).json
    assert (me["address"], me["displayName"], me["social"]) == (alice.address, "Alice", {"github": "al"})
    assert me["totalDisk"] == node.core.settings.node.quota_bytes
    await node.call("PUT", ME, {"phone": "1"}, token=alice.token)
    me = (await node.get(ME, alice.token)).json
    assert ("displayName" in me, me["phone"]) == (False, "1")


async def test_what_the_node_says_in_a_profile_stays(node: Node, alice: User) -> None:
    before = (await node.get(ME, alice.token)).json["created"]
    forged = {"enabled": False, "domain": "evil.example", "diskSpace": 1, "created": 1, "modified": 1}
    saved = (await node.call("PUT", ME, forged, token=alice.token)).json
    assert (saved["enabled"], saved["domain"], saved["created"]) == (True, "alpha.example", before)


@pytest.mark.parametrize("body", [{"displayName": "x" * 2_001}, {"social": {"github": 1}}, {"social": []}])
async def test_a_profile_that_does_not_fit_is_refused(node: Node, alice: User, body: dict[str, Any]) -> None:
    assert (await node.call("PUT", ME, body, token=alice.token)).status == 400


async def test_mail_counts_as_used_disk(node: Node, alice: User) -> None:
    assert "usedDisk" not in (await node.get(ME, alice.token)).json
    raw = MAIL.format(to=alice.email, subject="big").encode() + b"x" * 900 + b"\r\n"
    await node.deliver(alice, raw=raw)
    used = (await node.get(ME, alice.token)).json["usedDisk"]
    assert used == (await Mailboxes(node.core).state(alice.address)).used >= len(raw)


# Credentials


async def credential_of(node: Node, user: User) -> dict[str, Any]:
    (credential,) = (await node.get(f"/api/v1/credentials/list/{user.address}", user.token)).json
    return credential  # type: ignore[no-any-return]


async def test_the_own_credential_is_listed_fetched_and_holds(node: Node, alice: User) -> None:
    credential = await credential_of(node, alice)
    assert credential["credentialSubject"]["id"] == f"did:mailio:{alice.address}"
    path = f"/api/v1/credentials/{credential['id']}"
    assert (await node.get(path, alice.token)).json == credential
    answer = await node.call("POST", "/api/v1/credentials/q-1/verify", credential, token=alice.token)
    assert (answer.status, answer.json) == (200, {"valid": True, "requestId": "q-1"})


async def test_another_accounts_credentials_are_neither_listed_nor_fetched(
    node: Node, alice: User, mallory: User
) -> None:
    credential = await credential_of(node, alice)
    assert (await node.get(f"/api/v1/credentials/list/{alice.address}", mallory.token)).status == 403
    there = await node.get(f"/api/v1/credentials/{credential['id']}", mallory.token)
    nowhere = await node.get(f"/api/v1/credentials/{'0' * 64}", mallory.token)
    assert (there.status, there.body) == (404, nowhere.body)


BENDINGS: list[Callable[[dict[str, Any]], object]] = [
    lambda one: one["credentialSubject"].update(id="did:mailio:0x" + "1" * 40),
    lambda one: one["credentialSubject"]["authorizedApplication"].update(domains=["evil.example"]),
    lambda one: one.update(issuanceDate="2020-01-01T00:00:00Z"),
    lambda one: one.update(extra=1),
    lambda one: one.pop("type"),
    lambda one: one.update(issuer="did:mailio:0x" + "1" * 40),
    lambda one: one["proof"].update(jws="a.b.c"),
    lambda one: one.pop("proof"),
    lambda one: one.clear(),
]


@pytest.mark.parametrize("bend", BENDINGS)
async def test_a_credential_that_differs_anywhere_does_not_hold(
    node: Node, alice: User, bend: Callable[[dict[str, Any]], object]
) -> None:
    bent = deepcopy(await credential_of(node, alice))
    bend(bent)
    answer = await node.call("POST", "/api/v1/credentials/q/verify", bent, token=alice.token)
    assert (answer.status, answer.json["message"]) == (400, "invalid credential")


# Counters


async def test_counters_of_a_correspondent_in_any_spelling(node: Node, alice: User) -> None:
    await node.deliver(alice, "one")
    await node.deliver(alice, "two")
    for sender in ("friend@beta.example", "Friend <FRIEND@beta.example>"):
        answer = await node.get(f"/api/v1/emailstatistics?sender={quote(sender)}", alice.token)
        assert answer.json == {"received": 2, "sent": 0, "interest": 0, "sentByDay": 0}
    assert (await node.get("/api/v1/emailstatistics", alice.token)).status == 400


async def test_interest_in_a_message_counts_once_and_at_once(node: Node, alice: User) -> None:
    message = await node.deliver(alice)
    body = {"sender": "Friend <Friend@beta.example>", "messageId": message}
    for _ in range(2):
        answer = await node.call("PUT", INTEREST, body, token=alice.token)
        assert (answer.status, answer.json) == (202, {"messageId": message})
        counted = (await node.get("/api/v1/emailstatistics?sender=friend@beta.example", alice.token)).json
        assert counted["interest"] == 1
    state = await Mailboxes(node.core).state(alice.address)
    assert len(state.correspondent("friend@beta.example").interest) == 1


async def test_interest_needs_ones_own_message_of_that_sender(node: Node, alice: User, mallory: User) -> None:
    message = await node.deliver(alice)
    head = node.core.log.head
    for user, sender, ident in (
        (mallory, "friend@beta.example", message),
        (alice, "friend@beta.example", "nothing"),
        (alice, "other@beta.example", message),
    ):
        body = {"sender": sender, "messageId": ident}
        assert (await node.call("PUT", INTEREST, body, token=user.token)).status == 400
    assert node.core.log.head == head


# Folders


async def folders(node: Node, user: User) -> dict[str, dict[str, Any]]:
    return {folder["id"]: folder for folder in (await node.get("/api/v1/folder", user.token)).json}


async def test_the_systems_folders_are_listed_with_their_counts(node: Node, alice: User) -> None:
    await node.deliver(alice)
    found = await folders(node, alice)
    assert list(found) == [folder.value for folder in Folder]
    assert found["inbox"] == {"id": "inbox", "name": "Inbox", "totalMessages": 1, "unreadMessages": 1}
    assert found["goodreads"]["name"] == "Good Reads"
    assert (await node.get("/v1/folder", alice.token)).json == list(found.values())


async def test_a_folder_is_added_renamed_and_removed(node: Node, alice: User) -> None:
    answer = await node.call("POST", "/api/v1/folder", {"Name": " My folder "}, token=alice.token)
    assert answer.status == 201, answer
    ident = answer.json["id"]
    assert answer.json == {"id": ident, "name": "My folder", "totalMessages": 0, "unreadMessages": 0}
    answer = await node.call("PUT", "/api/v1/folder", {"ID": ident, "Name": "Work"}, token=alice.token)
    assert (answer.status, answer.json["name"]) == (200, "Work")
    assert (await folders(node, alice))[ident]["name"] == "Work"
    stored = await node.core.views.stores["userdb"].get(database(alice), f"folder:{ident}")
    assert stored is not None
    assert not stored.winner.deleted
    answer = await node.call("DELETE", f"/api/v1/folder/{ident}", token=alice.token)
    assert (answer.status, answer.json) == (200, {"status": "deleted"})
    assert ident not in await folders(node, alice)


async def test_an_answer_waits_until_the_view_shows_what_was_done(node: Node, alice: User) -> None:
    async with node.core.views.runners["userdb"].paused() as position:
        adding = asyncio.create_task(node.call("POST", "/api/v1/folder", {"name": "Work"}, token=alice.token))
        while node.core.log.head == position:
            await node.get("/api/healthcheck")
        for _ in range(5):
            await node.get("/api/healthcheck")
        assert not adding.done()
    assert (await adding).status == 201


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * (MAX_FOLDER_NAME + 1)])
async def test_a_folder_needs_a_printable_name(node: Node, alice: User, name: str) -> None:
    assert (await node.call("POST", "/api/v1/folder", {"name": name}, token=alice.token)).status == 400


async def test_folders_are_not_doubled_and_the_systems_stay(node: Node, alice: User) -> None:
    add = ("POST", "/api/v1/folder")
    assert (await node.call(*add, {"name": "Work"}, token=alice.token)).status == 201
    assert (await node.call(*add, {"name": "Work"}, token=alice.token)).status == 409
    assert (await node.call(*add, {"name": "Inbox"}, token=alice.token)).status == 409
    assert (await node.call("DELETE", "/api/v1/folder/inbox", token=alice.token)).status == 409
    renaming = {"id": "inbox", "name": "Mine"}
    assert (await node.call("PUT", "/api/v1/folder", renaming, token=alice.token)).status == 409


async def test_a_folder_with_messages_is_not_removed(node: Node, alice: User) -> None:
    ident = (await node.call("POST", "/api/v1/folder", {"name": "Work"}, token=alice.token)).json["id"]
    await write(node, alice, "m-1", {"folder": ident, "created": 5, "from": "x@beta.example"})
    assert (await folders(node, alice))[ident]["totalMessages"] == 1
    answer = await node.call("DELETE", f"/api/v1/folder/{ident}", token=alice.token)
    assert (answer.status, answer.json["message"]) == (409, "the folder holds 1 messages: move them first")


async def test_another_users_folder_is_out_of_reach(node: Node, alice: User, mallory: User) -> None:
    ident = (await node.call("POST", "/api/v1/folder", {"name": "Work"}, token=alice.token)).json["id"]
    assert ident not in await folders(node, mallory)
    assert (await node.call("DELETE", f"/api/v1/folder/{ident}", token=mallory.token)).status == 404
    renaming = {"id": ident, "name": "Mine"}
    assert (await node.call("PUT", "/api/v1/folder", renaming, token=mallory.token)).status == 404
    assert (await folders(node, alice))[ident]["name"] == "Work"


# Messages


async def write(
    node: Node, user: User, ident: str, members: dict[str, Any], *, deleted: bool = False
) -> None:
    """What a device of the user would write through the sync door: a first revision, or the next one."""
    body = msgspec.json.encode(members, order="sorted")
    (blob,) = await node.core.blobs.write(body, owners=[user.address])
    stored = await node.core.views.stores["userdb"].get(database(user), ident)
    parent = stored.winner.rev if stored else None
    rev = computed(parent, deleted=deleted, body=body)
    draft = DocumentDraft(
        id=ident,
        revisions=(rev, parent) if parent else (rev,),
        kind="message",
        document=blob,
        deleted=deleted,
        size=len(body),
    )
    command = WriteDocuments((draft,), node.core.clock.now())
    await Mailboxes(node.core).change(user.address, command, Origin(actor="test"), "userdb")


async def listed(node: Node, user: User, query: str = "") -> list[str]:
    answer = await node.get(f"/api/v1/message{query}", user.token)
    assert answer.status == 200, answer
    return [message["id"] for message in answer.json]


async def test_a_delivered_mail_is_listed_and_fetched(node: Node, alice: User) -> None:
    ident = await node.deliver(alice, "hello")
    (message,) = (await node.get("/api/v1/message", alice.token)).json
    assert (message["id"], message["folder"], message["contentType"]) == (ident, "inbox", "mime")
    assert (message["subject"], message["messageId"]) == ("hello", "<hello@beta.example>")
    assert (message["from"], message["read"]) == ("friend@beta.example", False)
    assert message["ownerAddressHex"] == alice.address
    assert message["document"]["_id"] == ident
    assert message["document"]["_rev"].startswith("1-")
    assert (await node.get(f"/api/v1/message/{ident}", alice.token)).json == message
    assert (await node.get(f"/v1/message/{ident}", alice.token)).json == message


async def test_messages_of_all_folders_come_newest_first_in_pages(node: Node, alice: User) -> None:
    for number in range(60):
        folder = ("inbox", "other", "archive")[number % 3]
        await write(node, alice, f"m-{number:02}", {"folder": folder, "created": 1_000 + number})
    everything = [f"m-{number:02}" for number in reversed(range(60))]
    assert await listed(node, alice) == everything[:20]
    assert await listed(node, alice, "?limit=60") == everything
    assert await listed(node, alice, "?limit=5&skip=3") == everything[3:8]
    assert await listed(node, alice, "?from=1010&to=1012") == ["m-12", "m-11", "m-10"]
    assert await listed(node, alice, "?to=1003") == ["m-03", "m-02", "m-01", "m-00"]
    assert await listed(node, alice, "?folder=other&limit=2") == ["m-58", "m-55"]
    assert await listed(node, alice, "?folder=nothing") == []


async def test_messages_of_one_moment_are_paged_by_skipping(node: Node, alice: User) -> None:
    for number in range(30):
        await write(node, alice, f"m-{number:02}", {"folder": "inbox", "created": 7})
    first, second = await listed(node, alice), await listed(node, alice, "?skip=20")
    assert first + second == [f"m-{number:02}" for number in reversed(range(30))]


async def test_handshakes_contacts_and_folders_are_no_messages(node: Node, alice: User) -> None:
    await write(node, alice, "h", {"folder": "handshake", "created": 1})
    await write(node, alice, "c", {"contactInfo": {"email": "x@beta.example"}})
    ident = (await node.call("POST", "/api/v1/folder", {"name": "Work"}, token=alice.token)).json["id"]
    assert await listed(node, alice) == []
    assert await listed(node, alice, "?folder=handshake") == ["h"]
    for other in ("c", f"folder:{ident}", "_design/x", "nothing", quote("../x", safe="")):
        assert (await node.get(f"/api/v1/message/{other}", alice.token)).status == 404


async def test_a_deleted_message_is_gone_even_when_its_tombstone_has_members(node: Node, alice: User) -> None:
    members = {"folder": "inbox", "created": 1, "from": "friend@beta.example"}
    await write(node, alice, "m", members)
    assert (await node.get("/api/v1/message/m", alice.token)).status == 200
    await write(node, alice, "m", members, deleted=True)
    assert (await node.get("/api/v1/message/m", alice.token)).status == 404
    assert await listed(node, alice) == []
    body = {"sender": "friend@beta.example", "messageId": "m"}
    assert (await node.call("PUT", INTEREST, body, token=alice.token)).status == 400


@pytest.mark.parametrize(
    "document",
    [
        {"folder": "inbox", "created": 1, "from": 7},
        {"folder": "inbox", "created": 1, "didCommMessage": "x"},
        {"folder": "inbox", "created": 1, "didCommMessage": {"type": "application/mailio-smtp+json"}},
        {
            "folder": "inbox",
            "created": 1,
            "didCommMessage": {"type": "application/mailio-smtp+json", "plainBodyBase64": "é!"},
        },
        {"folder": "inbox", "created": 1.5},
    ],
)
async def test_a_list_survives_whatever_a_client_wrote(
    node: Node, alice: User, document: dict[str, Any]
) -> None:
    await write(node, alice, "odd", document)
    mail = await node.deliver(alice)
    assert mail in await listed(node, alice)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "from=-1", "to=1.5", "skip=-1", "skip=201"]
)
async def test_a_list_that_makes_no_sense_is_refused(node: Node, alice: User, query: str) -> None:
    assert (await node.get(f"/api/v1/message?{query}", alice.token)).status == 400


async def test_another_users_messages_are_out_of_reach(node: Node, alice: User, mallory: User) -> None:
    ident = await node.deliver(alice)
    assert await listed(node, mallory) == []
    there = await node.get(f"/api/v1/message/{ident}", mallory.token)
    nowhere = await node.get(f"/api/v1/message/{'0' * 64}", mallory.token)
    assert (there.status, there.body) == (404, nowhere.body)


async def test_a_mail_is_taken_apart_and_not_stored(node: Node, alice: User) -> None:
    raw = MAIL.format(to=alice.email, subject="hello").encode()
    head = node.core.log.head
    body = {"mime": base64.b64encode(raw).decode()}
    answer = await node.call("POST", "/api/v1/parsemime", body, token=alice.token)
    assert answer.status == 200, answer
    parsed = answer.json
    assert (parsed["subject"], parsed["sender"]) == ("hello", "Friend <friend@beta.example>")
    assert parsed["to"] == parsed["allRecipients"] == [alice.email]
    assert parsed["date"] == "Fri, 8 Jul 2022 04:01:07 +0000"
    assert {"name": "Subject", "value": "hello"} in parsed["headers"]
    assert parsed["body"]["bodyText"].strip() == "Hello"
    assert node.core.log.head == head


@pytest.mark.parametrize("mime", ["", base64.b64encode(bytes(range(256))).decode()])
async def test_a_mail_that_is_none_is_taken_apart_all_the_same(node: Node, alice: User, mime: str) -> None:
    assert (await node.call("POST", "/api/v1/parsemime", {"mime": mime}, token=alice.token)).status == 200


async def test_what_is_no_base64_is_refused(node: Node, alice: User) -> None:
    assert (await node.call("POST", "/api/v1/parsemime", {"mime": "?"}, token=alice.token)).status == 400


# All of them


async def test_no_route_with_a_token_answers_without_one(node: Node, alice: User) -> None:
    for route in node.routes:
        if route.auth is Auth.TOKEN:
            path = route.path.replace("{address}", alice.address).replace("{", "").replace("}", "")
            for token in ("", "a.b.c"):
                answer = await node.call(route.method, path, token=token)
                assert answer.status == 401, route.path
                assert list(answer.json) == ["error"]


async def test_handshakes_are_verified_with_the_owners_registered_key(
    node: Node, alice: User, mallory: User
) -> None:
    email_hash = (await node.core.directory.by_email(mallory.email)).email_hash  # type: ignore[union-attr]
    ident = handshake_id(alice.address, email_hash)
    content = {
        "handshakeId": ident,
        "originServer": {"domain": "mio.alpha.example"},
        "status": "accepted",
        "level": "none",
        "type": "personal",
        "senderMetadata": {"emailHash": email_hash},
        "created": 1_760_000_000_000,
    }
    verifier = SignedHandshakes(OwnerKeys(node.core.directory).of)
    signed = handshake_document(
        ident, sign_handshake(content, alice.keys), f"did:mailio:{alice.address}", 1_760_000_000_000
    )
    terms = await verifier.verify(alice.address, ident, signed)
    assert isinstance(terms, Terms)
    assert (terms.id, terms.by_email_hash) == (ident, True)
    for owner, document in (
        (mallory.address, signed),
        (alice.address, handshake_document(ident, sign_handshake(content, mallory.keys), "", 1)),
    ):
        with pytest.raises(Forbidden):
            await verifier.verify(owner, ident, document)


async def test_an_owner_demands_a_level_of_handshakes(node: Node, alice: User) -> None:
    assert "minimumLevel" not in (await node.get("/api/v1/user/me", alice.token)).json
    answer = await node.call("PUT", "/api/v1/user/minimumlevel", {"minimumLevel": "poh"}, token=alice.token)
    assert answer.json == {"minimumLevel": "poh"}
    assert (await node.get("/api/v1/user/me", alice.token)).json["minimumLevel"] == "poh"
    odd = await node.call("PUT", "/api/v1/user/minimumlevel", {"minimumLevel": "all"}, token=alice.token)
    assert odd.status == 400
    shown = [one async for one in OPERATIONS["account.show"](node.core, {"name": alice.email})]
    assert shown[-1]["minimumLevel"] == "poh"
    arguments = {"name": alice.email, "level": "personal"}
    (changed,) = [one async for one in OPERATIONS["account.minimum-level"](node.core, arguments)]
    assert changed == {"address": alice.address, "minimumLevel": "personal", "node": "none"}
