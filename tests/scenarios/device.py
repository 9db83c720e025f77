"""A user's device: a real PouchDB in a Node.js process that is led step by step."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.daemon import Daemon

JS = Path(__file__).parent / "js"
PULL_SECONDS = 120.0


class DeviceFailed(AssertionError):
    """The device could not do what it was told."""


def remote_url(daemon: Daemon, account: dict[str, Any]) -> str:
    """The URL of an account's database as a PouchDB is given it, with name and password."""
    host = daemon.url.removeprefix("http://")
    return f"http://{account['address']}:{account['databasePassword']}@{host}/{account['database']}"


class Device:
    """One PouchDB with its data in memory. Offline but for `sync`. Use `device_of`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, what: str, **arguments: Any) -> Any:
        """Let the device do one thing (see `js/device.mjs`) and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise DeviceFailed(f"the device ended at {what}")
        answer = json.loads(line)
        if "failed" in answer:
            raise DeviceFailed(f"{what}: {answer['failed']}")
        return answer["ok"]

    def sync(self) -> dict[str, Any]:
        """Replicate both ways, once."""
        result: dict[str, Any] = self.do("sync")
        return result

    def documents(self) -> dict[str, Any]:
        """All documents of the device by id."""
        result: dict[str, Any] = self.do("all")
        return result


@contextmanager
def device_of(daemon: Daemon, account: dict[str, Any]) -> Iterator[Device]:
    """A fresh device of an account, for the length of a block."""
    process = subprocess.Popen(
        ["node", str(JS / "device.mjs"), remote_url(daemon, account)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Device(process)
    finally:
        process.kill()
        process.communicate()


def pull(daemon: Daemon, account: dict[str, Any]) -> dict[str, Any]:
    """Let a fresh PouchDB pull everything with its files; return what `js/pull.mjs` says."""
    done = subprocess.run(
        ["node", str(JS / "pull.mjs"), remote_url(daemon, account)],
        capture_output=True,
        text=True,
        timeout=PULL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise DeviceFailed(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
