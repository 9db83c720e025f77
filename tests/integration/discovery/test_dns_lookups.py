"""Lookups against a real DNS server: what each answer and each fault becomes, and how long it is kept."""

from __future__ import annotations

import asyncio

import pytest

from events.errors import Busy
from events.log.clock import VirtualClock
from node.discovery.answers import Answer, DnsUnavailable, Kind, Outcome
from node.discovery.discovery import Discovery
from node.discovery.limits import DiscoverySettings
from node.discovery.resolver import Resolver
from tests.integration.discovery.conftest import settings_for
from tests.servers.dns import DnsServer, Fault

SECOND = 1_000
NAME = "a.example"


@pytest.fixture
def resolver(discovery: Discovery) -> Resolver:
    return discovery.resolver


async def quick(server: DnsServer, name: str = NAME, kind: Kind = "TXT") -> Answer:
    """Ask once with little patience."""
    resolver = Resolver(settings_for(server, lookup_seconds=0.3, attempt_seconds=0.2), VirtualClock())
    return await resolver.look_up(name, kind)


async def test_values_come_in_presentation_form(server: DnsServer, resolver: Resolver) -> None:
    server.publish(
        'a.example. 60 IN TXT "v=MAILIO1; " "k=ed25519"\n'
        'b.example. 60 IN TXT "\\195\\188\\000"\n'
        "a.example. 60 IN MX 10 MX.Example.\na.example. 60 IN MX 20 other.example.\n"
        "n.example. 60 IN MX 0 .\na.example. 60 IN A 192.0.2.1\na.example. 60 IN AAAA 2001:db8::1\n"
    )
    assert (await resolver.look_up("A.example", "TXT")).values == ("v=MAILIO1; k=ed25519",)
    assert (await resolver.look_up("b.example", "TXT")).values == ("\\xc3\\xbc\x00",)
    assert set((await resolver.look_up("a.example", "MX")).values) == {"10 mx.example", "20 other.example"}
    assert (await resolver.look_up("n.example", "MX")).values == ("0 .",)
    assert (await resolver.look_up("a.example", "A")).values == ("192.0.2.1",)
    assert (await resolver.look_up("a.example", "AAAA")).values == ("2001:db8::1",)


async def test_no_such_name_and_no_such_record_differ_from_each_other_and_from_failure(
    server: DnsServer, resolver: Resolver
) -> None:
    server.publish("a.example. 60 IN A 192.0.2.1\nx.b.example. 60 IN A 192.0.2.1\n")
    server.faults["f.example"] = Fault.SERVFAIL
    found = {
        name: await resolver.look_up(name, "TXT")
        for name in ("a.example", "b.example", "c.example", "f.example")
    }
    assert [answer.outcome for answer in found.values()] == [
        Outcome.NO_DATA, Outcome.NO_DATA, Outcome.NO_NAME, Outcome.FAILED,
    ]  # fmt: skip
    assert [answer.temporary for answer in found.values()] == [False, False, False, True]
    assert found["c.example"].require() == ()
    with pytest.raises(DnsUnavailable):
        found["f.example"].require()


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        (Fault.SERVFAIL, Outcome.FAILED, "SERVFAIL"),
        (Fault.REFUSED, Outcome.FAILED, "REFUSED"),
        (Fault.BOGUS, Outcome.FAILED, "SERVFAIL EDE 6 (DNSSEC Bogus)"),
        (Fault.SILENT, Outcome.TIMED_OUT, ""),
        (Fault.WRONG_ID, Outcome.TIMED_OUT, ""),
        (Fault.GARBAGE, Outcome.TIMED_OUT, ""),
    ],
)
async def test_a_fault_is_told_by_name_and_never_an_absence(
    server: DnsServer, fault: Fault, outcome: Outcome, reason: str
) -> None:
    server.publish('a.example. 60 IN TXT "x"\n')
    server.faults[NAME] = fault
    answer = await quick(server)
    assert (answer.outcome, answer.reason) == (outcome, reason)


async def test_a_forgery_with_a_wrong_id_is_passed_over(server: DnsServer) -> None:
    server.publish('a.example. 60 IN TXT "true"\n')
    server.faults[NAME] = Fault.FORGED_FIRST
    assert (await quick(server)).values == ("true",)


async def test_an_answer_that_is_cut_off_is_asked_for_again_over_tcp(server: DnsServer) -> None:
    server.publish('a.example. 60 IN TXT "whole"\n')
    server.faults[NAME] = Fault.TRUNCATED
    assert (await quick(server)).values == ("whole",)
    assert [transport for _, _, transport in server.asked] == ["UDP", "TCP"]


async def test_names_lead_on_and_may_not_lead_in_a_circle(server: DnsServer) -> None:
    server.publish(
        'a.example. 300 IN CNAME b.example.\nb.example. 9 IN CNAME c.example.\nc.example. 60 IN TXT "x"\n'
        "l.example. 60 IN CNAME m.example.\nm.example. 60 IN CNAME l.example.\n"
    )
    answer = await quick(server)
    assert (answer.values, answer.ttl) == (("x",), 9)
    circle = await quick(server, "l.example")
    assert (circle.outcome, circle.reason) == (Outcome.FAILED, "the CNAMEs lead nowhere")


async def test_a_clock_that_is_set_back_keeps_no_answer_longer(
    server: DnsServer, resolver: Resolver, clock: VirtualClock
) -> None:
    server.publish('a.example. 60 IN TXT "old"\n')
    assert (await resolver.look_up(NAME, "TXT")).values == ("old",)
    clock.advance(-86_400_000)
    server.publish('a.example. 60 IN TXT "new"\n')
    assert (await resolver.look_up(NAME, "TXT")).values == ("new",)


async def test_an_answer_without_measure_is_not_kept(server: DnsServer) -> None:
    server.publish("".join(f'a.example. 60 IN TXT "{number:0250d}"\n' for number in range(40)))
    answer = await quick(server)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "the answer is too large")


async def test_the_next_resolver_is_asked_when_one_does_not_answer(server: DnsServer) -> None:
    server.publish('a.example. 60 IN TXT "x"\n')
    settings = DiscoverySettings(resolvers=("127.0.0.1:9", server.address), attempt_seconds=0.2)
    assert (await Resolver(settings, VirtualClock()).look_up(NAME, "TXT")).values == ("x",)


async def test_what_dnssec_proved_is_marked(server: DnsServer) -> None:
    server.publish('a.example. 60 IN TXT "x"\n')
    assert not (await quick(server)).validated
    server.validated = True
    assert (await quick(server)).validated


# Remembering


@pytest.mark.parametrize(
    ("ttl", "used"), [(0, 5), (3, 5), (60, 60), (10_000_000, 86_400)], ids=["zero", "short", "usual", "long"]
)
async def test_an_answer_is_used_as_long_as_its_ttl_says_within_bounds(
    server: DnsServer, resolver: Resolver, clock: VirtualClock, ttl: int, used: int
) -> None:
    server.publish(f'a.example. {ttl} IN TXT "x"\n')
    for moved, questions in ((0, 1), (used * SECOND - 1, 1), (1, 2)):
        clock.advance(moved)
        await resolver.look_up(NAME, "TXT")
        assert len(server.asked) == questions


@pytest.mark.parametrize(
    ("fault", "used"), [(None, 60), (Fault.NO_SOA, 5), (Fault.SERVFAIL, 30), (Fault.REFUSED, 30)]
)
async def test_a_no_lives_as_long_as_the_zone_says_and_a_failure_for_a_moment(
    server: DnsServer, resolver: Resolver, clock: VirtualClock, fault: Fault | None, used: int
) -> None:
    if fault is not None:
        server.faults[NAME] = fault
    await resolver.look_up(NAME, "TXT")
    clock.advance(used * SECOND - 1)
    await resolver.look_up(NAME, "TXT")
    assert len(server.asked) == 1
    clock.advance(1)
    await resolver.look_up(NAME, "TXT")
    assert len(server.asked) == 2


async def test_many_who_ask_for_one_name_share_one_question(server: DnsServer, resolver: Resolver) -> None:
    server.publish('a.example. 0 IN TXT "x"\n')
    server.hold = asyncio.Event()
    tasks = [asyncio.create_task(resolver.look_up(NAME, "TXT")) for _ in range(20)]
    await server.was_asked.wait()
    tasks.pop().cancel()
    server.hold.set()
    answers = await asyncio.gather(*tasks)
    assert {answer.values for answer in answers} == {("x",)}
    assert len(server.asked) == 1


async def test_slow_name_servers_do_not_hold_up_others_for_long(
    server: DnsServer, clock: VirtualClock
) -> None:
    server.publish('a.example. 60 IN TXT "x"\n')
    server.faults |= {"slow.example": Fault.SILENT, "slower.example": Fault.SILENT}
    resolver = Resolver(settings_for(server, lookups=1, lookup_seconds=0.3), clock)
    names = ("slow.example", "slower.example", "last.example")
    found = await asyncio.gather(*(resolver.look_up(name, "TXT") for name in names), return_exceptions=True)
    assert any(isinstance(one, Busy) for one in found)
    assert (await resolver.look_up(NAME, "TXT")).values == ("x",)


async def test_the_memory_is_bounded_and_what_is_used_stays(server: DnsServer, clock: VirtualClock) -> None:
    resolver = Resolver(settings_for(server, names=3), clock)
    for name in ("a.example", "b.example", "c.example", "a.example", "d.example", "a.example", "b.example"):
        await resolver.look_up(name, "TXT")
    assert server.questions() == ["a.example", "b.example", "c.example", "d.example", "b.example"]


async def test_force_asks_again_but_not_all_the_time(
    server: DnsServer, resolver: Resolver, clock: VirtualClock
) -> None:
    server.publish('a.example. 3600 IN TXT "old"\n')
    await resolver.look_up(NAME, "TXT")
    server.publish('a.example. 3600 IN TXT "new"\n')
    assert (await resolver.look_up(NAME, "TXT", force=True)).values == ("old",)
    clock.advance(60 * SECOND)
    assert (await resolver.look_up(NAME, "TXT")).values == ("old",)
    assert (await resolver.look_up(NAME, "TXT", force=True)).values == ("new",)
    assert (await resolver.look_up(NAME, "TXT")).values == ("new",)
    assert len(server.asked) == 2


async def test_while_lookups_fail_the_last_good_answer_is_used_for_a_time(
    server: DnsServer, resolver: Resolver, clock: VirtualClock
) -> None:
    server.publish('a.example. 60 IN TXT "good"\n')
    await resolver.look_up(NAME, "TXT")
    server.faults[NAME] = Fault.SERVFAIL
    for _ in range(2):
        clock.advance(60 * SECOND)
        answer = await resolver.look_up(NAME, "TXT", force=True)
        assert (answer.values, answer.stale, answer.reason) == (("good",), True, "failed SERVFAIL")
    clock.advance(3_600 * SECOND)
    assert (await resolver.look_up(NAME, "TXT")).temporary
    server.faults.clear()
    clock.advance(30 * SECOND)
    answer = await resolver.look_up(NAME, "TXT")
    assert (answer.values, answer.stale, answer.reason) == (("good",), False, "")


async def test_a_record_that_was_removed_is_forgotten(
    server: DnsServer, resolver: Resolver, clock: VirtualClock
) -> None:
    server.publish('a.example. 60 IN TXT "good"\n')
    await resolver.look_up(NAME, "TXT")
    server.publish("")
    clock.advance(60 * SECOND)
    assert (await resolver.look_up(NAME, "TXT")).outcome is Outcome.NO_NAME
