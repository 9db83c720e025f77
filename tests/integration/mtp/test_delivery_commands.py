"""`mailio-node queue` and `peers`, as an operator calls them, on the stores of a node that does not run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from events.delivery import DeliveryDeferred, Phase
from node.crypto.base64_text import to_base64
from node.crypto.keys import SigningKeys
from tests.integration.mtp import nodes
from tests.integration.mtp.nodes import Place, until
from tests.program import call

PEER = "mio.beta.example"
Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def stopped(tmp_path: Path) -> AsyncIterator[Place]:
    """A node that was stopped while three messages waited for a peer that is away."""
    async with nodes.world(tmp_path, "alpha", breaker_failures=2, breaker_seconds=30.0) as world:
        alpha = world.places["alpha"]
        alice = await alpha.user("alice")
        world.elsewhere[PEER] = nodes.free_port()
        await alpha.stop()
        await alpha.start(
            breaker_failures=1, breaker_seconds=3_600.0, first_seconds=3_600.0, most_seconds=3_600.0
        )
        world.zone = f'mailio._mailiokey.{PEER}. 300 IN TXT "v=MAILIO1; k=ed25519; p={"A" * 43}="\n{PEER}. 300 IN MX 0 .\n'
        world.publish()
        for number in range(3):
            await alpha.sent(alice, f"did:web:{PEER}#0x{number:040x}")

        async def deferred() -> bool:
            return bool(await alpha.events(DeliveryDeferred))

        await until(deferred)
        await alpha.stop()
        yield alpha


@pytest.fixture
def command(stopped: Place) -> Command:
    settings = stopped.settings()
    file = stopped.world.folder / "node.toml"
    file.write_text(
        f'[node]\nserver_domain = "{stopped.domain}"\nemail_domains = ["{stopped.email_domain}"]\n'
        f'data = "{settings.node.data}"\n[smtp]\nlisten = "127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'
        f'[discovery]\nresolvers = ["{stopped.world.dns.address}"]\n'
    )

    return partial(call, file)


async def test_an_operator_sees_what_waits_and_has_a_say_in_it(stopped: Place, command: Command) -> None:
    code, out, _ = await command("queue", "list", "--json")
    assert code == 0
    waiting = json.loads(out)["deliveries"]
    assert [one["state"] for one in waiting] == ["deferred", "queued", "queued"]
    first, second, third = (one["id"] for one in waiting)
    assert waiting[0]["reason"] == "the other host can't be reached"

    assert (await command("queue", "hold", second, "--reason", "looks odd"))[0] == 0
    assert (await command("queue", "drop", third, "--reason", "not wanted"))[0] == 0
    code, out, _ = await command("queue", "list", "--state", "held", "--destination", PEER)
    assert second in out
    assert first not in out

    code, out, _ = await command("queue", "show", third, "--json")
    shown = json.loads(out)
    assert (shown["state"], shown["reason"]) == ("dropped", "not wanted")
    assert [one["type"] for one in shown["history"]] == ["DeliveryScheduled", "DeliveryDropped"]
    code, out, _ = await command("queue", "show", first)
    assert "AttemptStarted" in out

    code, _, err = await command("queue", "release", third)
    assert (code, "too late: it is dropped" in err) == (1, True)
    assert (await command("queue", "release", "--destination", PEER))[0] == 0
    assert (await command("queue", "retry", first))[0] == 0
    code, out, _ = await command("queue", "list", "--json")
    assert [one["state"] for one in json.loads(out)["deliveries"]] == ["deferred", "queued"]


async def test_an_operator_sees_peers_and_forgives_them(stopped: Place, command: Command) -> None:
    code, out, _ = await command("peers", "list", "--json")
    (peer,) = json.loads(out)
    assert (peer["domain"], peer["breaker"], peer["waiting"]) == (PEER, "open", 3)
    code, out, _ = await command("peers", "show", PEER)
    assert (code, "BreakerOpened" in out) == (0, True)
    assert (await command("peers", "reset", PEER))[0] == 0
    code, out, _ = await command("peers", "list")
    assert (code, "closed" in out) == (0, True)
    assert (await command("peers", "retry", PEER))[0] == 0


async def test_an_operator_sees_which_keys_a_peer_has_had_and_since_when(
    stopped: Place, command: Command
) -> None:
    """A changed key is taken from DNS alone, and kept (issue: "accepted only from DNS, shown")."""
    old, new = (to_base64(SigningKeys(bytes([one] * 32)).public_key) for one in (1, 2))
    for key in (old, new):
        stopped.world.zone = f'mailio._mailiokey.{PEER}. 300 IN TXT "v=MAILIO1; k=ed25519; p={key}"\n'
        await stopped.start(opened=False)
        await stopped.core.peer_keys.of(PEER)
        await stopped.stop()
    code, out, _ = await command("peers", "show", PEER, "--json")
    assert code == 0
    first, second = json.loads(out)["keys"]
    assert (first["publicKey"], first["state"], bool(first["gone"])) == (old, "gone", True)
    assert (second["publicKey"], second["state"], second["gone"]) == (new, "live", 0)
    assert second["seen"] >= first["seen"]
    code, out, _ = await command("peers", "show", PEER)
    assert old in out
    assert new in out
    code, out, _ = await command("peers", "show", "mio.unknown.example")
    assert (code, "none of its keys was needed yet" in out) == (0, True)


async def test_mistakes_are_told_in_a_line(stopped: Place, command: Command) -> None:
    for arguments, text in (
        (("queue", "show", "no.example:1"), "no delivery has the id"),
        (("queue", "retry"), "name a delivery, or a destination"),
        (("queue", "list", "--state", "odd"), "state is one of"),
        (("queue", "list", "--limit", "0"), "limit is a number"),
        (("queue", "drop", "no.example:1"), "no such delivery"),
        (("peers", "show", "not a domain"), "invalid domain"),
    ):
        code, _, err = await command(*arguments)
        assert code == 1, arguments
        assert text in err
        assert err.count("\n") == 1


async def test_commands_dial_nobody(stopped: Place, command: Command) -> None:
    await command("queue", "retry", "--destination", PEER)
    await stopped.start(opened=False)
    states = [one async for one in stopped.core.federation.queue.waiting.all()]
    assert [one.phase for one in states] == [Phase.WAITING] * 3
    assert sum(one.attempts for one in states) == 1
