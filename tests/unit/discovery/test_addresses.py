"""Which addresses are public, and which texts lead to a host at all: the SSRF matrix without a network."""

from __future__ import annotations

import ipaddress

import pytest

from node.discovery.addresses import is_public
from node.discovery.limits import DiscoverySettings, resolver_address
from node.discovery.targets import FetchRefused, Refusal, target_of

STRICT = DiscoverySettings()
OPEN = DiscoverySettings(loopback=True)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "193.0.6.139", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::8.8.8.8",
        "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136::1",
        "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1", "fd12::1",
        "fe80::1", "fe80::1%eth0", "2606:4700::1111%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1",
    ],
)  # fmt: skip
def test_no_other_address_is(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_the_operator_may_close_more() -> None:
    refused = [ipaddress.ip_network("8.8.8.0/24"), ipaddress.ip_network("2606:4700::/32")]
    assert not is_public(ipaddress.ip_address("8.8.8.8"), refused)
    assert not is_public(ipaddress.ip_address("2606:4700::1111"), refused)
    assert is_public(ipaddress.ip_address("8.8.4.4"), refused)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://mio.beta.example/0x1/did.json", "https://mio.beta.example/0x1/did.json"),
        ("HTTPS://MIO.Beta.Example", "https://mio.beta.example/"),
        ("https://beta.example.:443/a?b=c%2f#d", "https://beta.example/a?b=c%2f"),
        ("https://beta.example/a%2e%2e/b", "https://beta.example/a%2e%2e/b"),
    ],
)
def test_a_good_address_is_made_again_of_its_parts(text: str, url: str) -> None:
    assert str(target_of(text, STRICT).url) == url


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("http://beta.example/", Refusal.SCHEME),
        ("ftp://beta.example/", Refusal.SCHEME),
        ("file:///etc/passwd", Refusal.SCHEME),
        ("beta.example/", Refusal.MALFORMED),
        ("//beta.example/", Refusal.MALFORMED),
        ("https:beta.example/", Refusal.MALFORMED),
        ("https:///beta.example/", Refusal.HOST),
        ("https://", Refusal.HOST),
        ("https://beta.example\\@127.0.0.1/", Refusal.MALFORMED),
        ("https://beta.example/ x", Refusal.MALFORMED),
        ("https://beta.example/\r\nHost: x", Refusal.MALFORMED),
        ("https://beta.example\t/", Refusal.MALFORMED),
        ("https://１２７.０.０.１/", Refusal.MALFORMED),
        ("https://bücher.example/", Refusal.MALFORMED),
        (f"https://beta.example/{'x' * 2_048}", Refusal.MALFORMED),
        ("https://user@beta.example/", Refusal.USERINFO),
        ("https://user:secret@beta.example/", Refusal.USERINFO),
        ("https://beta.example@127.0.0.1/", Refusal.USERINFO),
        ("https://beta.example%40127.0.0.1/", Refusal.LITERAL),
        ("https://@beta.example/", Refusal.USERINFO),
        ("https://127.0.0.1/", Refusal.LITERAL),
        ("https://127.0.0.1./", Refusal.LITERAL),
        ("https://8.8.8.8/", Refusal.LITERAL),
        ("https://2130706433/", Refusal.LITERAL),
        ("https://0x7f000001/", Refusal.LITERAL),
        ("https://0x7f.1/", Refusal.LITERAL),
        ("https://017700000001/", Refusal.LITERAL),
        ("https://0177.0.0.1/", Refusal.LITERAL),
        ("https://127.1/", Refusal.LITERAL),
        ("https://beta.example.0x/", Refusal.LITERAL),
        ("https://[::1]/", Refusal.LITERAL),
        ("https://[::ffff:127.0.0.1]/", Refusal.LITERAL),
        ("https://[fe80::1%25eth0]/", Refusal.LITERAL),
        ("https://localhost/", Refusal.HOST),
        ("https://a.localhost/", Refusal.HOST),
        ("https://intranet/", Refusal.HOST),
        ("https://beta..example/", Refusal.HOST),
        ("https://-beta.example/", Refusal.HOST),
        ("https://beta_x.example/", Refusal.HOST),
        ("https://be%74a.example/", Refusal.HOST),
        ("https://beta.example:80/", Refusal.PORT),
        ("https://beta.example:22/", Refusal.PORT),
        ("https://beta.example:/", Refusal.PORT),
        ("https://beta.example:0/", Refusal.PORT),
        ("https://beta.example:0443/", Refusal.PORT),
        ("https://beta.example:65979/", Refusal.PORT),
        ("https://beta.example:443:443/", Refusal.HOST),
    ],
)
def test_a_bad_address_is_refused_by_name_and_says_nothing_outside(text: str, refusal: Refusal) -> None:
    with pytest.raises(FetchRefused) as refused:
        target_of(text, STRICT)
    assert refused.value.refusal is refusal
    assert refused.value.public == "the address can't be fetched"


def test_the_operator_may_allow_more_ports() -> None:
    settings = DiscoverySettings(ports=(443, 8443))
    assert str(target_of("https://beta.example:8443/", settings).url) == "https://beta.example:8443/"


@pytest.mark.parametrize(
    "text", ["http://localhost:8025/", "http://127.0.0.1:8025/", "https://[::1]:8025/", "https://localhost/"]
)
def test_this_machine_is_open_to_developers_only(text: str) -> None:
    assert target_of(text, OPEN).local
    with pytest.raises(FetchRefused):
        target_of(text, STRICT)


@pytest.mark.parametrize(
    "text", ["http://10.0.0.1/", "https://2130706433/", "http://0x7f.1/", "https://[::2]/"]
)
def test_other_literals_stay_closed_to_developers(text: str) -> None:
    with pytest.raises(FetchRefused) as refused:
        target_of(text, OPEN)
    assert refused.value.refusal is Refusal.LITERAL


def test_http_to_a_name_is_for_this_machine_only() -> None:
    assert target_of("http://beta.example/", OPEN).local
    assert target_of("https://beta.example:8443/", OPEN).local
    assert not target_of("https://beta.example/", OPEN).local


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_a_resolver_is_an_address_and_perhaps_a_port(text: str, address: tuple[str, int]) -> None:
    assert resolver_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "dns.example", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:70000"]
)
def test_anything_else_is_no_resolver(text: str) -> None:
    with pytest.raises(ValueError, match="resolvers"):
        DiscoverySettings(resolvers=(text,))
