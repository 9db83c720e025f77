"""One node of the demo: a real daemon with its own folder, and the user who lives there."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.daemon import Daemon
from tests.demo.client import Client
from tests.demo.telling import NotSeen

ADDRESS_HERE = "127.0.0.1"

SETTINGS: dict[str, Any] = {
    "discovery.loopback": True,
    "delivery.first_seconds": 0.5,
    "delivery.most_seconds": 2.0,
    "delivery.breaker_seconds": 1.0,
    "delivery.probe_seconds": 0.1,
}
"""Several nodes on one machine, with pauses for people who watch: a minute and more is usual."""


class Place:
    """A node called `name`, with `user` at it."""

    def __init__(self, folder: Path, name: str, user: str) -> None:
        self.name = name
        self.user = user
        self.domain = f"mio.{name}.example"
        self.email = f"{user}@{name}.example"
        folder.mkdir()
        self.daemon = Daemon(folder, node__server_domain=self.domain, node__email_domains=[f"{name}.example"])
        self.keys: dict[str, Any] = {}
        self.client: Client

    def configure(self, resolver: str, hosts: list[str]) -> None:
        """Say where DNS is, and where hosts are instead of where DNS says."""
        self.daemon.settings |= SETTINGS | {"discovery.resolvers": [resolver], "discovery.hosts": hosts}
        self.daemon.configure()

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def command(self, *arguments: str) -> Any:
        """Run a command of the command line and return its JSON, whatever its exit code. Raises NotSeen."""
        done = self.daemon.command(*arguments, "--json", check=False)
        if not done.stdout:
            raise NotSeen(f"mailio-node {' '.join(arguments)} at {self.name}: {done.stderr}")
        return json.loads(done.stdout)

    def zone(self) -> list[str]:
        """The records that `mailio-node dns` has to be published; the host's address is filled in."""
        lines = self.command("dns")["zone"]
        return [line.removeprefix("; ").replace("<address of this host>", ADDRESS_HERE) for line in lines]

    def enter(self) -> None:
        """Add the user's account, and open their client with the keys."""
        added = self.command("account", "add", self.email)
        self.keys = json.loads(Path(added["keyFile"]).read_text())
        self.client.open(self.keys)

    def kill(self) -> None:
        """End the daemon as a power cut to the process would; does not wait."""
        assert self.daemon.process is not None
        self.daemon.process.kill()


def together(*works: Callable[[], Any]) -> list[Any]:
    """Do several things at once; return what they return. Raises what one of them raises."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]
