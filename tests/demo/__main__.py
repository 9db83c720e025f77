"""Plays the demo: `make demo`, or `python -m tests.demo`. Exit codes: 0 all held, 1 something did not, 130 interrupted.

Environment: KEEP=1 keeps the folder of the two nodes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from tests.daemon import DaemonFailed
from tests.demo.client import client_of
from tests.demo.place import Place
from tests.demo.story import Story
from tests.demo.telling import NotSeen, Telling
from tests.demo.wire import between

INTERRUPTED = 130


def main() -> int:
    """Play it, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="Two nodes, one conversation.")
    parser.add_argument("--picture", type=Path, help="Write the output as a picture (SVG) too.")
    picture: Path | None = parser.parse_args().picture
    signal.signal(signal.SIGTERM, _terminated)
    telling = Telling(picture=picture is not None)
    code = played(telling)
    if picture is not None and code == 0:
        telling.save(picture)
    return code


def played(telling: Telling) -> int:
    """Play it to its end, or to the first thing that does not hold; return the exit code."""
    try:
        with _story(telling) as story:
            story.run()
    except (NotSeen, DaemonFailed, OSError, subprocess.SubprocessError) as fault:
        telling.end(f"this did not hold: {fault}", good=False)
        if not _keeps():
            telling.plain("KEEP=1 keeps the folder, with all that the nodes printed")
        return 1
    except KeyboardInterrupt:
        telling.end("interrupted; all processes have ended", good=False)
        return INTERRUPTED
    telling.end(f"{telling.ticks} things seen to hold in {telling.seconds:.0f} s; all processes have ended")
    return 0


@contextmanager
def _story(telling: Telling) -> Iterator[Story]:
    """Set the stage; at the end of the block, whatever ended it, everything is taken down again."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(telling))
        wires = stack.enter_context(between())
        alpha, beta = (
            Place(folder / name, name, user) for name, user in (("alpha", "alice"), ("beta", "bob"))
        )
        wires.wire.target = beta.daemon.http_port
        hosts = [
            f"{alpha.domain}=127.0.0.1:{alpha.daemon.http_port}",
            f"{beta.domain}=127.0.0.1:{wires.wire.port}",
        ]
        for place in (alpha, beta):
            place.configure(wires.dns.address, hosts)
            stack.callback(place.daemon.end)
            place.client = stack.enter_context(client_of(place.user, place.daemon.url, place.domain))
        yield Story(telling, wires, alpha, beta)


@contextmanager
def _folder(telling: Telling) -> Iterator[Path]:
    """Make a folder, which is removed at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="mailio-demo-"))
    place = (
        f"in {folder}, which is kept" if _keeps() else "in a folder that goes at the end (KEEP=1 keeps it)"
    )
    telling.plain(f"Two Mailio nodes and a DNS server on this machine, {place}.")
    try:
        yield folder
    finally:
        if _keeps():
            telling.plain(f"kept: {folder}; look with mailio-node --config {folder}/beta/node.toml log tail")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _keeps() -> bool:
    return os.environ.get("KEEP", "") not in {"", "0"}


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
