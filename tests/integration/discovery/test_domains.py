"""What kind of domain it is, from its records as a real DNS server gives them."""

from __future__ import annotations

import pytest

from events.errors import InvalidInput
from events.log.clock import VirtualClock
from node.crypto.base64_text import to_base64
from node.crypto.keys import ServerKeys
from node.discovery.answers import DnsUnavailable
from node.discovery.discovery import Discovery
from node.discovery.domains import DomainKind
from node.discovery.record import Flaw, MalformedRecord, record_text
from tests.servers.dns import DnsServer, Fault

KEY = ServerKeys(b"\x01" * 32, 0).public_key
OTHER = ServerKeys(b"\x02" * 32, 0).public_key
MX = "beta.example. 60 IN MX 10 mx.beta.example.\n"
APEX = "mailio._mailiokey.beta.example"
MIO = "mailio._mailiokey.mio.beta.example"


def key_at(name: str, key: bytes = KEY) -> str:
    return f'{name}. 60 IN TXT "{record_text(key)}"\n'


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (MX + key_at(APEX), (DomainKind.MAILIO, "beta.example", True)),
        (MX + key_at(MIO), (DomainKind.MAILIO, "mio.beta.example", True)),
        (key_at(MIO), (DomainKind.MAILIO, "mio.beta.example", False)),
        ("beta.example. 60 IN MX 0 .\n" + key_at(MIO), (DomainKind.MAILIO, "mio.beta.example", False)),
        (MX, (DomainKind.SMTP, "", True)),
        (MX + f'{APEX}. 60 IN TXT "v=spf1 -all"\n', (DomainKind.SMTP, "", True)),
        ("beta.example. 60 IN MX 0 .\n", (DomainKind.NEITHER, "", False)),
        ("beta.example. 60 IN A 192.0.2.1\n", (DomainKind.NEITHER, "", False)),
        ("", (DomainKind.NEITHER, "", False)),
    ],
)
async def test_a_domain_is_mailio_or_plain_mail_or_neither(
    server: DnsServer, discovery: Discovery, zone: str, expected: tuple[DomainKind, str, bool]
) -> None:
    server.publish(zone)
    found = await discovery.domains.look_up("beta.example")
    assert (found.kind, found.server, found.takes_mail) == expected


async def test_the_names_are_asked_in_order_until_one_has_a_record(
    server: DnsServer, discovery: Discovery
) -> None:
    server.publish(MX + key_at("mailio._mailiokey.mailio.beta.example"))
    await discovery.domains.look_up("Beta.Example.")
    assert server.questions("TXT") == [APEX, MIO, "mailio._mailiokey.mailio.beta.example"]


async def test_the_first_name_with_a_record_wins(server: DnsServer, discovery: Discovery) -> None:
    server.publish(key_at(APEX) + key_at(MIO, OTHER))
    found = await discovery.domains.look_up("beta.example")
    assert found.record is not None
    assert (found.server, found.record.public_key) == ("beta.example", KEY)


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.BOGUS])
async def test_a_name_that_can_not_be_asked_ends_the_search(
    server: DnsServer, discovery: Discovery, fault: Fault
) -> None:
    server.publish(MX + key_at(MIO))
    server.faults[APEX] = fault
    found = await discovery.domains.look_up("beta.example")
    with pytest.raises(DnsUnavailable):
        _ = found.kind
    assert server.questions("TXT") == [APEX]
    assert found.domain().mailio_check_error == "DNS gave no answer"
    assert found.takes_mail


async def test_a_malformed_record_is_no_plain_mail_domain(server: DnsServer, discovery: Discovery) -> None:
    server.publish(f'{MX}{APEX}. 60 IN TXT "v=MAILIO1; k=ed25519"\n{key_at(MIO)}')
    found = await discovery.domains.look_up("beta.example")
    with pytest.raises(MalformedRecord) as refused:
        found.require()
    assert refused.value.flaw is Flaw.TRUNCATED
    assert Flaw.TRUNCATED in found.domain().mailio_check_error


async def test_a_failing_mx_hides_no_key_but_leaves_a_domain_without_one_open(
    server: DnsServer, discovery: Discovery
) -> None:
    server.publish(key_at(APEX))
    server.faults["beta.example"] = server.faults["gamma.example"] = Fault.SERVFAIL
    assert (await discovery.domains.look_up("beta.example")).kind is DomainKind.MAILIO
    with pytest.raises(DnsUnavailable):
        _ = (await discovery.domains.look_up("gamma.example")).kind


async def test_a_removed_record_takes_its_key_along(
    server: DnsServer, discovery: Discovery, clock: VirtualClock
) -> None:
    server.publish(MX + key_at(APEX))
    await discovery.domains.look_up("beta.example")
    server.publish(MX)
    clock.advance(60_000)
    found = await discovery.domains.look_up("beta.example", force=True)
    assert (found.kind, found.domain().mailio_public_key) == (DomainKind.SMTP, "")


async def test_a_changed_key_is_seen_at_once_by_force(
    server: DnsServer, discovery: Discovery, clock: VirtualClock
) -> None:
    server.publish(key_at(APEX).replace(" 60 ", " 86400 "))
    await discovery.domains.look_up("beta.example")
    server.publish(key_at(APEX, OTHER))
    clock.advance(60_000)
    domain = (await discovery.domains.look_up("beta.example", force=True)).domain()
    assert (domain.mailio_public_key, domain.timestamp) == (to_base64(OTHER), clock.now())


async def test_a_name_in_unicode_is_asked_for_in_ascii(server: DnsServer, discovery: Discovery) -> None:
    await discovery.domains.look_up("bücher.example")
    assert server.questions("MX") == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "domain",
    ["localhost", "a.localhost", "printer.local", "intranet", "127.0.0.1", "[::1]", "beta.example:443", "a..b",
     "a b.example", "", ".", "a/b.example", "beta.example#x", f"{'a.' * 118}example", "straße.example"],
)  # fmt: skip
async def test_what_nobody_could_publish_is_not_asked_for(
    server: DnsServer, discovery: Discovery, domain: str
) -> None:
    with pytest.raises(InvalidInput):
        await discovery.domains.look_up(domain)
    assert server.asked == []


async def test_a_domain_too_long_for_a_prefix_is_asked_without_it(
    server: DnsServer, discovery: Discovery
) -> None:
    name = f"{'a.' * 111}example"
    assert (await discovery.domains.look_up(name)).kind is DomainKind.NEITHER
    assert len(server.questions("TXT")) == 2
