"""A change of keys against a real DNS server: what an operator does, and what peers see at each step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from events.errors import Busy, Conflict, NotFound
from events.log.clock import VirtualClock
from node.crypto.keys import ServerKeys, Stage, create_server_keys, load_server_keys
from node.discovery.publishing import Difference, OwnNames, own_names, survey, zone_lines
from node.discovery.resolver import Resolver
from node.key_rotation import KeyRotation, key_list
from node.settings import KeySettings, NodeSettings, Settings
from tests.integration.keys.readers import DAY_MS, SERVER, ManyKeysReader, OneKeyReader, settings_for
from tests.servers.dns import DnsServer, Fault, dns_server

HOUR_MS = 3_600_000
NAME = f"mailio._mailiokey.{SERVER}"


class Operator:
    """Somebody with a node, a zone, and patience by a virtual clock."""

    def __init__(self, folder: Path, server: DnsServer, clock: VirtualClock) -> None:
        self.server = server
        self.clock = clock
        self.path = folder / "keys" / "server.json"
        self.settings = Settings(
            node=NodeSettings(data=folder, server_domain=SERVER, email_domains=("alpha.example",)),
            discovery=settings_for(server),
        )
        self.keys = create_server_keys(self.path, clock.now())
        self.rotation = self._rotation()

    def _rotation(self) -> KeyRotation:
        return KeyRotation(self.path, self.keys, KeySettings(), self.clock, self._survey)

    def restart(self) -> None:
        """Forget everything but the file."""
        self.keys = load_server_keys(self.path)
        self.rotation = self._rotation()

    async def _survey(self) -> list[Difference]:
        resolver = Resolver(self.settings.discovery, self.clock)
        try:
            return list(await survey(own_names(self.settings), resolver))
        finally:
            await resolver.close()

    @property
    def names(self) -> OwnNames:
        return own_names(self.settings)

    def publish(self) -> None:
        """Put what `mailio-node dns` prints into the zone."""
        address = f"{SERVER}. 3600 IN A 192.0.2.1"
        self.server.publish("\n".join([*zone_lines(self.names), address, ""]))

    async def rotate(self) -> None:
        """Publish, take a step; where it is too early, wait for as long as the node says."""
        self.publish()
        try:
            await self.rotation.rotate()
        except Busy:
            self.wait()
            await self.rotation.rotate()

    def wait(self) -> None:
        until = key_list(self.keys, KeySettings())["waitUntil"]
        self.clock.advance(until - self.clock.now())


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as running:
        yield running


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def operator(tmp_path: Path, server: DnsServer, clock: VirtualClock) -> Operator:
    made = Operator(tmp_path, server, clock)
    made.publish()
    return made


async def taken(reader: OneKeyReader, keys: ServerKeys) -> int:
    """Return at which try a reader takes a request; 0 for never."""
    for number, signer in enumerate(keys.signers, 1):
        if await reader.takes(signer):
            return number
    return 0


async def test_nobody_refuses_anything_from_the_first_step_to_the_last(
    operator: Operator, server: DnsServer, clock: VirtualClock
) -> None:
    """Through four days, each hour: readers of one key who came at any hour, and a reader of many."""
    cache = Resolver(settings_for(server), clock)
    like_us = ManyKeysReader(server, clock)
    readers = [OneKeyReader(cache, clock)]
    second_tries = 0

    async def an_hour_of_mail() -> None:
        nonlocal second_tries
        readers.append(OneKeyReader(cache, clock))
        for reader in readers:
            tries = await taken(reader, operator.keys)
            assert tries, f"refused at {operator.keys.stage}"
            second_tries += tries - 1
        assert await like_us.takes(operator.keys), f"refused at {operator.keys.stage}"
        clock.advance(HOUR_MS)

    for stage in (Stage.ANNOUNCED, Stage.PROMOTED, Stage.SIGNING):
        for _ in range(8):
            await an_hour_of_mail()
        while operator.keys.stage is not stage:
            operator.publish()
            try:
                await operator.rotation.rotate()
            except Busy:
                await an_hour_of_mail()
        operator.publish()
        await an_hour_of_mail()
    while operator.keys.stage is not Stage.STEADY:
        try:
            await operator.rotation.retire()
        except Busy:
            await an_hour_of_mail()
    operator.publish()
    for _ in range(8):
        await an_hour_of_mail()
    assert second_tries > 0, "who comes while both are live may hold either"
    assert [type(one.event).__name__ for one in like_us.log.records] == ["PeerKeySeen"] * 2 + ["PeerKeyGone"]
    await like_us.close()
    await cache.close()


async def test_a_reader_of_one_key_believes_replies_again_after_one_request(
    operator: Operator, server: DnsServer, clock: VirtualClock
) -> None:
    """It does not look again because of a reply: what it holds is at most a day old, or renewed by a request."""
    cache = Resolver(settings_for(server), clock)
    reader = OneKeyReader(cache, clock)
    assert await reader.believes(operator.keys)
    for _ in range(3):
        await operator.rotate()
    clock.advance(HOUR_MS)
    assert operator.keys.stage is Stage.SIGNING
    assert not await reader.believes(operator.keys)
    assert await reader.takes(operator.keys)
    assert await reader.believes(operator.keys)
    await cache.close()


async def test_no_step_is_taken_before_dns_says_what_the_last_one_asked_for(
    operator: Operator, clock: VirtualClock
) -> None:
    await operator.rotation.rotate()
    for _ in range(3):
        with pytest.raises(Conflict, match=NAME):
            await operator.rotation.rotate()
        clock.advance(DAY_MS)
    operator.publish()
    with pytest.raises(Busy, match="may be remembered until"):
        await operator.rotation.rotate()
    clock.advance(HOUR_MS - 1)
    with pytest.raises(Busy):
        await operator.rotation.rotate()
    clock.advance(1)
    await operator.rotation.rotate()
    assert operator.keys.stage is Stage.PROMOTED
    with pytest.raises(Conflict, match="mailio-node dns"):
        await operator.rotation.rotate()


async def test_a_record_that_was_taken_back_begins_the_wait_anew(
    operator: Operator, server: DnsServer, clock: VirtualClock
) -> None:
    await operator.rotation.rotate()
    operator.publish()
    with pytest.raises(Busy):
        await operator.rotation.rotate()
    server.publish(f"{SERVER}. 60 IN MX 0 .\n")
    clock.advance(HOUR_MS)
    with pytest.raises(Conflict):
        await operator.rotation.rotate()
    operator.publish()
    with pytest.raises(Busy):
        await operator.rotation.rotate()


async def test_a_longer_ttl_is_waited_for(operator: Operator, server: DnsServer, clock: VirtualClock) -> None:
    await operator.rotation.rotate()
    operator.publish()
    text = next(line for line in zone_lines(operator.names) if "TXT" in line)
    others = [line for line in zone_lines(operator.names) if "TXT" not in line]
    server.publish("\n".join([*others, text.replace("\t3600\t", "\t43200\t"), ""]))
    with pytest.raises(Busy):
        await operator.rotation.rotate()
    clock.advance(11 * HOUR_MS)
    with pytest.raises(Busy):
        await operator.rotation.rotate()
    clock.advance(HOUR_MS)
    await operator.rotation.rotate()


async def test_a_silent_dns_is_no_reason_to_go_on_nor_to_begin_anew(
    operator: Operator, server: DnsServer, clock: VirtualClock
) -> None:
    await operator.rotation.rotate()
    operator.publish()
    with pytest.raises(Busy):
        await operator.rotation.rotate()
    clock.advance(HOUR_MS)
    server.faults[NAME] = Fault.SERVFAIL
    with pytest.raises(Busy, match="no answer"):
        await operator.rotation.rotate()
    server.faults.clear()
    await operator.rotation.rotate()
    assert operator.keys.stage is Stage.PROMOTED


async def test_a_restart_at_any_step_goes_on_from_there(operator: Operator, clock: VirtualClock) -> None:
    old = operator.keys.public_key
    for stage in (Stage.ANNOUNCED, Stage.PROMOTED, Stage.SIGNING):
        operator.publish()
        with_wait = operator.keys.stage is not Stage.STEADY
        if with_wait:
            with pytest.raises(Busy):
                await operator.rotation.rotate()
            operator.restart()
            operator.wait()
        await operator.rotation.rotate()
        operator.restart()
        assert operator.keys.stage is stage
    with pytest.raises(Conflict, match="keys retire"):
        await operator.rotation.rotate()
    with pytest.raises(Busy):
        await operator.rotation.retire()
    operator.wait()
    await operator.rotation.retire()
    operator.restart()
    assert operator.keys.stage is Stage.STEADY
    assert operator.keys.known[1:] == (old,)
    assert operator.names.second is None


async def test_the_last_key_is_not_retired_nor_the_one_that_signs_nor_a_strangers(operator: Operator) -> None:
    only = operator.keys.address
    for address in ("", only):
        for force in (False, True):
            with pytest.raises(Conflict, match="only key"):
                await operator.rotation.retire(address, force=force, stolen=force)
    with pytest.raises(NotFound):
        await operator.rotation.retire("0x" + "0" * 40, force=True)
    for _ in range(3):
        await operator.rotation.rotate(force=True)
        with pytest.raises(Conflict, match="signs"):
            await operator.rotation.retire(operator.keys.address, force=True)
    await operator.rotation.retire(only, force=True)
    with pytest.raises(Conflict, match="is retired"):
        await operator.rotation.retire(only, force=True)
    assert operator.keys.live == (operator.keys.public_key,)


async def test_a_change_may_be_given_up_before_it_is_first(operator: Operator) -> None:
    before = msgspec.json.decode(operator.path.read_bytes())
    await operator.rotation.rotate()
    await operator.rotation.retire()
    assert msgspec.json.decode(operator.path.read_bytes()) == before
    await operator.rotation.rotate(force=True)
    await operator.rotation.rotate(force=True)
    with pytest.raises(Conflict, match="--force"):
        await operator.rotation.retire()
    await operator.rotation.retire(force=True)
    assert msgspec.json.decode(operator.path.read_bytes()) == before


async def test_a_stolen_key_goes_at_once_and_one_may_be_called_stolen_later(operator: Operator) -> None:
    first = operator.keys.address
    for _ in range(3):
        await operator.rotation.rotate(force=True)
    await operator.rotation.retire(stolen=True)
    second = operator.keys.address
    for _ in range(3):
        await operator.rotation.rotate(force=True)
    await operator.rotation.retire(second, force=True)
    assert operator.keys.addresses[1:] == (first, second)
    assert [one.stolen for one in operator.keys.retired] == [True, False]
    await operator.rotation.retire(second, stolen=True)
    assert [one.stolen for one in operator.keys.retired] == [True, True]
    assert operator.keys.trusted == operator.keys.live


async def test_what_is_told_has_no_private_key(operator: Operator) -> None:
    for _ in range(3):
        await operator.rotation.rotate(force=True)
    await operator.rotation.retire(force=True)
    await operator.rotation.rotate(force=True)
    told = msgspec.json.encode(key_list(operator.keys, KeySettings())).decode()
    content = msgspec.json.decode(operator.path.read_bytes())
    for secret in (content["privateKey"], content["rotation"]["other"]["privateKey"]):
        assert secret not in told
    assert [one["state"] for one in key_list(operator.keys, KeySettings())["keys"]] == [
        "signs",
        "next",
        "retired",
    ]
