"""The reference client against a node: an account from a mnemonic, login by challenge, contacts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from node.crypto.base64_text import from_base64
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys, new_mnemonic
from tests.client.python.session import NodeSession
from tests.integration.api.harness import Node, running, settings_for
from tests.integration.client.people import JavaScript

EMAIL = "carol@alpha.example"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(settings_for(tmp_path)) as node:
        yield node


async def test_both_libraries_log_in_to_an_account_that_was_registered_with_a_mnemonic(
    node: Node, javascript: JavaScript
) -> None:
    words = new_mnemonic()
    keys = Keys.from_mnemonic(words)
    registered = await node.call(
        "POST", "/api/v1/register", keys.registration(await node.nonce(), EMAIL, "a database password")
    )
    assert registered.status == 200
    url = str(node.http.make_url("")).rstrip("/")
    async with ClientSession() as http:
        session = NodeSession(http, url)
        await session.login(keys, EMAIL)
        contact = await session.contact(keys.address)
    assert contact.did == f"did:web:mio.alpha.example#{keys.address}"
    assert contact.agreement_key == keys.agreement_key
    other = await asyncio.to_thread(javascript.ask, "login", url=url, email=EMAIL, words=words)
    assert other["did"] == contact.did
    assert from_base64(other["agreement"]) == keys.agreement_key
    for token in (session.token, other["token"]):
        assert (await node.get("/api/v1/user/me", token)).json["address"] == keys.address


async def test_other_words_do_not_log_in(node: Node) -> None:
    keys = Keys.from_mnemonic(new_mnemonic())
    await node.call("POST", "/api/v1/register", keys.registration(await node.nonce(), EMAIL, "p" * 20))
    async with ClientSession() as http:
        session = NodeSession(http, str(node.http.make_url("")).rstrip("/"))
        with pytest.raises(Refused, match="404"):
            await session.login(Keys.from_mnemonic(new_mnemonic()), EMAIL)
    assert not session.token
