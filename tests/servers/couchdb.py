"""A real CouchDB-protocol server on a free loopback port, in a private folder."""

from __future__ import annotations

import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

START_SECONDS = 60
"""How long Node.js may take to load PouchDB on a busy machine."""


def missing() -> str:
    """Say what the server needs and is not there; "" when all is there."""
    if shutil.which("node") is None:
        return "Node.js 20 or newer is needed for the CouchDB-protocol server: install `nodejs`, then `make test`"
    if not (TESTS / "node_modules" / "express-pouchdb").is_dir():
        return "npm packages are missing: run `npm install` in tests/ (or `make test`, which does it)"
    return ""


@contextmanager
def couchdb_server(folder: Path) -> Iterator[str]:
    """Run the server while the block runs; give its URL. Fails clearly when it can't start."""
    if lack := missing():
        raise RuntimeError(lack)
    messages = folder / "stderr.txt"
    with (
        messages.open("wb") as stderr,
        subprocess.Popen(
            ["node", TESTS / "servers" / "couchdb.js", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            line = process.stdout.readline() if ready else b""
            if not line.strip():
                raise RuntimeError(
                    f"the CouchDB-protocol server did not start: {messages.read_text()[-2000:]}"
                )
            yield f"http://127.0.0.1:{int(line)}"
        finally:
            process.kill()
