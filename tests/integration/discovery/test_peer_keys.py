"""Keys of peers: DNS says them, the log keeps them, and nobody else has a say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from events.errors import InvalidInput, NotFound
from events.log.clock import VirtualClock
from events.peer import MAX_CHANGES, KeysUnstable, PeerKeyGone, PeerKeySeen
from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys
from node.discovery.answers import DnsUnavailable
from node.discovery.discovery import Discovery
from node.discovery.peer_keys import NEW_PEERS, DnsPeerKeys, key_history
from node.discovery.record import MalformedRecord, record_text
from tests.fakes.memory_log import MemoryLog
from tests.servers.dns import DnsServer, Fault

OLD, NEW, THIRD = (ServerKeys(bytes([n]) * 32, 0).public_key for n in (1, 2, 3))
NAME = "mailio._mailiokey.mio.beta.example"
PEER = "mio.beta.example"


def records(*texts: str, name: str = NAME) -> str:
    return "".join(f'{name}. 60 IN TXT "{text}"\n' for text in texts)


@pytest.fixture
def log(clock: VirtualClock) -> MemoryLog:
    return MemoryLog(clock)


@pytest.fixture
async def keys(discovery: Discovery, log: MemoryLog, clock: VirtualClock) -> AsyncIterator[DnsPeerKeys]:
    made = DnsPeerKeys(discovery.domains, log, clock)
    yield made
    await made.close()


def told(log: MemoryLog) -> list[tuple[type, str]]:
    return [(type(one.event), getattr(one.event, "public_key", "")) for one in log.records]


async def test_a_key_is_given_out_and_kept_once(server: DnsServer, keys: DnsPeerKeys, log: MemoryLog) -> None:
    server.publish(records(record_text(OLD)))
    assert await asyncio.gather(*(keys.of("MIO.beta.example.") for _ in range(3))) == [(OLD,)] * 3
    assert told(log) == [(PeerKeySeen, to_base64(OLD))]
    assert log.records[0].stream == "peer-mio.beta.example"
    assert server.questions() == [NAME]


@pytest.mark.parametrize(
    "both", [(record_text(OLD), record_text(NEW)), (record_text(OLD, NEW),), (record_text(NEW, OLD),)]
)
async def test_through_a_rotation_both_keys_count_newest_first(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock, both: tuple[str, ...]
) -> None:
    server.publish(records(record_text(OLD)))
    assert await keys.of(PEER) == (OLD,)
    server.publish(records(*both))
    clock.advance(60_000)
    assert await keys.of(PEER, refresh=True) == (NEW, OLD)
    server.publish(records(record_text(NEW)))
    clock.advance(60_000)
    assert await keys.of(PEER) == (NEW,)
    assert told(log) == [
        (PeerKeySeen, to_base64(OLD)),
        (PeerKeySeen, to_base64(NEW)),
        (PeerKeyGone, to_base64(OLD)),
    ]
    (first, second) = await key_history(log, PEER)
    assert (first.public_key, first.gone_at) == (to_base64(OLD), clock.now())
    assert (second.public_key, second.gone_at) == (to_base64(NEW), 0)


async def test_a_restart_knows_what_was_seen(
    server: DnsServer, discovery: Discovery, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock
) -> None:
    server.publish(records(record_text(OLD, NEW)))
    await keys.of(PEER)
    again = DnsPeerKeys(discovery.domains, log, clock)
    assert set(await again.of(PEER)) == {OLD, NEW}
    assert len(log.records) == 2


async def test_a_refresh_is_bounded_for_each_domain(
    server: DnsServer, keys: DnsPeerKeys, clock: VirtualClock
) -> None:
    server.publish(records(record_text(OLD)))
    for _ in range(20):
        await keys.of(PEER, refresh=True)
    clock.advance(60_000)
    for _ in range(20):
        await keys.of(PEER, refresh=True)
    assert len(server.asked) == 2


async def test_a_withdrawn_key_counts_no_more(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock
) -> None:
    with pytest.raises(NotFound):
        await keys.of(PEER)
    assert log.records == []
    server.publish(records(record_text(OLD)))
    clock.advance(3_600_000)
    assert await keys.of(PEER) == (OLD,)
    server.publish("")
    clock.advance(60_000)
    with pytest.raises(NotFound):
        await keys.of(PEER)
    assert [kind for kind, _ in told(log)] == [PeerKeySeen, PeerKeyGone]


async def test_a_fault_of_dns_is_no_change(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock
) -> None:
    server.publish(records(record_text(OLD)))
    await keys.of(PEER)
    server.faults[NAME] = Fault.SERVFAIL
    clock.advance(60_000)
    assert await keys.of(PEER) == (OLD,)  # The last good answer, for `stale_seconds`.
    clock.advance(2 * 3_600_000)
    with pytest.raises(DnsUnavailable):
        await keys.of(PEER)
    assert len(log.records) == 1


async def test_a_key_of_a_name_below_or_above_is_not_the_server_s(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog
) -> None:
    """Whoever has `mio.beta.example` does not sign as `beta.example`, nor the other way round."""
    server.publish(records(record_text(OLD)))
    for other in ("beta.example", "mio.mio.beta.example"):
        with pytest.raises(NotFound):
            await keys.of(other)
    assert log.records == []


@pytest.mark.parametrize(
    "bad",
    [
        f"v=MAILIO1; k=ed25519; p={to_base64(NEW[:31])}",
        f"v=MAILIO1; k=ed25519; p={to_base64(NEW + NEW)}",
        f"v=MAILIO1; k=x25519; p={to_base64(NEW)}",
        f"v=MAILIO1; k=ed25519; p={to_base64(bytes(32))}",
    ],
)
async def test_a_bad_key_beside_a_good_one_is_no_key(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, bad: str
) -> None:
    server.publish(records(bad, record_text(OLD)))
    assert await keys.of(PEER) == (OLD,)
    assert told(log) == [(PeerKeySeen, to_base64(OLD))]


async def test_a_bad_key_alone_is_an_error_and_five_good_ones_are_too(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog
) -> None:
    many = [record_text(ServerKeys(bytes([n]) * 32, 0).public_key) for n in range(1, 6)]
    server.publish(records("v=MAILIO1; k=ed25519; p=") + records(*many, name="mailio._mailiokey.c.example"))
    for domain in (PEER, "c.example"):
        with pytest.raises(MalformedRecord):
            await keys.of(domain)
    assert log.records == []


async def test_a_peer_that_flips_its_keys_fills_no_log(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock
) -> None:
    refused = 0
    for turn in range(60):
        server.publish(records(record_text((OLD, NEW)[turn % 2])))
        clock.advance(60_000)
        try:
            await keys.of(PEER, refresh=True)
        except KeysUnstable:
            refused += 1
    assert len(log.records) <= MAX_CHANGES
    assert refused > 20  # Every other turn it is back at the key that was noted last.
    server.publish(records(record_text(THIRD)))
    clock.advance(86_400_000)
    assert await keys.of(PEER) == (THIRD,)


async def test_a_wildcard_of_domains_fills_no_log_and_shuts_nobody_out(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog, clock: VirtualClock
) -> None:
    count = NEW_PEERS.burst + 20
    names = [f"s{n}.evil.example" for n in range(count)]
    zone = "".join(records(record_text(OLD), name=f"mailio._mailiokey.{name}") for name in names)
    server.publish(zone + records(record_text(NEW)))
    for name in names:
        assert await keys.of(name) == (OLD,)
    assert len(log.records) == NEW_PEERS.burst
    assert await keys.of(PEER) == (NEW,)
    clock.advance(10_000)
    assert await keys.of(PEER) == (NEW,)
    assert told(log)[-1] == (PeerKeySeen, to_base64(NEW))


@pytest.mark.parametrize("domain", ["localhost", "a.localhost", "beta.example:443", "127.0.0.1", "beta"])
async def test_a_name_that_nobody_can_publish_under_has_no_keys(
    server: DnsServer, keys: DnsPeerKeys, domain: str
) -> None:
    with pytest.raises(InvalidInput):
        await keys.of(domain)
    assert server.asked == []


async def test_what_is_not_stored_is_not_given_out(
    server: DnsServer, keys: DnsPeerKeys, log: MemoryLog
) -> None:
    server.publish(records(record_text(OLD)))
    log.faults.append(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        await keys.of(PEER)
    assert await keys.of(PEER) == (OLD,)


async def test_dnssec_is_noted(server: DnsServer, keys: DnsPeerKeys, log: MemoryLog) -> None:
    server.validated = True
    server.publish(records(record_text(OLD)))
    await keys.of(PEER)
    (span,) = await key_history(log, PEER)
    assert span.validated
