"""A user's client: a Node.js process with a PouchDB and the reference client, led line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.demo.telling import NotSeen

SCRIPT = Path(__file__).with_name("client.mjs")


class Client:
    """Use `client_of`. `did` is the user's; `pid` that of the process."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self.name = name
        self.pid = process.pid
        self.did = ""

    def open(self, keys: Mapping[str, Any]) -> None:
        """Log in with the content of a key file, and begin to sync."""
        self.did = self._asked(keys, "log in")["did"]

    def do(self, what: str, **arguments: Any) -> Any:
        """Have one thing done, see `client.mjs`. Raises NotSeen when it can't be, or does not come in time."""
        return self._asked({"do": what, **arguments}, what)

    def _asked(self, request: Mapping[str, Any], what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NotSeen(f"{self.name}'s client ended at {what}")
        answer = json.loads(line)
        if "failed" in answer:
            raise NotSeen(f"{self.name}'s client, {what}: {answer['failed']}")
        return answer["ok"]


@contextmanager
def client_of(name: str, url: str, domain: str) -> Iterator[Client]:
    """Run a client while the block runs; it still has to be opened."""
    process = subprocess.Popen(
        ["node", str(SCRIPT), url, domain], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Client(process, name)
    finally:
        process.kill()
        process.communicate()
