"""The README's walk, line by line, against a daemon with other ports and another folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.daemon import Daemon

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """The shell blocks of the section `A walk`."""
    section = README.split("## A walk")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def run(daemon: Daemon, script: str) -> str:
    script = script.replace("$PWD/var", str(daemon.data)).replace(
        "127.0.0.1:8025", f"127.0.0.1:{daemon.http_port}"
    )
    for name in ("pull.cjs", "mailio-backup"):
        script = script.replace(f"/tmp/{name}", str(daemon.folder / name))
    environment = os.environ | {
        "MAILIO_CONFIG": str(daemon.file),
        "NODE_PATH": str(ROOT / "tests/node_modules"),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'export PATH="{ROOT}/.venv/bin:$PATH"\n{script}'],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_walk_of_the_readme_does_what_it_says(daemon: Daemon) -> None:
    add, first, consent, sync, why, rebuild = blocks()
    assert "did:mailio:0x" in run(daemon, add)
    assert "first_contact" in run(daemon, first)
    told = run(daemon, consent)
    assert "refused, as it should be" in told
    assert "handshake_accepted_unverified" in told
    assert "pest@spam.example" not in told.split("filed (UTC)")[1]
    synced = run(daemon, sync).splitlines()
    assert sum("inbox" in line for line in synced) == 2
    assert sum("handshake" in line for line in synced) >= 2
    told = run(daemon, why)
    for part in ("friend@beta.example", "handshake_accepted_unverified", "inbox"):
        assert part in told
    assert "there and right" in told
    told = run(daemon, rebuild)
    assert told.count("identical with the live view, swapped in") == 4
    assert "As agreed" in told
    assert told.count("every hash is right") == 2


def test_the_documents_named_in_the_readme_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).is_file(), link
