"""Which address a request is counted against."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from events.errors import Misconfigured
from node.api.clients import KEPT, Clients, _key, _read


def key(remote: str | None, *forwarded: str, trusted: tuple[str, ...] = ()) -> str:
    headers = CIMultiDict([("X-Forwarded-For", text) for text in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote or "")
    return Clients(trusted).key(request)


PROXIES = ("10.0.0.0/8", "::1")


def test_a_stranger_says_what_it_likes_and_is_not_believed() -> None:
    assert key("192.0.2.7", "198.51.100.1") == "192.0.2.7"


def test_a_trusted_proxy_is_believed_about_its_own_client_only() -> None:
    assert key("10.0.0.1", "198.51.100.1", trusted=PROXIES) == "198.51.100.1"
    assert key("10.0.0.1", "203.0.113.9, 198.51.100.1", trusted=PROXIES) == "198.51.100.1"


def test_a_chain_of_trusted_proxies_is_followed_from_the_right() -> None:
    assert key("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", trusted=PROXIES) == "198.51.100.1"
    assert key("10.0.0.1", "203.0.113.9", "198.51.100.1, 10.0.0.2", trusted=PROXIES) == "198.51.100.1"


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "_hidden", "1.2.3.4:80", "\x00", "198.51.100.1,"])
def test_what_is_no_address_ends_the_chain(text: str) -> None:
    assert key("10.0.0.1", text, trusted=PROXIES) == "10.0.0.1"


def test_an_endless_chain_is_cut() -> None:
    assert key("10.0.0.1", ",".join(["10.0.0.2"] * 10_000), trusted=PROXIES) == "10.0.0.2"


def test_ipv6_clients_are_one_per_site() -> None:
    assert key("2001:db8:1:2::1") == key("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert key("2001:db8:1:3::1") == "2001:db8:1:3::/64"


def test_an_ipv4_address_in_ipv6_clothes_is_the_same_client() -> None:
    assert key("::ffff:192.0.2.7") == "192.0.2.7"
    assert key("::ffff:10.0.0.1", "198.51.100.1", trusted=PROXIES) == "198.51.100.1"


def test_brackets_and_zones_do_not_hide_an_address() -> None:
    assert key("::1", "[2001:db8:1:2::1]", trusted=PROXIES) == "2001:db8:1:2::/64"
    assert key("fe80::1%eth0") == "fe80::/64"


def test_a_socket_without_address_has_one_key() -> None:
    assert key(None) == "unknown"


@pytest.mark.parametrize("remote", ["2001:db8::1%" + "z" * 200, "1" * 10_000])
def test_what_is_too_long_for_an_address_is_none_and_is_not_remembered(remote: str) -> None:
    kept = _read.cache_info().currsize
    assert key(remote) == "unknown"
    assert key("10.0.0.1", remote, trusted=PROXIES) == "10.0.0.1"
    assert _read.cache_info().currsize <= kept + 1


def test_what_strangers_call_themselves_is_remembered_of_some_only() -> None:
    for number in range(KEPT + 100):
        _key(_read(f"2001:db8:{number:x}::1"))
    assert _read.cache_info().currsize == _key.cache_info().currsize == KEPT


@given(st.text(alphabet="0123456789abcdef.:,[]% x", max_size=60))
def test_any_header_gives_some_key(text: str) -> None:
    assert key("10.0.0.1", text, trusted=PROXIES)


def test_a_proxy_that_is_no_network_is_a_misconfiguration() -> None:
    with pytest.raises(Misconfigured, match=r"http\.trusted_proxies"):
        Clients(["10.0.0.1/8"])
