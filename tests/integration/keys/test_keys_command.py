"""`mailio-node keys` as an operator calls it, without a daemon and beside a real DNS server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.program import call
from tests.servers.dns import DnsServer, dns_server


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as running:
        yield running


class Terminal:
    """Runs commands; `err` and `out` are of the last one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.out = self.err = ""

    async def run(self, *arguments: str) -> int:
        """Return the exit code."""
        code, self.out, self.err = await call(self.file, *arguments)
        return code


@pytest.fixture
def terminal(tmp_path: Path, server: DnsServer) -> Terminal:
    file = tmp_path / "node.toml"
    file.write_text(
        '[node]\nserver_domain = "mio.alpha.example"\ndata = "var"\n'
        f'[discovery]\nresolvers = ["{server.address}"]\nlookup_seconds = 2.0\nfailure_seconds = 0\n'
    )
    return Terminal(file)


async def test_an_operator_is_led_from_step_to_step(terminal: Terminal, server: DnsServer) -> None:
    assert await terminal.run("keys", "list") == 78
    assert await terminal.run("keys", "retire") == 1
    assert "only key" in terminal.err
    assert await terminal.run("keys", "rotate", "--json") == 0
    told = json.loads(terminal.out)
    old, new = (one["publicKey"] for one in told["keys"])
    assert (told["stage"], [one["state"] for one in told["keys"]]) == ("announced", ["signs", "next"])
    assert await terminal.run("keys", "rotate") == 1
    assert "mailio-node dns" in terminal.err
    assert await terminal.run("dns") == 1
    zone = [line for line in terminal.out.splitlines() if "\tIN\t" in line and not line.startswith(";")]
    assert any(f"p={old}; p2={new}" in line for line in zone)
    server.publish("\n".join([*zone, ""]))
    assert await terminal.run("keys", "rotate") == 75
    assert "may be remembered until" in terminal.err
    assert await terminal.run("keys", "rotate", "--force") == 0
    assert await terminal.run("keys", "list") == 0
    assert "promoted" in terminal.out
    assert await terminal.run("keys", "rotate", "--force") == 0
    assert await terminal.run("keys", "retire") == 75
    assert await terminal.run("keys", "retire", "--force") == 0
    assert "publish what" in terminal.out
    assert await terminal.run("keys", "list", "--json") == 0
    told = json.loads(terminal.out)
    assert [(one["publicKey"], one["state"]) for one in told["keys"]] == [(new, "signs"), (old, "retired")]
