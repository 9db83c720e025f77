"""`mailio-node dns` and the doctor, as an operator calls them, against a real DNS server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node.crypto.keys import load_or_create_server_keys
from node.discovery.record import record_text
from tests.program import call
from tests.servers.dns import DnsServer, Fault

TXT = "mailio._mailiokey.mio.alpha.example"
Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The record of the node below the test's folder."""
    (tmp_path / "var" / "keys").mkdir(parents=True)
    return record_text(load_or_create_server_keys(tmp_path / "var/keys/server.json", 0).public_key)


@pytest.fixture
def command(tmp_path: Path, server: DnsServer) -> Command:
    file = tmp_path / "node.toml"
    file.write_text(
        f'[node]\nserver_domain = "mio.alpha.example"\ndata = "var"\n'
        f'[smtp]\nlisten = "127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'
        f'[discovery]\nresolvers = ["{server.address}"]\nlookup_seconds = 2.0\n'
    )

    return partial(call, file)


async def test_the_operator_publishes_what_is_printed_and_then_all_is_fine(
    server: DnsServer, command: Command, text: str
) -> None:
    code, out, err = await command("dns")
    assert (code, err) == (1, "")
    zone, _, table = out.partition("\n\n")
    assert f'{TXT}.\t3600\tIN\tTXT\t"{text}"' in zone.splitlines()
    assert table.count("publish it") == 4
    assert "by which peers find and check it" in table
    server.publish(zone + "\nmio.alpha.example. 60 IN A 192.0.2.1\n")
    code, out, _ = await command("dns")
    assert code == 0
    assert out.count("fine") == 5
    code, out, _ = await command("dns", "lookup", "someone@alpha.example")
    assert code == 0
    assert "mio.alpha.example publishes a Mailio record" in out
    code, out, _ = await command("doctor", "--json")
    (finding,) = [one for one in json.loads(out) if one["check"] == "dns"]
    assert finding["state"] == "fine"


async def test_differences_are_told_to_scripts(server: DnsServer, command: Command, text: str) -> None:
    server.publish(
        f'mio.alpha.example. 60 IN AAAA 2001:db8::1\n{TXT}. 60 IN TXT "v=MAILIO1; k=ed25519; p=x"\n'
        f'mailio._mailiokey.alpha.example. 60 IN TXT "{text}"\n'
    )
    server.faults["alpha.example"] = Fault.SERVFAIL
    code, out, _ = await command("dns", "--json")
    assert code == 1
    states = {(one["type"], one["name"]): one["state"] for one in json.loads(out)["records"]}
    assert states == {
        ("A", "mio.alpha.example"): "fine",
        ("TXT", TXT): "different",
        ("MX", "mio.alpha.example"): "missing",
        ("MX", "alpha.example"): "unknown",
        ("TXT", "mailio._mailiokey.alpha.example"): "extra",
    }
    _, out, _ = await command("doctor", "--json")
    (finding,) = [one for one in json.loads(out) if one["check"] == "dns"]
    assert finding["state"] == "wrong"
    assert "mailio-node dns" in finding["advice"]


async def test_a_development_node_has_nothing_to_publish(
    server: DnsServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILIO_NODE_SERVER_DOMAIN", "localhost")
    code, _, err = await command("dns")
    assert code == 78
    assert "node.server_domain" in err
    _, out, _ = await command("doctor", "--json")
    assert "dns" not in [one["check"] for one in json.loads(out)]
    assert server.asked == []


async def test_a_node_without_a_key_is_told_what_to_do(command: Command) -> None:
    code, _, err = await command("dns")
    assert code == 78
    assert "mailio-node run" in err


@pytest.mark.parametrize(
    ("domain", "expected", "says"),
    [
        ("plain.example", (0, "smtp"), "it has an MX"),
        ("nobody.example", (0, "neither"), "MX: no such name"),
        ("broken.example", (1, "unknown"), "malformed"),
        ("bogus.example", (75, "unknown"), "DNSSEC Bogus"),
    ],
)
async def test_a_lookup_says_what_the_domain_is_and_why(
    server: DnsServer, command: Command, domain: str, expected: tuple[int, str], says: str
) -> None:
    server.publish(
        "plain.example. 60 IN MX 10 mx.plain.example.\n"
        'mailio._mailiokey.mio.broken.example. 60 IN TXT "v=MAILIO1; p=x"\n'
    )
    server.faults["mailio._mailiokey.bogus.example"] = Fault.BOGUS
    code, out, _ = await command("dns", "lookup", domain, "--json")
    answer: dict[str, Any] = json.loads(out)
    assert (code, answer["kind"]) == expected
    assert says in answer["why"]
    assert answer["answers"][0]["name"] == domain


async def test_a_strangers_record_can_not_rule_the_terminal(server: DnsServer, command: Command) -> None:
    server.publish('mailio._mailiokey.beta.example. 60 IN TXT "v=MAILIO1\\027[31m [bold]x"\n')
    code, out, _ = await command("dns", "lookup", "beta.example")
    assert code == 1
    assert "v=MAILIO1\\x1b[31m [bold]x" in out
    assert "\x1b" not in out


async def test_a_name_that_is_none_is_refused_in_one_line(command: Command) -> None:
    code, out, err = await command("dns", "lookup", "bad..name")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


async def test_both_commands_have_help_with_an_example(command: Command) -> None:
    for words in (("dns",), ("dns", "lookup")):
        code, out, _ = await command(*words, "--help")
        assert code == 0
        assert "Example: mailio-node dns" in out
