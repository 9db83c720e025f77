"""Two nodes that talk while one of them changes its key, and what was signed before it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from events.delivery import Phase
from node.backup.checking import check
from node.backup.making import Made, make
from node.crypto.base64_text import to_base64
from node.crypto.keys import SigningKeys, Stage
from node.discovery.peer_keys import key_history
from node.discovery.record import record_text
from node.mtp.did_lookup import DidLookup, DidLookupRequest, asking_header
from node.mtp.envelope import DID_LOOKUP, sign_request
from node.verification import verified
from tests.integration.api.harness import User
from tests.integration.mtp.nodes import Place, World, until, world

STAGES = (Stage.ANNOUNCED, Stage.PROMOTED, Stage.SIGNING)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, "alpha", "beta") as found:
        publish(found)
        yield found


def publish(found: World, **texts: str) -> None:
    """Publish what each node prints, or other texts by name; DNS forgets at once."""
    zone = ""
    for name, place in found.places.items():
        text = texts.get(name, record_text(*place.core.keys.published))
        zone += f'mailio._mailiokey.{place.domain}. 0 IN TXT "{text}"\n'
        zone += f"{place.domain}. 0 IN MX 0 .\n{place.email_domain}. 0 IN MX 0 .\n"
    found.dns.publish(zone)


async def test_mail_goes_both_ways_at_every_step_and_sessions_go_on(both: World) -> None:
    alpha, beta = both.places["alpha"], both.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    first = alpha.core.keys.public_key
    for stage in (Stage.STEADY, *STAGES, Stage.STEADY):
        assert alpha.core.keys.stage is stage
        there = await alpha.sent(alice, beta.did(bob))
        back = await beta.sent(bob, alpha.did(alice))
        await until(partial(_confirmed, alpha, alice, there))
        await until(partial(_confirmed, beta, bob, back))
        if stage is Stage.SIGNING:
            await alpha.core.rotation.retire(force=True)
        else:
            await alpha.core.rotation.rotate(force=True)
        publish(both)
    assert first not in alpha.core.keys.live
    assert len(await alpha.mail(alice)) == len(await beta.mail(bob)) == 10
    assert (await key_history(beta.core.log, alpha.domain))[0].public_key == to_base64(first)


async def _confirmed(place: Place, user: User, ident: str) -> bool:
    return any(one.get("confirmed") for one in await place.recipients(user, ident))


@pytest.mark.parametrize("held", [0, 1])
async def test_a_peer_that_reads_one_key_gets_mail_whichever_it_holds(both: World, held: int) -> None:
    alpha, beta = both.places["alpha"], both.places["beta"]
    alice, bob = await alpha.user("alice"), await beta.user("bob")
    for _ in range(2):
        await alpha.core.rotation.rotate(force=True)
    publish(both, alpha=record_text(alpha.core.keys.live[held]))
    ident = await alpha.sent(alice, beta.did(bob))
    await until(partial(_taken, alpha, beta, ident))
    assert (await alpha.delivery(beta.domain, ident)).attempts == 1
    await until(partial(_has_mail, beta, bob))


async def _taken(alpha: Place, beta: Place, ident: str) -> bool:
    return (await alpha.delivery(beta.domain, ident)).phase is Phase.DELIVERED


async def _has_mail(place: Place, user: User) -> bool:
    return bool(await place.mail(user))


async def test_a_key_that_only_a_document_names_signs_nothing(both: World) -> None:
    """The new key is in alpha's own DID document, but DNS does not know it: whoever claims it is nobody."""
    alpha, beta = both.places["alpha"], both.places["beta"]
    await alpha.core.rotation.rotate(force=True)
    publish(both, alpha=record_text(alpha.core.keys.public_key))
    assert alpha.node is not None
    document = (await alpha.node.call("GET", "/.well-known/did.json")).json
    assert len(document["verificationMethod"]) == 2
    other = alpha.core.keys.other
    assert other is not None
    refused = (400, '{"error":"signature verification failed"}')
    assert (await _asked(beta, alpha.core.keys, alpha.domain))[0] == 200
    assert await _asked(beta, other, alpha.domain) == refused
    below = await _asked(beta, alpha.core.keys, f"evil.{alpha.domain}")
    assert below == (400, '{"error":"no Mailio DNS record found"}')
    assert [span.public_key for span in await key_history(beta.core.log, f"evil.{alpha.domain}")] == []


async def _asked(place: Place, keys: SigningKeys, domain: str) -> tuple[int, str]:
    """Have a question signed by these keys, in the name of this domain; return the answer."""
    request = DidLookupRequest(
        sender_address=keys.address,
        lookup_header=asking_header(place.core.clock.now()),
        did_lookups=[DidLookup(email_hash=to_base64(bytes(32)), email="nobody@beta.example")],
    )
    assert place.node is not None
    body = sign_request(DID_LOOKUP, request, keys, domain)
    answer = await place.node.http.post(
        DID_LOOKUP.path, data=body, headers={"Content-Type": "application/json"}
    )
    return answer.status, await answer.text()


async def test_what_was_signed_before_still_verifies_after(both: World, tmp_path: Path) -> None:
    alpha = both.places["alpha"]
    core, folder = alpha.core, tmp_path / "backup"
    alice = await alpha.user("alice")
    name = core.keys.origin
    await core.attestor.sign()
    before = await _backed_up(alpha, folder)
    for _ in STAGES:
        await core.rotation.rotate(force=True)
    await core.rotation.retire(stolen=True)
    await alpha.user("another")
    await core.attestor.sign()
    after = await _backed_up(alpha, folder)
    assert before.node == name != after.node == core.keys.address
    for point in (before.point, after.point):
        assert (await asyncio.to_thread(check, folder, point, _nobody, node=core.keys.addresses)).sound
    other = ("0x" + "0" * 40,)
    assert not (await asyncio.to_thread(check, folder, before.point, _nobody, node=other)).sound
    told = await asyncio.to_thread(verified, core.settings)
    assert (told["logDamaged"], told["checkpoints"]) == (False, 2)
    assert core.keys.origin == name
    assert alpha.node is not None
    login = await alpha.node.call("POST", "/api/v1/login", alice.proof(await alpha.node.nonce()))
    assert login.status == 200, "the credential of registration is one of the former key"
    stale = await alpha.node.get("/api/v1/user/me", alice.token)
    assert stale.status == 401, "sessions of a stolen key end"


async def _backed_up(place: Place, folder: Path) -> Made:
    settings = place.core.settings
    return await asyncio.to_thread(make, settings, folder / "none", folder, keep=3, tell=_nobody)


def _nobody(what: str, done: int, total: int) -> None:
    """Show nothing."""
